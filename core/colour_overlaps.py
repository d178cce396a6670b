"""Selectors that were there before the following side and would meet its Pods, or would miss them: what adopting a workload could break."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.colour_pair import Labels, Pair, is_side_object
from core.label_selectors import is_empty, selects, sends_to

Document = dict[str, Any]


@dataclass(frozen=True)
class Overlap:
    """One selector that is there already. `refused`: no release goes on with it; else it is told."""

    kind: str
    name: str
    refused: bool
    found: str


def overlaps(
    pair: Pair,
    old: Labels,
    new: Labels,
    *,
    services: Iterable[Document] = (),
    budgets: Iterable[Document] = (),
    policies: Iterable[Document] = (),
    deployments: Iterable[Document] = (),
    autoscalers: Iterable[Document] = (),
) -> tuple[Overlap, ...]:
    """Given both sides' Pod labels and what is in the namespace, return every selector, but those of the following side itself, that would match its Pods.

    Refused: a Service would send requests to Pods that no gate has seen, a budget would count them for the live ones, a Deployment would take them for its
    own, an autoscaler would scale them, a policy of theirs alone was made for others. Told: a policy for the live Pods and these alike (default deny, or by
    a label that both have): it protects both.
    """
    found = [
        Overlap("Service", _name(one), True, f"its selector {_told(one['spec']['selector'])} would send them requests")
        for one in _others(pair, services)
        if sends_to(one, new)
    ]
    found += [
        Overlap("PodDisruptionBudget", _name(one), True, "it would count them together with the live Pods")
        for one in _others(pair, budgets)
        if selects(one["spec"].get("selector"), new) and not _selects_none(one)
    ]
    for one in _others(pair, policies):
        selector = one["spec"].get("podSelector")
        if selects(selector, new):
            both = is_empty(selector) or selects(selector, old)
            told = (
                "it is about the live Pods and these alike" if both else "it is about these Pods and not the live ones"
            )
            found.append(Overlap("NetworkPolicy", _name(one), not both, told))
    found += [
        Overlap("Deployment", _name(one), True, "it would take them for its own")
        for one in _others(pair, deployments)
        if selects(one["spec"].get("selector"), new)
    ]
    found += [
        Overlap(
            "HorizontalPodAutoscaler", _name(one), True, f"it scales {pair.following_name} already, and is not ours"
        )
        for one in _others(pair, autoscalers)
        if one["spec"]["scaleTargetRef"].get("name") == pair.following_name
    ]
    return tuple(found)


def left_behind(
    pair: Pair, live_labels: Labels, services: Iterable[Document], shifted: Iterable[str]
) -> tuple[str, ...]:
    """Given the live Pods' labels, the namespace's Services and those that a release shifts, return those of others that send requests to the live Pods, sorted.

    They go on doing so after a shift, and have nobody once the old side is retired.
    """
    handled = frozenset(shifted)
    return tuple(
        sorted(
            _name(one)
            for one in services
            if _name(one) not in handled
            and one["spec"].get("selector")
            and not any(is_side_object(pair.workload, colour, one) for colour in (pair.live, pair.following))
            and one["spec"]["selector"].items() <= live_labels.items()
        )
    )


def not_admitting(pair: Pair, policies: Iterable[Document], old: Labels, new: Labels) -> tuple[str, ...]:
    """Given both sides' Pod labels and the namespace's network policies, return those about other Pods that let the live Pods through and not the new ones, sorted.

    A database that admits `app: api` refuses `app: api-blue`. Peers with a namespaceSelector are taken for this namespace's: better told once too often.
    """
    found = set()
    for one in _others(pair, policies):
        # A policy about the live Pods has a copy, and its peers are rewritten there.
        if selects(one["spec"].get("podSelector"), old) and not is_empty(one["spec"].get("podSelector")):
            continue
        for direction, way in (("ingress", "from"), ("egress", "to")):
            for rule in one["spec"].get(direction) or ():
                selectors = [peer["podSelector"] for peer in rule.get(way) or () if peer.get("podSelector") is not None]
                if any(selects(each, old) for each in selectors) and not any(selects(each, new) for each in selectors):
                    found.add(_name(one))
    return tuple(sorted(found))


def shared_resources(template: Document) -> tuple[str, ...]:
    """What of a Pod template two sides cannot both have, or would both write: volume claims and ports of the node."""
    spec = template["spec"]
    claims = [
        f"volume claim {one['persistentVolumeClaim']['claimName']}"
        for one in spec.get("volumes") or ()
        if one.get("persistentVolumeClaim") and not one["persistentVolumeClaim"].get("readOnly")
    ]
    ports = [
        f"port {port['hostPort']} of the node"
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]
    return (*claims, *ports)


def _others(pair: Pair, documents: Iterable[Document]) -> Iterable[Document]:
    for one in documents:
        if not is_side_object(pair.workload, pair.following, one):
            yield one


def _selects_none(budget: Document) -> bool:
    """An empty selector of policy/v1beta1 selects no Pod, of policy/v1 every one (Kubernetes API reference, PodDisruptionBudgetSpec)."""
    return budget.get("apiVersion") == "policy/v1beta1" and is_empty(budget["spec"].get("selector"))


def _name(document: Document) -> str:
    return str(document["metadata"]["name"])


def _told(selector: Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(selector.items())) or "(empty: every Pod)"
