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

# How often the gates are read while a share soaks: a version that fails plainly is not left in the traffic until the end of it.
GATE_SECONDS = 15.0
# Not a word of which version serves: a release that must not go back by itself stays where it is.
_FAILED = "Look at the new version's Pods and logs"
_UNDECIDED = "Find out why it could not be judged (Prometheus, what it scrapes, whether there are requests), then release it again"


class GateFailedError(PermanentError):
    """The new version is worse than it may be, or nobody could tell for too long."""


def decided(run: ReleaseRun, notes: Notes, look: Callable[[], Verdict], *, soak: float = 0.0, at: str = "") -> Facts:
    """Read gates until they let the release go on, after the soak. Raise GateFailedError, saying where (`at`), when one fails, or none could be judged for too long."""
    logger, ends, history = get_run_logger(), time.monotonic() + soak, list[Verdict]()
    while True:
        left = ends - time.monotonic()
        pause(run, min(GATE_SECONDS, left) if left > 0 else 0)
        verdict = look()
        soaked = time.monotonic() >= ends
        # What could not be judged while it soaks does not count against it: there are few requests yet.
        history = [*history, verdict] if soaked else [verdict]
        decision = hold(history, utc_now(), run.release.gates.hold_minutes)
        logger.info("gates: %s: %s", decision.action, decision.reason)
        if decision.action == "go-back":
            next_step = _FAILED if verdict.state == "fail" else _UNDECIDED
            raise GateFailedError(f"pass the gates{at}", run.plan.image, decision.reason, next_step)
        if decision.action == "go-on" and soaked:
            # Beside a pass they would go unsaid: what nobody looked at is no part of it.
            unseen = [
                Finding(severity="note", text=one.found) for one in verdict.findings if one.state == "not configured"
            ]
            notes.add(facts={"gates": verdict.state, "found": decision.reason}, findings=unseen)
            return {"gates": verdict.state}
        if soaked:
            pause(run, GATE_SECONDS)


def pause(run: ReleaseRun, seconds: float) -> None:
    """Wait so many seconds, and raise FencedError as soon as another took over."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        run.still_ours()
        time.sleep(min(1.0, left))
    run.still_ours()
