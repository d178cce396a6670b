"""A blue-green release that carries a front end: it follows the traffic forward, goes before it on the way back, and neither is left behind by a kill."""

import os
import signal
from typing import Any
from uuid import uuid4

import pytest

from tests.fix_release import Stage
from tests.fix_release_child import ended, recovery_in_child, release_in_child, request_of
from tests.fix_release_gates import Did, Scraped
from tests.fix_release_shift import Route
from tests.fix_vercel import NEW, OLD, PublicAddress, Vercel
from tests.fix_web_script import Asked, Reply

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-frontend-colours")]


class Moves(list[str]):
    """What moved, in order: the front end, with the share that the new side has then, and the traffic back, with the front end that is live then."""

    def __init__(self, route: Route, vercel: Vercel) -> None:
        super().__init__()
        self._route, self._vercel = route, vercel
        vercel.on_write = self.note

    def note(self, after: bool) -> None:
        """Vercel takes a request on."""
        if not after:
            return
        kind = self._vercel.asked[-1][0]
        self.append(f"{kind} while {self._route.weights().get('hello-blue', 0)} % are new")
        if kind == "promote":
            self._route.when("hello", 100, lambda: self.append(f"traffic back to {'+'.join(self._vercel.live)}"))


@pytest.fixture
def moves(front: Stage, route: Route, vercel: Vercel) -> Moves:
    return Moves(route, vercel)


def stands(stage: Stage, route: Route, vercel: Vercel) -> tuple[str, set[str], str]:
    """Which side has all of the traffic, which front end is live, and the worker's image; nothing is left open."""
    assert not stage.lease_holder()
    assert not [one for one in stage.journals() if one.is_open]
    (side,) = (name for name, weight in route.weights().items() if weight)
    return side, vercel.live, stage.image_of("worker")


def test_it_is_promoted_once_the_new_side_has_all_and_goes_back_before_the_traffic(
    front: Stage, route: Route, vercel: Vercel, moves: Moves
) -> None:
    state = front.release("v2", frontend=NEW, adopt=True)
    assert state.is_completed(), state.message
    assert route.shares("hello-blue") == [0, 10, 25, 50, 100]
    assert moves == ["promote while 100 % are new"]
    assert stands(front, route, vercel) == ("hello-blue", {NEW}, front.image("v2"))
    back = front.run_rollback("errors")
    assert back.is_completed(), back.message
    assert moves[1:] == ["rollback while 100 % are new", f"traffic back to {OLD}"]
    assert stands(front, route, vercel) == ("hello", {OLD}, front.image("v1"))


def test_a_gate_that_fails_at_a_share_takes_the_traffic_back_and_never_touches_the_front_end(
    front: Stage, route: Route, vercel: Vercel, moves: Moves, scraped: Scraped
) -> None:
    route.when("hello-blue", 50, lambda: setattr(scraped, "new", Did(errors=25)))
    state = front.release("v2", frontend=NEW, adopt=True)
    assert state.name == "RolledBack", state.message
    assert route.shares("hello-blue") == [0, 10, 25, 50, 0]
    assert moves == []
    assert stands(front, route, vercel) == ("hello", {OLD}, front.image("v1"))


def test_a_public_address_that_fails_takes_the_front_end_back_first_and_then_the_traffic(
    front: Stage, route: Route, vercel: Vercel, public: PublicAddress, moves: Moves
) -> None:
    public.commit = "e" * 40
    state = front.release("v2", frontend=NEW, adopt=True)
    assert state.name == "RolledBack", state.message
    assert "it does not say fffffff" in str(state.message)
    assert moves == ["promote while 100 % are new", "rollback while 100 % are new", f"traffic back to {OLD}"]
    assert stands(front, route, vercel) == ("hello", {OLD}, front.image("v1"))


@pytest.mark.platform
@pytest.mark.parametrize("at", ["promote", "ask the public address", "rollback", "traffic back"])
def test_killed_between_the_promotion_and_the_end_the_recovery_completes_both(  # noqa: PLR0917 - fixtures
    front: Stage, route: Route, vercel: Vercel, public: PublicAddress, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr("tasks.release_checklist.ITEMS", ())
    goes_back = at in {"rollback", "traffic back"}
    if goes_back:
        public.commit = "e" * 40
    children: list[int] = []

    def kill() -> None:
        if children:
            os.kill(children.pop(), signal.SIGKILL)

    def written(after: bool) -> None:
        kind = vercel.asked[-1][0] if after else ""
        if kind == at:
            kill()
        if kind == "promote" and at == "traffic back":
            route.when("hello", 100, kill)

    def asked(request: Asked) -> Reply:
        if at == "ask the public address" and vercel.live == {NEW}:
            kill()
        return public._reply(request)

    vercel.on_write, public.web.reply = written, asked
    request: Any = request_of(front, str(uuid4()), "v2", frontend=NEW, skip_checks={}, adopt=True)
    children.append(child := release_in_child(front, request, kubeconfig=os.environ["KUBECONFIG"]))
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was not killed"
    (journal,) = front.journals()
    assert journal.is_open
    monkeypatch.setattr("tasks.release_left_open.state_of_run", lambda _run_id: "CRASHED")
    assert ended(recovery_in_child(front))
    (journal,) = front.journals()
    if goes_back:
        assert journal.outcome == "rolled back"
        assert stands(front, route, vercel) == ("hello", {OLD}, front.image("v1"))
        assert vercel.asked == [("promote", NEW), ("rollback", OLD)]
    else:
        assert journal.outcome == "released"
        assert stands(front, route, vercel) == ("hello-blue", {NEW}, front.image("v2"))
        assert vercel.asked == [("promote", NEW)]
