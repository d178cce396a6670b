"""A rollback chooses the newest release that is live, and takes the lease a moment later: what came out in between is not passed over."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from flows.rollback import rollback

Told = list[str]


@pytest.fixture
def roll_back(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """Roll back while these are the newest that are live, look by look; return what was done and told."""

    def rolled(*newest: str) -> Told:
        told: Told = []
        looks = iter([SimpleNamespace(release_id=one, image="app@sha256:1") for one in newest])

        @contextmanager
        def begun(*_arguments: object, look_again: Callable[[], None] | None = None) -> Iterator[Any]:
            if look_again is not None:
                look_again()
            yield "the run"

        def end_run(_run: object, records: list[Any], _inputs: object) -> None:
            told.append(records[0].why if records[0].failed else records[0].summary)

        run = SimpleNamespace(run_id="1", environment=None)
        for name, instead in {
            "begin_run": lambda *_arguments, **_named: run,
            "find_earlier": lambda *_arguments: (None, ""),
            "choose_release": lambda *_arguments: next(looks),
            "tell_changed_secrets": lambda *_arguments: [],
            "way_back": lambda _plan: [],
            "first_journal": lambda *_arguments, **_named: None,
            "version_before": lambda _plan: "app@sha256:0",
            "begun": begun,
            "go_back": lambda _run, _why: told.append("went back"),
            "end_run": end_run,
        }.items():
            monkeypatch.setattr(f"flows.rollback.{name}", instead)
        rollback.fn("stage", "it is worse")
        return told

    return rolled


def test_the_release_that_was_chosen_is_taken_back(roll_back: Callable[..., Told]) -> None:
    assert roll_back("r-1", "r-1") == [
        "went back",
        "r-1 (app@sha256:1) was taken back, app@sha256:0 serves again: it is worse",
    ]


def test_nothing_is_taken_back_when_another_came_out_meanwhile(roll_back: Callable[..., Told]) -> None:
    (told,) = roll_back("r-1", "r-2")
    assert "r-2 came out since r-1 was chosen" in told
