"""Backups that somebody removed behind nightshift's back, folder and all: the evidence knows of them, and says so until somebody had time to hear it."""

from datetime import UTC, datetime, timedelta

from core.catalogue import Catalogue, CatalogueEntry
from core.stock import MISSED_FOR, Stock, missed_sentence, take_stock
from tests.fix_keeping import id_of

NOW = datetime(2026, 11, 27, 2, tzinfo=UTC)
OLD, MIDDLE, NEW = (id_of(days, now=NOW) for days in (40, 2, 1))


def there(*backup_ids: str) -> Catalogue:
    return Catalogue(tuple(CatalogueEntry(one, "decoded", 1, 0, ("manifest.json",)) for one in sorted(backup_ids)))


def test_the_first_stock_after_an_upgrade_misses_nothing() -> None:
    assert take_stock(None, there(MIDDLE), (), NOW) == Stock((MIDDLE,), {})


def test_what_the_run_itself_deleted_is_not_missed_and_the_rest_that_is_gone_is() -> None:
    before = Stock((OLD, MIDDLE, NEW))
    assert take_stock(before, there(NEW), (OLD,), NOW) == Stock((NEW,), {MIDDLE: NOW})
    assert take_stock(before, there(OLD, MIDDLE, NEW), (), NOW).missed == {}


def test_a_missed_backup_is_told_for_two_weeks_or_until_it_is_back() -> None:
    missed = Stock((NEW,), {MIDDLE: NOW})
    almost = NOW + MISSED_FOR - timedelta(hours=1)
    assert take_stock(missed, there(NEW), (), almost).missed == {MIDDLE: NOW}
    assert take_stock(missed, there(NEW), (), NOW + MISSED_FOR).missed == {}
    assert take_stock(missed, there(MIDDLE, NEW), (), almost).missed == {}


def test_one_whose_manifest_alone_was_removed_is_missed_once_the_rest_is_gone() -> None:
    robbed = Catalogue((CatalogueEntry(MIDDLE, "incomplete", 1, 0, ("state/decoded.json",)),))
    stock = take_stock(Stock((MIDDLE,)), robbed, (), NOW)
    assert stock == Stock((MIDDLE,), {})
    assert take_stock(stock, there(), (), NOW).missed == {MIDDLE: NOW}


def test_the_sentence_names_them_and_says_when_a_killed_retention_may_be_why() -> None:
    assert missed_sentence(Stock((NEW,)), NOW, 30) == ""
    one = missed_sentence(Stock((), {MIDDLE: NOW}), NOW, 30)
    assert one.startswith(f"a backup that was there is gone, and no report says that nightshift deleted it: {MIDDLE}.")
    assert "access log" in one
    assert "a run that has not reported yet, or was killed" in missed_sentence(Stock((), {OLD: NOW}), NOW, 30)
    assert "access log" in missed_sentence(Stock((), {OLD: NOW, MIDDLE: NOW}), NOW, 30)
