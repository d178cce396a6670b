"""Choosing a backup: four ways to say which, no default, and what a person is told when there is none such."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.backup_id import make_backup_id
from core.catalogue import Catalogue, CatalogueEntry, State
from core.errors import ConfigurationError
from core.restore_choice import choose, choose_for_drill, options, options_text, parse_time, without_future

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
STATES: tuple[State, ...] = ("incomplete", "uploaded", "decoded", "proven")


def catalogue(*states: State) -> Catalogue:
    """One backup a day, the last one an hour old."""
    return Catalogue(
        tuple(
            CatalogueEntry(
                make_backup_id(NOW - timedelta(days=len(states) - 1 - day, hours=1), day.to_bytes(4, "big")),
                state,
                1,
                0,
                (),
            )
            for day, state in enumerate(states)
        )
    )


def test_the_four_ways_to_say_which() -> None:
    there = catalogue("decoded", "proven", "decoded", "uploaded")
    ids = [entry.backup_id for entry in there.entries]
    assert choose(there, "newest-decoded", NOW).backup_id == ids[2]
    assert choose(there, "newest-proven", NOW).backup_id == ids[1]
    assert choose(there, ids[0], NOW).backup_id == ids[0]
    assert choose(there, "before:2026-03-08T12:00:00+02:00", NOW).backup_id == ids[0]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "it is no choice"),
        ("yesterday", "it is no choice"),
        ("newest-proven", "no backup is proven yet"),
        ("20200101T000000Z-00000000", "there is no such backup"),
        ("before:2020-01-01T00:00:00Z", "no decoded backup is older"),
        ("before:2026-03-10", "the time has no zone"),
        ("before:noon", "no ISO 8601 time"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_there_is(wanted: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        choose(catalogue("decoded"), wanted, NOW)


@pytest.mark.parametrize(("state", "said"), [("uploaded", "never decoded"), ("incomplete", "no valid manifest")])
def test_a_backup_that_nobody_read_back_is_refused_by_its_id_too(state: State, said: str) -> None:
    there = catalogue("decoded", state)
    with pytest.raises(ConfigurationError, match=said):
        choose(there, there.entries[-1].backup_id, NOW)


@given(st.lists(st.integers(-86_400, 86_400), max_size=8, unique=True))
def test_what_lies_in_the_future_by_more_than_clocks_may_differ_is_no_choice(offsets: list[int]) -> None:
    moments = sorted(NOW + timedelta(seconds=offset) for offset in offsets)
    entries = tuple(CatalogueEntry(make_backup_id(moment, b"abcd"), "decoded", 1, 0, ()) for moment in moments)
    there, future = without_future(Catalogue(entries), NOW)
    assert (*there.entries, *future) == entries
    assert all(entry.snapshot_time <= NOW + timedelta(minutes=5) for entry in there.entries)
    assert all(entry.snapshot_time > NOW + timedelta(minutes=5) for entry in future)


def test_a_person_sees_both_ages_and_what_each_would_lose() -> None:
    text = options_text(options(catalogue("proven", "decoded"), NOW), "app")
    assert "newest-proven" in text
    assert "everything written in the last 25 h" in text
    assert "everything written in the last 60 min" in text
    assert "nothing to restore" in options_text((), "app")


def test_a_time_is_taken_in_its_own_zone() -> None:
    assert parse_time("2026-03-08T12:00:00+02:00") == datetime(2026, 3, 8, 10, tzinfo=UTC)


@given(st.lists(st.sampled_from(STATES), max_size=8))
def test_a_drill_takes_the_newest_unproven_else_the_newest_proven_and_never_what_is_not_decoded(
    states: list[State],
) -> None:
    entry = choose_for_drill(catalogue(*states))
    decoded = [index for index, state in enumerate(states) if state == "decoded"]
    proven = [index for index, state in enumerate(states) if state == "proven"]
    expected = (decoded or proven or [None])[-1]
    found = None if entry is None else [one.backup_id for one in catalogue(*states).entries].index(entry.backup_id)
    assert found == expected
