"""The verdict on a Deployment's rollout: kubectl's own, and what kubectl waits for in vain.

"Progressing" and "complete" are decided and said as `kubectl rollout status` does (kubectl, pkg/polymorphichelpers/rollout_status.go). What differs, and why:

- Only our own write is judged: an object made anew, an older read, or a Pod template that somebody changed since is never "complete".
- ProgressDeadlineExceeded that stood before our write is not about it. The controller keeps that condition, with its old lastUpdateTime, until a Pod of the
  new ReplicaSet comes about (pkg/controller/deployment/progress.go: DeploymentTimedOut holds as long as the reason is there), so `kubectl rollout undo`
  followed by `kubectl rollout status` may fail at once without cause.
- ReplicaFailure (a quota, an admission webhook) is a failure when it stands for a while: where a quota fits no surge, it comes and goes in a good rollout.
- ReplicaSetCreateError is written without observedGeneration (pkg/controller/deployment/sync.go, getNewReplicaSet): kubectl waits for "spec update to be
  observed" until somebody stops it.
- A paused Deployment rolls nothing out, and one of zero replicas proves nothing: kubectl waits for the first and calls the second successful.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

Document = dict[str, Any]
State = Literal["progressing", "complete", "failed"]
Cause = Literal["", "deadline", "replica-failure", "replica-set", "paused", "zero-replicas", "foreign-change", "gone"]

# Seconds that a refusal to make Pods must stand before it counts: the ReplicaSet controller has tried about a dozen times by then (its back-off begins at
# 5 ms and doubles), and a surge that waited for a Pod to go has come about unless that Pod still drains.
CREATION_GRACE = 20.0
_TIMED_OUT, _NO_REPLICA_SET = "ProgressDeadlineExceeded", "ReplicaSetCreateError"
OBSERVED_LATER = "Waiting for deployment spec update to be observed..."


@dataclass(frozen=True)
class RolloutStatus:
    """How a rollout stands. `grace`: for how many seconds a failure must have stood before it is final."""

    state: State
    sentence: str
    cause: Cause = ""
    grace: float = 0.0


@dataclass(frozen=True)
class Written:
    """What our write made: the object, its generation, the Pod template, and the Progressing conditions (reason, lastUpdateTime) that are not about it."""

    uid: str
    generation: int
    container: str
    image: str
    template: Document
    stale: frozenset[tuple[str, str]]


def written_rollout(answered: Document, container: str, image: str) -> Written:
    """Given the Deployment as our write was answered, and the container and image that we wrote, return what its rollout is judged by."""
    metadata = answered.get("metadata") or {}
    return Written(
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation") or 0),
        container=container,
        image=image,
        template=_template(answered),
        stale=frozenset(_progressing(answered)),
    )


def remember_stale(written: Written, current: Document) -> Written:
    """Given a Deployment whose controller has not seen our write yet, return `written` with the Progressing condition that it has: that is about an older one.

    The controller may end the old rollout's deadline after our write was answered. ReplicaSetCreateError stays out: it is never written with our generation.
    """
    if is_observed(current, written) or str((current.get("metadata") or {}).get("uid", "")) != written.uid:
        return written
    return replace(written, stale=written.stale | {one for one in _progressing(current) if one[0] == _TIMED_OUT})


def is_observed(current: Document, written: Written) -> bool:
    """Whether the controller has seen our write: until then, the newest ReplicaSet is an older version's, even where it has the same image."""
    return _observed(current) >= written.generation


def rollout_status(current: Document | None, name: str, written: Written) -> RolloutStatus:
    """Given a Deployment as it is (None: it is not there), return how the rollout of what we wrote stands."""
    if current is None or (current.get("metadata") or {}).get("deletionTimestamp"):
        return _failed("gone", f'deployment "{name}" is gone: somebody deleted it')
    metadata = current.get("metadata") or {}
    if str(metadata.get("uid", "")) != written.uid:
        return _failed(
            "gone", f'deployment "{name}" is another object of that name: somebody deleted it and made it anew'
        )
    generation = int(metadata.get("generation") or 0)
    if generation < written.generation:
        # A read older than our write, as from a cache: nothing in it is about us.
        return RolloutStatus("progressing", OBSERVED_LATER)
    return _of_what_is_wanted(current, name, written) or _of_what_there_is(current, name, written, generation)


def standing_trouble(current: Document) -> str:
    """Given a Deployment that nobody is changing, say why it is not rolled out and available, in kubectl's words; "" when it is."""
    containers = (_template(current).get("spec") or {}).get("containers") or [{}]
    name = str((current.get("metadata") or {}).get("name", ""))
    answered = written_rollout(current, str(containers[0].get("name")), str(containers[0].get("image")))
    status = rollout_status(current, name, replace(answered, stale=frozenset()))
    return "" if status.state == "complete" else status.sentence


def _of_what_is_wanted(current: Document, name: str, written: Written) -> RolloutStatus | None:
    """What the specification alone tells: it is no more ours, or nothing can come of it."""
    if changed := _foreign_change(current, written):
        return _failed("foreign-change", f'somebody else changed deployment "{name}" since we wrote it: {changed}')
    specification = current.get("spec") or {}
    if specification.get("paused"):
        return _failed("paused", f'deployment "{name}" is paused: it rolls nothing out until somebody resumes it')
    if _wanted(current) == 0:
        return _failed(
            "zero-replicas", f'deployment "{name}" wants zero replicas: nothing runs, so nothing shows that it works'
        )
    return None


def _of_what_there_is(current: Document, name: str, written: Written, generation: int) -> RolloutStatus:
    """kubectl's own order, with our failures where they cannot hide a rollout that is complete."""
    conditions, status = _conditions(current), current.get("status") or {}
    progressing = conditions.get("Progressing") or {}
    fresh = not written.stale.issuperset(_progressing(current))
    observed = _observed(current) >= generation
    # The controller leaves this condition's time as it is when it fails again in the same way: before it has seen our write, an old one counts too.
    if progressing.get("reason") == _NO_REPLICA_SET and (fresh or not observed):
        words = progressing.get("message", "")
        return _failed("replica-set", f'deployment "{name}" cannot make its ReplicaSet: {words}', CREATION_GRACE)
    if not observed:
        return RolloutStatus("progressing", OBSERVED_LATER)
    refused = conditions.get("ReplicaFailure") or {}
    words = str(refused.get("message", "")) if refused.get("status") == "True" else ""
    if fresh and progressing.get("reason") == _TIMED_OUT:
        more = f": {words}" if words else ""
        return _failed("deadline", f'deployment "{name}" exceeded its progress deadline{more}')
    unfinished = _unfinished(name, _wanted(current), status)
    if unfinished and words:
        reason = refused.get("reason", "FailedCreate")
        return _failed(
            "replica-failure", f'deployment "{name}" cannot make its Pods ({reason}): {words}', CREATION_GRACE
        )
    if unfinished:
        return RolloutStatus("progressing", unfinished)
    return RolloutStatus("complete", f'deployment "{name}" successfully rolled out')


def _unfinished(name: str, wanted: int, status: Document) -> str:
    """kubectl's sentence on what is still to be done; "" when nothing is."""
    updated, replicas, available = (
        int(status.get(key) or 0) for key in ("updatedReplicas", "replicas", "availableReplicas")
    )
    waiting = f'Waiting for deployment "{name}" rollout to finish:'
    if updated < wanted:
        return f"{waiting} {updated} out of {wanted} new replicas have been updated..."
    if replicas > updated:
        return f"{waiting} {replicas - updated} old replicas are pending termination..."
    if available < updated:
        return f"{waiting} {available} of {updated} updated replicas are available..."
    return ""


def _foreign_change(current: Document, written: Written) -> str:
    """What of the Pod template is not as we wrote it; "" when nothing is. Replicas are not in it: an HPA may change them."""
    template = _template(current)
    image = image_of(template, written.container)
    if image is None:
        return f"it has no container {written.container} any more"
    if image != written.image:
        return f"its container {written.container} has image {image}, and we wrote {written.image}"
    if template != written.template:
        return f"its Pod template differs from ours at {', '.join(_differences(template, written.template))}"
    return ""


def image_of(template: Document, container: str) -> str | None:
    """The image of a container (or init container) of a Pod template; None when there is no such container."""
    specification = template.get("spec") or {}
    everyone = [*(specification.get("containers") or ()), *(specification.get("initContainers") or ())]
    return next((str(one.get("image", "")) for one in everyone if one.get("name") == container), None)


def _differences(one: Document, other: Document) -> Iterator[str]:
    """Where two Pod templates differ, two levels deep: metadata.annotations, spec.containers. Never the values, which may be secret."""
    for part in sorted({*one, *other}):
        mine, theirs = one.get(part), other.get(part)
        if mine == theirs:
            continue
        if not isinstance(mine, dict) or not isinstance(theirs, dict):
            yield part
            continue
        yield from (f"{part}.{key}" for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key))


def _template(document: Document) -> Document:
    template: Document = (document.get("spec") or {}).get("template") or {}
    return template


def _wanted(document: Document) -> int:
    # The API server fills in 1 where nobody said how many.
    replicas = (document.get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def _observed(document: Document) -> int:
    return int((document.get("status") or {}).get("observedGeneration") or 0)


def _conditions(document: Document) -> dict[str, Document]:
    return {str(one.get("type")): one for one in (document.get("status") or {}).get("conditions") or ()}


def _progressing(document: Document) -> Iterator[tuple[str, str]]:
    """The Progressing condition's reason and time, if it has one."""
    if one := _conditions(document).get("Progressing"):
        yield str(one.get("reason", "")), str(one.get("lastUpdateTime", ""))


def _failed(cause: Cause, sentence: str, grace: float = 0.0) -> RolloutStatus:
    return RolloutStatus("failed", sentence, cause, grace)
