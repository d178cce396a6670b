"""How a migration's Job stands and how it ended, read from the Job, its Pods and what their containers left behind (core.migration_scripts)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from core.manifest import Record
from core.migration_job import HOLDS
from core.scratch_pod import HOPELESS, MAY_PASS

Document = dict[str, Any]

# "canceling statement due to lock timeout", in English and by its SQLSTATE (PostgreSQL manual, appendix A: lock_not_available).
_LOCK_TIMEOUT = re.compile(r"\b55P03\b|due to lock timeout")
# Ends by which the command did not end itself: the server may go on with its last statement.
KILLED = frozenset(
    {
        "DeadlineExceeded",
        "OOMKilled",
        "Evicted",
        "NodeLost",
        "Shutdown",
        "Terminated",
        "Preempting",
        "ContainerStatusUnknown",
    }
)
_BY_SIGNAL = 128


class LockReport(Record):
    """What the container with the lock said at its end. None: it did not say. `named`: a session of the migration's name was seen; `holder`: who had the lock instead."""

    held: bool | None = None
    named: bool | None = None
    lost: bool | None = None
    holder: str = ""


class JobEnd(Record):
    """How a Job ended. `started`: whether its command was (None: not known); `pending`: None when it was not asked or not told; `addresses`: of its Pods."""

    state: Literal["succeeded", "failed", "gone", "never created"]
    exit_code: int | None = None
    reason: str = ""
    started: bool | None = None
    pending: tuple[str, ...] | None = None
    pending_exit_code: int | None = None
    lock_timeout: bool = False
    lock: LockReport = LockReport()
    pods: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def killed(self) -> bool:
        """Whether the command was ended from outside, or may have been."""
        return self.state == "failed" and (
            self.exit_code is None or self.exit_code > _BY_SIGNAL or self.reason.split(":")[0] in KILLED
        )


class JobLook(Record):
    """How a Job stands: running with what it waits for, ended, or never created. `barred`: a Job that never runs has its name."""

    state: Literal["running", "ended", "never created"]
    waiting: str = ""
    end: JobEnd | None = None
    barred: bool = False


def is_lock_timeout(line: str) -> bool:
    """Whether a line of a migration's log tells that a lock was not to be had within lock_timeout."""
    return bool(_LOCK_TIMEOUT.search(line))


def finished(job: Mapping[str, Any]) -> str:
    """Given a Job, return Complete or Failed when it has ended, "" while it has not (batch/v1 JobCondition)."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next(
        (one["type"] for one in conditions if one["type"] in {"Complete", "Failed"} and one["status"] == "True"), ""
    )


def job_end(job: Mapping[str, Any], pods: Sequence[Document], *, lock_timeout: bool = False, cause: str = "") -> JobEnd:
    """Given a Job that has ended and its Pods as they were last seen, return how. `cause`: why nightshift itself ended it; `lock_timeout`: its log told of one."""
    failed = finished(job) != "Complete"
    condition: Document = next(
        (one for one in (job.get("status") or {}).get("conditions") or () if one["type"] == "Failed"), {}
    )
    pod = next((one for one in pods if _ended_at(one)), pods[0] if pods else {})
    ended = _terminated(pod, migrates=True)
    said = _said(ended)
    lock = _said(_terminated(pod, migrates=False))
    names = tuple(value for key, value in said if key == "pending")
    facts, held = dict(said), dict(lock)
    count = int(facts.get("count") or 0)
    asked = facts.get("asked") or ""
    pending = (
        None if asked != "0" else (*names, *(f"… and {count - len(names)} more" for _ in range(count > len(names))))
    )
    return JobEnd(
        state="failed" if failed else "succeeded",
        exit_code=ended.get("exitCode"),
        reason=(cause or _reason(condition, pod, ended)) if failed else "",
        started=_started(facts.get("started"), pods, cause),
        pending=pending,
        pending_exit_code=int(asked) if asked else None,
        lock_timeout=lock_timeout,
        lock=LockReport(
            held=_flag(held.get("held")),
            named=_flag(held.get("seen")),
            lost=_flag(held.get("lost")),
            holder=held.get("holder") or "",
        ),
        pods=len(pods),
        addresses=tuple(
            sorted({str(one["status"]["podIP"]) for one in pods if (one.get("status") or {}).get("podIP")})
        ),
    )


def hopeless(pods: Iterable[Document], *, stood: bool = False) -> str:
    """Given a Job's Pods, return in one sentence why a container of theirs will not start; "" while all may.

    `stood`: what a next try of the kubelet's may mend counts too, since it has stood for long.
    """
    for pod in pods:
        for one in (pod.get("status") or {}).get("containerStatuses") or ():
            waiting = (one.get("state") or {}).get("waiting") or {}
            reason = waiting.get("reason")
            if reason in HOPELESS and (stood or reason not in MAY_PASS):
                return f"{reason}: container {one['name']}: {HOPELESS[reason]} ({_one_line(waiting.get('message'))})"
            ended = (one.get("state") or {}).get("terminated") or {}
            if ended.get("reason") in {"StartError", "ContainerCannotRun"}:
                return (
                    f"{ended['reason']}: container {one['name']} cannot be started ({_one_line(ended.get('message'))})"
                )
    return ""


def waiting_for(pods: Sequence[Document], events: Iterable[Document]) -> str:
    """Given the Pods of a Job that does not run yet and the Job's events, return what it waits for, in one sentence."""
    if not pods:
        told = [one for one in events if one.get("reason") == "FailedCreate"]
        return (
            f"FailedCreate: its Pod is not made: {_one_line(told[-1].get('message'))}"
            if told
            else "its Pod is not made yet"
        )
    status = pods[0].get("status") or {}
    for one in status.get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return f"{one.get('reason')}: no node takes its Pod: {_one_line(one.get('message'))}"
    for one in status.get("containerStatuses") or ():
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{waiting['reason']}: container {one['name']}: {_one_line(waiting.get('message')) or 'not started yet'}"
    return "its Pod is not started yet"


def migrating_container(pod: Mapping[str, Any]) -> tuple[str, str]:
    """Given a Pod, return its migrating container's name and state: waiting, running or terminated."""
    name = next((one["name"] for one in pod["spec"]["containers"] if one["name"] != HOLDS), "")
    state = next(
        (
            one.get("state") or {}
            for one in (pod.get("status") or {}).get("containerStatuses") or ()
            if one["name"] == name
        ),
        {},
    )
    return name, next((one for one in ("terminated", "running") if one in state), "waiting")


def _started(told: str | None, pods: Sequence[Document], cause: str) -> bool | None:
    if told is None and cause and all(migrating_container(pod)[1] == "waiting" for pod in pods):
        # Ended before its container came up.
        return False
    return _flag(told)


def _reason(condition: Mapping[str, Any], pod: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    told = str(condition.get("reason") or "")
    if told == "DeadlineExceeded":
        return f"DeadlineExceeded: {_one_line(condition.get('message'))}"
    status = pod.get("status") or {}
    if status.get("reason"):
        return f"{status['reason']}: {_one_line(status.get('message'))}"
    if ended.get("reason") and ended["reason"] != "Error":
        return f"{ended['reason']}: exit code {ended.get('exitCode')}"
    if ended:
        return f"exit code {ended.get('exitCode')}"
    return f"{told or 'no reason given'}: {_one_line(condition.get('message'))}"


def _ended_at(pod: Mapping[str, Any]) -> bool:
    return bool(_terminated(pod, migrates=True))


def _terminated(pod: Mapping[str, Any], *, migrates: bool) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next(
        ((one.get("state") or {}).get("terminated") or {} for one in statuses if (one["name"] != HOLDS) == migrates), {}
    )


def _said(ended: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of a termination message as (key, value); "pending:NAME" as ("pending", NAME)."""
    lines = str(ended.get("message") or "").split("\n")
    return [
        (key, value)
        for key, _, value in (re.sub(r"^pending:", "pending=", line).partition("=") for line in lines)
        if key
    ]


def _flag(text: str | None) -> bool | None:
    return {"yes": True, "no": False}.get(text or "")


def _one_line(text: object) -> str:
    return " ".join(str(text or "").split())[:500]
