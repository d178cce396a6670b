"""An approval is for the databases that its form was about, whatever is called like them by the time of the answer."""

from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow

from flows import approval

pytestmark = pytest.mark.xdist_group("prefect")

NAME = "the live database's name"
SHOWN = {"the live database": "7/16392", "the one that takes its place": "7/20214", NAME: "app"}


class SuspendedError(Exception):
    """Stands for the end of the process that asks."""


def asked_twice(monkeypatch: pytest.MonkeyPatch, then: dict[str, str]) -> tuple[str, list[str]]:
    """Ask about SHOWN, and go on from the top with the answer when the world is `then`; return who approved, and the texts that were shown."""
    texts: list[str] = []

    def suspend(*, wait_for_input: Any, **_named: Any) -> Any:
        texts.append(str(wait_for_input._description))
        if len(texts) == 1:
            raise SuspendedError
        return SimpleNamespace(database_name="app", approver=f"answer {len(texts)}", reason="rows were deleted")

    @flow
    def run() -> str:
        with pytest.raises(SuspendedError):
            approval.ask_for_approval("approve-swap", "the question", "app", SHOWN, hours=1)
        return approval.ask_for_approval("approve-swap", "the question", "app", then, hours=1).approver

    monkeypatch.setattr(approval, "suspend_flow_run", suspend)
    return run(), texts


def test_an_answer_holds_when_both_databases_are_those_that_the_form_was_about(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_twice(monkeypatch, dict(SHOWN)) == ("answer 2", ["the question", "the question"])


@pytest.mark.parametrize("what", [what for what in SHOWN if what != NAME])
def test_an_answer_approves_nothing_when_another_database_has_the_name_by_then_and_is_asked_for_again(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    approver, texts = asked_twice(monkeypatch, {**SHOWN, what: "7/24158"})
    # The second text belongs to the answer to the first form; what it says was seen by nobody yet.
    assert approver == "answer 3"
    assert f"Nothing was done: since you were asked, {what} became another one, which has the same name" in texts[2]


def test_an_answer_approves_nothing_when_the_file_names_another_live_database_by_then_and_that_is_said() -> None:
    now = {**SHOWN, "the live database": "7/24158", NAME: "big"}
    told = approval.what_is_other(SHOWN, now)
    assert told == f"since you were asked, {NAME} in the environment's file became “big”; it was “app”"


def test_what_was_asked_before_names_were_kept_is_compared_as_it_was_then() -> None:
    older = {what: identity for what, identity in SHOWN.items() if what != NAME}
    assert approval.what_is_other(older, SHOWN) == ""
    assert "which has the same name" in approval.what_is_other(older, {**SHOWN, "the live database": "7/1"})
