"""Is there room for the Pods that a release adds: in the namespace's quotas, below the autoscalers' maximum, on the nodes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from core.quantity import quantity, shown

Document = Mapping[str, Any]
Amounts = dict[str, Fraction]


@dataclass
class Surge:
    """Pods that a release adds for one workload, beyond those that are there: how many, and their template's spec."""

    name: str
    pods: int
    spec: Document
    requests: Amounts = field(init=False)
    limits: Amounts = field(init=False)

    def __post_init__(self) -> None:
        self.requests = pod_amounts(self.spec, "requests")
        self.limits = pod_amounts(self.spec, "limits")


def rolling_pods(deployment: Document) -> int:
    """Given a Deployment, return how many Pods more than its replicas a rollout may have (deployment_util.go, MaxSurge: percentages round up)."""
    spec = deployment.get("spec") or {}
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
    replicas = int(spec.get("replicas", 1))
    if isinstance(surge, str) and surge.endswith("%"):
        return math.ceil(replicas * int(surge[:-1]) / 100)
    return int(surge)


def pod_amounts(spec: Document, kind: str) -> Amounts:
    """Given a Pod's spec and `requests` or `limits`, return what the Pod counts for (component-helpers/resource, PodRequests and PodLimits).

    The sum of its containers and sidecars, or the greatest of its init containers, which run one after the other; the overhead on top. A request that is
    not given is the limit, as the API server fills it in.
    """
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, kind))
    beside: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(beside, own)
            own = {}
        _raise(peak, _sum(own, beside))
    _add(total, beside)
    _raise(total, peak)
    _add(total, {name: quantity(value) for name, value in (spec.get("overhead") or {}).items()})
    return total


def quota_problems(quota: Document, surges: Sequence[Surge]) -> list[str]:
    """Given a ResourceQuota with its status and what a release adds, return for which resources there is no room."""
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    counted = [surge for surge in surges if _counts(quota, surge)]
    found = []
    for resource, limit in sorted(hard.items()):
        needed = sum((surge.pods * _per_pod(resource, surge) for surge in counted), Fraction(0))
        free = quantity(limit) - quantity(used.get(resource, "0"))
        if needed and needed > free:
            found.append(
                f"quota {(quota.get('metadata') or {}).get('name')}: {resource} has {shown(free, resource)} left of {limit},"
                f" and the release needs {shown(needed, resource)}"
            )
    return found


def quota_room(template: Document, quotas: Iterable[Document]) -> int | None:
    """Given a Pod template and the namespace's quotas, return how many more such Pods they allow; None when they limit none."""
    one = Surge("", 1, template["spec"])
    rooms = []
    for quota in quotas:
        used = (quota.get("status") or {}).get("used") or {}
        for resource, limit in ((quota.get("spec") or {}).get("hard") or {}).items():
            each = _per_pod(resource, one)
            if each > 0 and _counts(quota, one):
                rooms.append(int(max(Fraction(0), quantity(limit) - quantity(used.get(resource, "0"))) // each))
    return min(rooms, default=None)


def autoscaler_problem(autoscaler: Document) -> str:
    """Given a HorizontalPodAutoscaler, return what is wrong when it is at its maximum: traffic that grows during the release finds no Pods; else ""."""
    spec, status = autoscaler.get("spec") or {}, autoscaler.get("status") or {}
    current, most = int(status.get("currentReplicas") or 0), int(spec.get("maxReplicas") or 0)
    name = (autoscaler.get("metadata") or {}).get("name")
    return f"autoscaler {name} is at its maximum of {most}" if current >= most else ""


def node_problem(nodes: Iterable[Document], pods: Iterable[Document], surges: Sequence[Surge]) -> str:
    """Given all nodes, all Pods and what a release adds, return what does not fit; "" when all does.

    As the scheduler's NodeResourcesFit, NodeUnschedulable, TaintToleration and plain nodeSelector; (anti-)affinity, spread and volumes are not looked at.
    """
    nodes = list(nodes)
    free = {str(node["metadata"]["name"]): _allocatable(node) for node in nodes}
    for pod in pods:
        place = (pod.get("spec") or {}).get("nodeName")
        if place in free and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}:
            _add(free[place], {name: -value for name, value in _on_node(pod["spec"]).items()})
    for surge in surges:
        wanted = _on_node(surge.spec)
        usable = [str(node["metadata"]["name"]) for node in nodes if _takes(node, surge.spec)]
        for number in range(surge.pods):
            place = max(
                (
                    name
                    for name in usable
                    if all(free[name].get(one, Fraction(0)) >= much for one, much in wanted.items())
                ),
                key=lambda name: free[name].get("cpu", Fraction(0)),
                default=None,
            )
            if place is None:
                each = ", ".join(f"{name} {shown(much, name)}" for name, much in sorted(wanted.items()))
                return f"{number} of {surge.pods} more Pods of {surge.name} ({each} each) fit on {len(usable)} usable nodes"
            _add(free[place], {name: -value for name, value in wanted.items()})
    return ""


def _on_node(spec: Document) -> Amounts:
    """What a Pod takes of a node: requests alone, and one of its Pods."""
    return {**pod_amounts(spec, "requests"), "pods": Fraction(1)}


def _allocatable(node: Document) -> Amounts:
    return {name: quantity(value) for name, value in ((node.get("status") or {}).get("allocatable") or {}).items()}


def _takes(node: Document, spec: Document) -> bool:
    own = node.get("spec") or {}
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    taints = [one for one in own.get("taints") or () if one.get("effect") in {"NoSchedule", "NoExecute"}]
    tolerated = all(any(_tolerates(one, taint) for one in spec.get("tolerations") or ()) for taint in taints)
    labels = (node.get("metadata") or {}).get("labels") or {}
    selected = (spec.get("nodeSelector") or {}).items() <= labels.items()
    return ready and not own.get("unschedulable") and tolerated and selected


def _tolerates(toleration: Document, taint: Document) -> bool:
    """As Toleration.ToleratesTaint (api/core/v1/toleration.go)."""
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("key") not in {None, "", taint.get("key")}:
        return False
    return toleration.get("operator") == "Exists" or (
        bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
    )


def _per_pod(resource: str, surge: Surge) -> Fraction:
    if resource in {"pods", "count/pods"}:
        return Fraction(1)
    kind, _, name = (
        resource.rpartition(".") if resource.startswith(("requests.", "limits.")) else ("requests", "", resource)
    )
    return (surge.limits if kind == "limits" else surge.requests).get(name, Fraction(0))


def _counts(quota: Document, surge: Surge) -> bool:
    """Whether a quota with scopes counts these Pods ("Quota scopes"). One that we cannot tell counts: better a question too many."""
    spec = quota.get("spec") or {}
    scopes = set(spec.get("scopes") or ())
    for one in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        if one.get("scopeName") != "PriorityClass":
            scopes.add(one.get("scopeName"))
        elif one.get("operator") == "In" and surge.spec.get("priorityClassName") not in (one.get("values") or ()):
            return False
    best_effort = not surge.requests and not surge.limits
    # Pods of a Deployment have no activeDeadlineSeconds: they are NotTerminating.
    return not (
        "Terminating" in scopes
        or ("BestEffort" in scopes and not best_effort)
        or ("NotBestEffort" in scopes and best_effort)
    )


def _amounts(container: Document, kind: str) -> Amounts:
    resources = container.get("resources") or {}
    given = {**(resources.get("limits") or {}), **(resources.get("requests") or {})} if kind == "requests" else resources.get("limits") or {}  # fmt: skip
    return {name: quantity(value) for name, value in given.items()}


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, Fraction(0)) + value


def _sum(first: Amounts, second: Amounts) -> Amounts:
    total = dict(first)
    _add(total, second)
    return total


def _raise(total: Amounts, least: Amounts) -> None:
    for name, value in least.items():
        total[name] = max(total.get(name, Fraction(0)), value)
