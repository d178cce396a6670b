"""What is wrong with one container of a Pod, by its status and the Pod's Events.

The reasons are the kubelet's (pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go, pkg/kubelet/container/sync_result.go), and those
of its Events: Unhealthy, Failed, FailedMount, FailedCreatePodSandBox.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.redaction import redact_output

Document = dict[str, Any]
Kind = Literal[
    "image", "configuration", "start", "crash", "creation", "mount", "unschedulable", "probe", "gate", "waiting"
]

# A container that was started three times and ended each time does not mend itself; one restart may be a dependency that came later.
FINAL_RESTARTS = 2
_LONGEST = 400
_WRONG_NAME = {"InvalidImageName", "ErrImageNeverPull"}
_NO_IMAGE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_NO_CONFIGURATION = {"CreateContainerConfigError"}
_NO_START = {
    "RunContainerError",
    "CreateContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
}
# How containerd and Docker call an end before the first instruction.
_NEVER_BEGAN = {"StartError", "ContainerCannotRun"}
_BEGUN = {"Pulling", "Pulled", "Created", "Started"}
# containerd, Docker, CRI-O and the registry API (its error codes MANIFEST_UNKNOWN and NAME_UNKNOWN) on an image that is not there.
_NOT_THERE = re.compile(r"not ?found|manifest[ _]unknown|name[ _]unknown|does not exist", re.IGNORECASE)


@dataclass(frozen=True)
class Graces:
    """For how many seconds each trouble must have stood before it is final. Counted from when it was first seen here: clocks differ."""

    # A registry that was away for a moment; the kubelet has tried twice by then (after 10 s), mostly three times.
    image: float = 20.0
    # A registry that says "not found" was reached. Copies of a registry may lag behind a push by seconds.
    image_not_there: float = 5.0
    # A Secret or ConfigMap that another controller (External Secrets) is just making.
    configuration: float = 15.0
    start: float = 15.0
    mount: float = 30.0
    # At least; a Pod whose own probes give it longer has longer (see `_declared_seconds`).
    probe: float = 30.0
    # cluster-autoscaler looks every 10 s and says on the Pod that a node comes; then `node_comes` counts (EC2 instances take one to three minutes).
    unschedulable: float = 30.0
    node_comes: float = 300.0


def container_troubles(
    one: Document, pod: Document, events: Sequence[Document], first_restarts: int, graces: Graces
) -> Iterator[tuple[Kind, str, float | None]]:
    """Given a container's status, its Pod, that Pod's Events and its restarts when it was first seen, yield (kind, words, seconds of grace) of what is wrong.

    Grace None: never final by itself.
    """
    state = one.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, said = str(waiting.get("reason", "")), cut(waiting.get("message", ""))
    initial = any(one is each for each in (pod.get("status") or {}).get("initContainerStatuses") or ())
    told, image = f"{reason}: {said}" if said else reason, str(one.get("image", ""))
    if reason in _WRONG_NAME:
        yield "image", f"its image {image} cannot be used ({told})", 0.0
    elif reason in _NO_IMAGE:
        # A back-off hides why; the Event of the last try tells.
        words = last_words(events, "Failed", "pull", without=image) or cut(_without(waiting.get("message", ""), image))
        grace = graces.image_not_there if _NOT_THERE.search(words) else graces.image
        yield "image", f"its image {image} cannot be pulled ({reason}: {words})", grace
    elif reason in _NO_CONFIGURATION:
        yield "configuration", f"it cannot be configured ({told})", graces.configuration
    elif reason in _NO_START:
        yield "start", f"it cannot be started ({told})", graces.start
    elif _keeps_ending(one, restarts_of(pod) - first_restarts, initial=initial):
        yield _crash(one, events, restarts_of(pod) - first_restarts)
    elif waiting:
        yield from _not_begun(reason, events, graces, initial=initial)
    elif "running" in state and not initial and not one.get("ready"):
        words = last_words(events, "Unhealthy")
        grace = max(graces.probe, _declared_seconds(pod, str(one.get("name", ""))))
        # Started again a moment ago: how it ended tells more than that it is not ready yet.
        before = f"; before, {end_words(one)}" if _last_end(one) else _restarted(one)
        yield "probe", f"it runs and is not ready{': ' if words else ''}{words}{before}", grace
    elif "running" in state and initial:
        yield "waiting", "it still runs, and the Pod's other containers wait for it", None


def _keeps_ending(one: Document, restarts_seen: int, *, initial: bool) -> bool:
    """Whether a container has ended, or did again and again, and does not do its work now."""
    state = one.get("state") or {}
    if (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff":
        return True
    if ended := state.get("terminated"):
        return not (initial and ended.get("exitCode") == 0)
    return (
        restarts_seen >= FINAL_RESTARTS and int(one.get("restartCount") or 0) >= FINAL_RESTARTS and not one.get("ready")
    )


def _crash(one: Document, events: Sequence[Document], restarts_seen: int) -> tuple[Kind, str, float | None]:
    """A container that ends. Final when the kubelet itself holds it back after the second restart, or when we saw as many: an old Pod may have had its own long ago."""
    state, restarts = one.get("state") or {}, int(one.get("restartCount") or 0)
    held = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    # A program that is not there does not come by being started again.
    never_began = _last_end(one).get("reason") in _NEVER_BEGAN
    enough = 1 if never_began else FINAL_RESTARTS
    final = restarts >= enough and (held or restarts_seen >= enough)
    return "start" if never_began else "crash", end_words(one, events), 0.0 if final else None


def end_words(one: Document, events: Sequence[Document] = ()) -> str:
    """Given the status of a container that ended, and its Pod's Events, say how it last did, and how often it was restarted."""
    end = _last_end(one)
    code, reason = end.get("exitCode"), str(end.get("reason", ""))
    if reason == "OOMKilled":
        words = f"it was killed for its memory (OOMKilled, exit code {code})"
    elif code is None:
        words = "it ended"
    else:
        words = f"it ended with exit code {code}" + (f" ({reason})" if reason not in {"", "Error", "Completed"} else "")
    if message := cut(end.get("message", "")):
        words += f": {message}"
    # A container that the kubelet ended itself says nothing of why.
    killed = last_words(events, "Unhealthy", "Liveness") or last_words(events, "Unhealthy", "Startup")
    words += f"; {killed}" if killed and reason != "OOMKilled" else ""
    return f"{words}{_restarted(one)}"


def _last_end(one: Document) -> Document:
    state = one.get("state") or {}
    found: Document = state.get("terminated") or (one.get("lastState") or {}).get("terminated") or {}
    return found


def _restarted(one: Document) -> str:
    restarts = int(one.get("restartCount") or 0)
    return f", restarted {restarts} times" if restarts > 1 else ", restarted once" if restarts else ""


def _not_begun(
    reason: str, events: Sequence[Document], graces: Graces, *, initial: bool
) -> Iterator[tuple[Kind, str, float | None]]:
    """ContainerCreating, PodInitializing: only Events tell whether a volume or the network keeps it."""
    if reason == "PodInitializing" and not initial:
        return
    # Once an image is being pulled, sandbox and volumes are there: a slow pull is none of their faults, though their Events are kept for an hour.
    later = max((_event_time(one) for one in events if one.get("reason") in _BEGUN), default="")
    kept = [one for one in events if _event_time(one) > later]
    if words := last_words(kept, "FailedMount") or last_words(kept, "FailedAttachVolume"):
        yield "mount", f"a volume cannot be mounted: {words}", graces.mount
    elif words := last_words(kept, "FailedCreatePodSandBox"):
        yield "mount", f"its sandbox cannot be made: {words}", graces.mount
    else:
        yield "waiting", f"it has not begun ({reason or 'waiting'})", None


def _declared_seconds(pod: Document, container: str) -> float:
    """For how long a container's own probes let it be unready before the kubelet would say so, in seconds; 0.0 when it has none."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    own: Document = next((one for one in containers if one.get("name") == container), {})

    def seconds(probe: Document | None) -> float:
        if not probe:
            return 0.0
        # Defaults of the API (core/v1 Probe).
        period, threshold = float(probe.get("periodSeconds") or 10), float(probe.get("failureThreshold") or 3)
        return float(probe.get("initialDelaySeconds") or 0) + period * threshold

    return seconds(own.get("startupProbe")) + seconds(own.get("readinessProbe"))


def cut(text: object, longest: int = _LONGEST) -> str:
    """Given words of the cluster, return them on one line, without secrets, and cut."""
    line = redact_output(" ".join(str(text).split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def last_words(events: Sequence[Document], reason: str, part: str = "", *, without: str = "") -> str:
    """The words of the last Event of a reason that hold a part, with something left out; "" when there is none."""
    found = [one for one in events if one.get("reason") == reason and part in str(one.get("message", ""))]
    last = max(found, key=_event_time, default=None)
    return cut(_without(last.get("message", ""), without)) if last else ""


def _without(text: object, name: str) -> str:
    """Words without a long name: containerd repeats an image's four times, and what it says last is the cause, which would be cut off."""
    return str(text).replace(name, "…") if name else str(text)


def _event_time(event: Document) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def restarts_of(pod: Document) -> int:
    """How often the Pod's containers were restarted, in all."""
    return sum(int(one.get("restartCount") or 0) for _, one in containers_of(pod))


def containers_of(pod: Document) -> Iterator[tuple[str, Document]]:
    """The statuses of a Pod's containers, each with what it is."""
    status = pod.get("status") or {}
    yield from (("init container", one) for one in status.get("initContainerStatuses") or ())
    yield from (("container", one) for one in status.get("containerStatuses") or ())
