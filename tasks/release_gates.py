"""Waiting at a gate: read until it lets the release go on, fails, or could not be judged for too long."""

from __future__ import annotations

import time
from collections.abc import Callable

from prefect import get_run_logger

from core.errors import PermanentError
from core.evidence import Finding
from core.metric_gate import Verdict, hold
from tasks.recording import Notes, utc_now
from tasks.release_run import Facts, ReleaseRun
from tasks.soaking_side import SideFailedError, SoakingSide

# How often the gates are read while a share soaks: a version that fails plainly is not left in the traffic until the end of it.
GATE_SECONDS = 15.0
# How often the new side is looked at meanwhile.
LOOK_SECONDS = 3.0
# Not a word of which version serves: a release that must not go back by itself stays where it is.
_FAILED = "Look at the new version's Pods and logs"
_UNDECIDED = "Find out why it could not be judged (Prometheus, what it scrapes, whether there are requests), then release it again"


class GateFailedError(PermanentError):
    """The new version is worse than it may be, or nobody could tell for too long."""


def decided(
    run: ReleaseRun,
    notes: Notes,
    look: Callable[[], Verdict],
    *,
    soak: float = 0.0,
    at: str = "",
    side: SoakingSide | None = None,
) -> Facts:
    """Read gates until they let the release go on, after the soak, and keep an eye on the side that soaks.

    Raise GateFailedError, saying where (`at`), when one fails, when none could be judged for too long, or when the side does not stay well.
    """
    logger, ends, history = get_run_logger(), time.monotonic() + soak, list[Verdict]()
    try:
        while True:
            left = ends - time.monotonic()
            _wait(run, min(GATE_SECONDS, left) if left > 0 else 0, side)
            verdict = look()
            soaked = time.monotonic() >= ends
            # What could not be judged while it soaks does not count against it: there are few requests yet.
            history = [*history, verdict] if soaked else [verdict]
            decision = hold(history, utc_now(), run.release.gates.hold_minutes)
            logger.info("gates: %s: %s", decision.action, decision.reason)
            # Of Pods that answer badly, or are gone, why they ended tells more.
            well = side is None or side.look(time.monotonic())
            if decision.action == "go-back":
                next_step = _FAILED if verdict.state == "fail" else _UNDECIDED
                raise GateFailedError(f"pass the gates{at}", run.plan.image, decision.reason, next_step)
            if decision.action == "go-on" and soaked and well:
                # Beside a pass they would go unsaid: what nobody looked at is no part of it.
                unseen = [
                    Finding(severity="note", text=one.found)
                    for one in verdict.findings
                    if one.state == "not configured"
                ]
                notes.add(facts={"gates": verdict.state, "found": decision.reason}, findings=unseen)
                return {"gates": verdict.state}
            if soaked:
                _wait(run, GATE_SECONDS, side)
    except SideFailedError as error:
        raise GateFailedError(f"pass the gates{at}", run.plan.image, error.found, _FAILED) from error


def _wait(run: ReleaseRun, seconds: float, side: SoakingSide | None) -> None:
    """Wait so many seconds, and look at the side again and again."""
    ends = time.monotonic() + seconds
    while side is not None and (left := ends - time.monotonic()) > 0:
        pause(run, min(LOOK_SECONDS, left))
        side.look(time.monotonic())
    pause(run, max(0.0, ends - time.monotonic()))


def pause(run: ReleaseRun, seconds: float) -> None:
    """Wait so many seconds, and raise FencedError as soon as another took over."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        run.still_ours()
        time.sleep(min(1.0, left))
    run.still_ours()
