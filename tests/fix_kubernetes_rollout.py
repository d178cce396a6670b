"""What the Deployment controller of the tests decides, as pure functions: sizes within maxSurge and maxUnavailable, status, conditions.

After Kubernetes' own, release 1.20: pkg/controller/deployment/{rolling,progress,sync}.go and util/deployment_util.go, whose names the comments give.
"""

import copy
import hashlib
import json
import math
from typing import Any

from tests.fix_kubernetes_objects import now

Document = dict[str, Any]

HASH = "pod-template-hash"
# Letters without vowels, as in names that Kubernetes makes (apimachinery, util/rand).
_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Document) -> str:
    """A name for a template, the same for equal ones."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_SAFE[byte % len(_SAFE)] for byte in digest[:10])


def without_hash(template: Document) -> Document:
    """A ReplicaSet's template as its Deployment has it (EqualIgnoreHash)."""
    bare = copy.deepcopy(template)
    (bare.get("metadata") or {}).get("labels", {}).pop(HASH, None)
    return bare


def bounds(spec: Document) -> tuple[int, int]:
    """How many Pods may be too many and how many too few (ResolveFenceposts): surge rounds up, unavailable down, and never both zero."""
    rolling = spec["strategy"].get("rollingUpdate")
    if rolling is None:
        return 0, spec["replicas"]
    surge, unavailable = (
        _count(rolling[name], spec["replicas"], way)
        for name, way in (("maxSurge", math.ceil), ("maxUnavailable", math.floor))
    )
    return surge, unavailable if surge or unavailable else 1


def next_sizes(spec: Document, new: Document, old: list[Document]) -> dict[str, int]:
    """The ReplicaSets to resize next, by name (rolloutRolling): the new one up, or else old ones down; nothing when there is nothing to do now."""
    wanted, (surge, unavailable) = spec["replicas"], bounds(spec)
    total = sum(one["spec"]["replicas"] for one in (new, *old))
    size = new["spec"]["replicas"]
    if size > wanted:
        return {new["metadata"]["name"]: wanted}
    if size < wanted and total < wanted + surge:
        return {new["metadata"]["name"]: size + min(wanted + surge - total, wanted - size)}
    at_least = wanted - unavailable
    sizes, left = {}, total - at_least - (size - _available(new))
    if left <= 0:
        return {}
    # cleanupUnhealthyReplicas, then scaleDownOldReplicaSetsForRollingUpdate
    spare = sum(_available(one) for one in (new, *old)) - at_least
    for one in old:
        unhealthy = min(left, one["spec"]["replicas"] - _available(one))
        healthy = min(max(spare, 0), left - unhealthy, one["spec"]["replicas"] - unhealthy)
        left, spare = left - unhealthy - healthy, spare - healthy
        if unhealthy + healthy > 0:
            sizes[one["metadata"]["name"]] = one["spec"]["replicas"] - unhealthy - healthy
    return sizes


def status_of(deployment: Document, new: Document | None, old: list[Document]) -> Document:
    """A Deployment's numbers, without conditions (calculateStatus). Zeros are left out, as the real one's encoding does."""
    everything = [*([new] if new else []), *old]

    def total(name: str) -> int:
        return sum((one.get("status") or {}).get(name, 0) for one in everything)

    available = total("availableReplicas")
    numbers = {
        "replicas": total("replicas"),
        "updatedReplicas": (new.get("status") or {}).get("replicas", 0) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(sum(one["spec"]["replicas"] for one in everything) - available, 0),
    }
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        **{name: number for name, number in numbers.items() if number},
    }


def with_condition(conditions: list[Document], kind: str, status: str, reason: str, message: str) -> list[Document]:
    """Conditions with one set (SetDeploymentCondition): nothing changes at the same status and reason, and its transition is that of its status."""
    was = find_condition(conditions, kind)
    if was and (was["status"], was["reason"]) == (status, reason):
        return conditions
    since = was["lastTransitionTime"] if was and was["status"] == status else now()
    made = {"type": kind, "status": status, "reason": reason, "message": message}
    return [*without_condition(conditions, kind), {**made, "lastUpdateTime": now(), "lastTransitionTime": since}]


def without_condition(conditions: list[Document], kind: str) -> list[Document]:
    """Conditions without one."""
    return [one for one in conditions if one["type"] != kind]


def find_condition(conditions: list[Document], kind: str) -> Document | None:
    """One of the conditions."""
    return next((one for one in conditions if one["type"] == kind), None)


def with_availability(conditions: list[Document], deployment: Document, status: Document) -> list[Document]:
    """Conditions with Available as the numbers say."""
    spec = deployment["spec"]
    enough = status.get("availableReplicas", 0) >= spec["replicas"] - bounds(spec)[1]
    if enough:
        found = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        found = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    return with_condition(conditions, "Available", *found)


def is_complete(deployment: Document, status: Document) -> bool:
    """Whether all wanted Pods are new and available, and no old one is left (DeploymentComplete)."""
    wanted = deployment["spec"]["replicas"]
    return all(status.get(name, 0) == wanted for name in ("replicas", "updatedReplicas", "availableReplicas"))


def has_progressed(before: Document, after: Document) -> bool:
    """Whether a status shows more than the one before it (DeploymentProgressing)."""

    def old(status: Document) -> int:
        return status.get("replicas", 0) - status.get("updatedReplicas", 0)

    grown = any(after.get(name, 0) > before.get(name, 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas"))  # fmt: skip
    return grown or old(after) < old(before)


def _available(replica_set: Document) -> int:
    return (replica_set.get("status") or {}).get("availableReplicas", 0)


def _count(value: int | str, replicas: int, way: Any) -> int:
    return int(way(replicas * int(value.rstrip("%")) / 100)) if isinstance(value, str) else value
