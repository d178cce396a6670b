"""What a sweep does about a watch whose release is not live any more, when whoever took its place, or took it back, could not say so."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from core.release_journal import Journal, Outcome, with_entry
from core.release_rollback import why_not_live
from core.signature import SigningKey
from core.watch_decision import STOPPED
from tasks.recording import utc_now
from tasks.watch_records import ENDED, START
from tasks.watch_sweep import begin_missing

KEY = SigningKey("hmac-sha256", "a signing key of more than thirty-two characters")


def closed(release_id: str, outcome: Outcome, of: str = "") -> Journal:
    journal = Journal(
        environment="stage",
        release_id=release_id,
        kind="rollback" if of else "release",
        plan_id=of or release_id,
        plan_sha256="a" * 64,
        flow_run_id="x",
    )
    return with_entry(
        journal, KEY, at=utc_now(), fence=1, holder=release_id, event="closed", facts={"outcome": outcome}
    )


ONE, TWO, BACK = closed("r-1", "released"), closed("r-2", "released"), closed("b-2", "rolled back", "r-2")
Sweep = Callable[..., list[tuple[str, str, str]]]
BY_TWO, BY_BACK = ("superseded by release r-2", "r-2"), ("taken back by b-2", "b-2")


@pytest.mark.parametrize(
    ("journals", "found"),
    [
        ([ONE], None),
        ([ONE, TWO], BY_TWO),
        ([TWO, BACK, ONE], None),
        ([ONE, TWO, BACK], None),
        ([ONE, TWO, closed("b-1", "rolled back", "r-2"), closed("b-2", "rolled back", "r-1")], BY_BACK),
        # Its own end is not in the bucket yet: nobody knows that it is not live.
        ([TWO], None),
        ([], None),
    ],
)
def test_a_release_is_not_live_when_another_is_or_it_was_taken_back(
    journals: list[Journal], found: tuple[str, str] | None
) -> None:
    assert why_not_live(journals, "r-1") == found


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Sweep:
    def swept(journals: list[Journal], **names: tuple[str, ...]) -> list[tuple[str, str, str]]:
        kept = {name.replace("_", "-"): told for name, told in names.items()}
        found = tuple(SimpleNamespace(release_id=one.release_id, journal=one, at=utc_now()) for one in journals)
        records = SimpleNamespace(names=lambda: (START,))
        stopped: list[tuple[str, str, str]] = []
        monkeypatch.setattr("tasks.watch_sweep.closed_releases", lambda *_arguments: found)
        monkeypatch.setattr("tasks.watch_sweep.watches", lambda _environment: kept)
        monkeypatch.setattr("tasks.watch_sweep.WatchRecords", lambda *_arguments: records)
        monkeypatch.setattr("tasks.watch_sweep.stop_watch", lambda _environment, *told: stopped.append(told))
        environment: Any = None
        begin_missing.fn(environment, utc_now())
        return stopped

    return swept


def test_the_watch_of_a_release_that_was_taken_back_is_ended(sweep: Sweep) -> None:
    assert sweep([TWO, BACK], r_2=(START,)) == [("r-2", *BY_BACK)]


def test_the_watch_of_a_release_that_another_superseded_is_ended(sweep: Sweep) -> None:
    assert sweep([ONE, TWO], r_1=(START,), r_2=(START,)) == [("r-1", *BY_TWO)]


@pytest.mark.parametrize("done", [ENDED, STOPPED])
def test_one_that_ended_or_was_told_so_is_left(sweep: Sweep, done: str) -> None:
    assert sweep([ONE, TWO], r_1=(START, done), r_2=(START,)) == []
