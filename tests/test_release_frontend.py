"""A release that carries a front end: promoted once the backend is out, taken back with it, and never said to be where it is not."""

import os
import signal
from typing import Any
from uuid import uuid4

import pytest

from core.release_journal import Journal
from tests.fix_release import Stage
from tests.fix_release_child import ended, recovery_in_child, release_in_child, request_of
from tests.fix_vercel import DOMAIN, NEW, OLD, SECOND, THIRD, TOKEN, PublicAddress, Vercel, references
from tests.fix_web_script import Asked, Reply

pytestmark = pytest.mark.services


def done(journal: Journal) -> list[str]:
    return [one.step for one in journal.entries if one.event == "done"]


def everything(stage: Stage) -> str:
    """All that a release left to read."""
    return "\n".join(
        [*(one.model_dump_json() for one in stage.reports()), *(one.model_dump_json() for one in stage.journals())]
    )


def test_it_is_promoted_after_the_backend_and_taken_back_with_it(
    front: Stage, vercel: Vercel, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    vercel.on_write = lambda after: seen.append(front.image_of("worker")) if not after else None
    state = front.release("v2", frontend=vercel.deployments[NEW]["url"])
    assert state.is_completed(), state.message
    assert NEW in str(state.message)
    assert vercel.asked == [("promote", NEW)] and vercel.live == {NEW}
    assert seen == [front.image("v2")], "the front end moved before the backend had"
    (journal,) = front.journals()
    steps = done(journal)
    assert journal.facts_of("note the front end that is live")["before"] == OLD
    order = [
        "note the front end that is live",
        "promote the front end",
        "invalidate CloudFront",
        "ask the public address",
    ]
    assert [one for one in steps if one in order] == order
    report = front.reports()[-1]
    asked = next(one for one in report.steps if one.name == "ask the public address")
    assert asked.facts["api"] == {"/api/health": "200, not cached"} and asked.facts["commit"] == "f" * 12
    distribution = front.settings["release"]["frontend"]["distribution"]
    assert references(distribution) == [f"nightshift-stage-{journal.release_id}-forward"]

    state = front.run_rollback("errors", dry_run=True)
    assert vercel.live == {NEW} and vercel.asked == [("promote", NEW)]
    state = front.run_rollback("errors")
    assert state.is_completed(), state.message
    assert vercel.asked == [("promote", NEW), ("rollback", OLD)] and vercel.live == {OLD}
    assert front.image_of() == front.image("v1")
    back = front.journals()[-1]
    assert done(back)[:1] == ["front end (back, at once)"] and "front end (back)" in done(back)
    assert references(distribution)[1:] == [f"nightshift-stage-{back.release_id}-back"]
    assert TOKEN not in everything(front) + caplog.text


def test_the_plan_shows_it_and_a_dry_run_changes_nothing(front: Stage, vercel: Vercel) -> None:
    state = front.release("v2", frontend=NEW, dry_run=True)
    assert state.is_completed(), state.message
    plan = next(one for one in front.reports()[-1].steps if one.name.startswith("plan"))
    assert plan.facts["front end"] == (
        f"{NEW} (shop-new0002.vercel.app, commit ffffffffffff) on {DOMAIN}, {SECOND}, which {OLD} has now"
    )
    assert not vercel.asked and not front.journals()


def test_a_promotion_without_an_answer_is_looked_up_before_it_is_asked_for_again(front: Stage, vercel: Vercel) -> None:
    vercel.fault("POST")
    vercel.fault("POST", Reply({"error": {}}, 503))
    vercel.fault("POST", Reply(b"<html>too many</html>", 429), after=True)
    vercel.fault("GET /v9", Reply(b"", 502))
    state = front.release("v2", frontend=NEW)
    assert state.is_completed(), state.message
    assert (vercel.asked, vercel.live) == ([("promote", NEW)], {NEW})


def test_a_promotion_that_arrives_late_is_waited_for(front: Stage, vercel: Vercel) -> None:
    on_the_way, looks = [False], list[str]()

    def late(after: bool) -> bool:
        on_the_way[0] |= not after
        return not after and not vercel.asked

    def arriving(asked: Asked) -> Reply:
        # At the second look since it was sent: by the clock it might come after the patience that it has here.
        if on_the_way[0] and asked.method == "GET" and asked.path.startswith("/v9/projects/"):
            looks.append(asked.path)
            if len(looks) == 2:
                with vercel.lock:
                    vercel._take_on("promote", NEW)
        return vercel._reply(asked)

    vercel.on_write, vercel.web.reply = late, arriving
    assert front.release("v2", frontend=NEW).is_completed()
    assert (vercel.asked, vercel.live) == ([("promote", NEW)], {NEW})
    assert len(looks) > 2


def test_a_promotion_that_is_refused_takes_the_backend_back(front: Stage, vercel: Vercel) -> None:
    vercel.fault("POST", Reply({"error": {"message": "no"}}, 401))
    state = front.release("v2", frontend=NEW)
    assert (state.name, front.image_of()) == ("RolledBack", front.image("v1")), state.message
    assert "it answered 401" in str(state.message) and "the backend is new, and the front end is not" in str(
        state.message
    )
    assert f"By hand: vercel promote {NEW}" in str(state.message)
    assert vercel.live == {OLD} and not vercel.asked


def test_domains_that_moved_in_part_are_named_and_brought_back(front: Stage, vercel: Vercel) -> None:
    vercel.kept = frozenset({SECOND})
    vercel.on_write = lambda after: setattr(vercel, "kept", frozenset()) if len(vercel.asked) == 2 and after else None
    state = front.release("v2", frontend=NEW)
    assert (state.name, vercel.live) == ("RolledBack", {OLD}), state.message
    assert f"its promote failed for {SECOND}" in str(state.message)
    assert vercel.asked == [("promote", NEW), ("rollback", OLD)]


def test_who_moved_the_domains_meanwhile_is_not_overwritten(front: Stage, vercel: Vercel) -> None:
    # After the checklist and before the step.
    begun = iter([False, False])

    def another(asked: Any) -> Reply:
        if front.image_of("worker") == front.image("v2") and next(begun, True) is False:
            vercel.domains = dict.fromkeys(vercel.domains, THIRD)
        return vercel._reply(asked)

    vercel.web.reply = another
    state = front.release("v2", frontend=NEW)
    assert (state.name, vercel.live, vercel.asked) == ("RolledBack", {THIRD}, []), state.message
    assert "somebody else moved it" in str(state.message)
    assert front.image_of() == front.image("v1") and not front.lease_holder()


def test_a_public_address_that_does_not_show_it_takes_all_back(
    front: Stage, vercel: Vercel, public: PublicAddress
) -> None:
    public.commit = "e" * 40
    state = front.release("v2", frontend=NEW)
    assert (state.name, vercel.live) == ("RolledBack", {OLD}), state.message
    assert "it does not say fffffff" in str(state.message)
    assert vercel.asked == [("promote", NEW), ("rollback", OLD)] and front.image_of() == front.image("v1")


def test_vercel_away_keeps_nothing_from_going_back_and_is_named_until_it_is_back(
    front: Stage, vercel: Vercel, public: PublicAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.frontend_steps.AT_ONCE_SECONDS", 0.2)
    public.commit = "e" * 40

    def forbidden_from_here(asked: Any) -> Reply:
        if NEW in vercel.live:
            return Reply({"error": {"message": "the token was withdrawn"}}, 403)
        return vercel._reply(asked)

    asked_public = public._reply

    def withdraw(asked: Any) -> Reply:
        if NEW in vercel.live:
            vercel.web.reply = forbidden_from_here
        return asked_public(asked)

    public.web.reply = withdraw
    state = front.release("v2", frontend=NEW)
    assert (state.name, vercel.live, front.image_of()) == ("Failed", {NEW}, front.image("v1")), state.message
    assert f"the backend is old, and the front end may be the new one, {NEW}" in str(state.message)
    assert f"By hand: vercel rollback {OLD}" in str(state.message)
    assert front.journals()[-1].is_open
    vercel.web.reply = vercel._reply
    state = front.recover()
    assert state.is_completed() and vercel.live == {OLD}, state.message
    assert not front.journals()[-1].is_open


def test_a_rollback_leaves_what_came_after_until_a_person_decides(front: Stage, vercel: Vercel) -> None:
    assert front.release("v2", frontend=NEW).is_completed()
    vercel.domains = dict.fromkeys(vercel.domains, THIRD)
    state = front.run_rollback("errors")
    assert state.is_failed() and "the front end is somebody else's" in str(state.message), state.message
    assert front.image_of() == front.image("v1") and vercel.live == {THIRD}
    journal = front.journals()[-1]
    assert journal.is_open
    again = front.recover()
    assert again.is_failed() and front.journals()[-1].is_open
    decided = front.recover(release_id=journal.release_id, decision="back", reason="the hotfix stays")
    assert decided.is_completed(), decided.message
    assert not front.journals()[-1].is_open and vercel.live == {THIRD}
    assert [one for one in vercel.asked if one[0] == "rollback"] == []


def test_one_that_is_live_already_is_left_alone(front: Stage, vercel: Vercel) -> None:
    vercel.domains = dict.fromkeys(vercel.domains, NEW)
    assert front.release("v2", frontend=NEW).is_completed()
    assert front.run_rollback("errors").is_completed()
    assert (vercel.asked, vercel.live) == ([], {NEW})


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["promote", "rollback"])
def test_killed_right_before_or_after_it_asked_it_ends_well(  # noqa: PLR0917 - fixtures
    front: Stage, vercel: Vercel, public: PublicAddress, monkeypatch: pytest.MonkeyPatch, kind: str, when: str
) -> None:
    monkeypatch.setattr("tasks.release_checklist.ITEMS", ())
    children: list[int] = []
    if kind == "rollback":
        public.commit = "e" * 40

    def kill(after: bool) -> bool:
        its = after == (when == "after") and children and len(vercel.asked) == (kind == "rollback") + after
        if its:
            os.kill(children.pop(), signal.SIGKILL)
        return bool(its and not after)

    vercel.on_write = kill
    request = request_of(front, str(uuid4()), "v2", frontend=NEW, skip_checks={})
    child = release_in_child(front, request, kubeconfig=os.environ["KUBECONFIG"])
    children.append(child)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was not killed"
    (journal,) = front.journals()
    assert journal.is_open and journal.facts_of("note the front end that is live")["before"] == OLD
    monkeypatch.setattr("tasks.release_left_open.state_of_run", lambda _run_id: "CRASHED")
    assert ended(recovery_in_child(front))
    (journal,) = front.journals()
    assert not journal.is_open and not front.lease_holder()
    if kind == "promote":
        assert (journal.outcome, vercel.live, front.image_of()) == ("released", {NEW}, front.image("v2"))
        assert vercel.asked == [("promote", NEW)]
    else:
        assert (journal.outcome, vercel.live, front.image_of()) == ("rolled back", {OLD}, front.image("v1"))
        assert vercel.asked == [("promote", NEW), ("rollback", OLD)]
        (reference,) = {
            one for one in references(front.settings["release"]["frontend"]["distribution"]) if "back" in one
        }
        assert reference.endswith("-back")
