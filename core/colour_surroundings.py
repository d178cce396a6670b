"""What stands around the live side and is copied for the following one: its Service, autoscaler, disruption budgets and network policies."""

from collections.abc import Iterable
from typing import Any

from core.colour_pair import COLOUR, WORKLOAD, Labels, Pair, copied_metadata
from core.label_selectors import is_empty, rewritten, selects
from core.merge_patch import without_nulls
from core.replica_sizes import ORIGINAL, PINNED, original_minimum

Document = dict[str, Any]

# What a Service's copy has of its specification: neither addresses and node ports, which are given out, nor a load balancer's or DNS's settings.
SERVICE_FIELDS = (
    "ports",
    "selector",
    "type",
    "sessionAffinity",
    "sessionAffinityConfig",
    "publishNotReadyAddresses",
    "internalTrafficPolicy",
    "ipFamilyPolicy",
)
# An ALB reads a target group's health check and protocol from the Service; Prometheus whether it is scraped. Others (external-dns, load balancers) would take
# the live Service's name or address for the copy.
_SERVICE_ANNOTATIONS = ("alb.ingress.kubernetes.io/", "prometheus.io/")


def following_service(pair: Pair, service: Document, deployment: Document) -> Document:
    """Given the workload's Service and the following side's Deployment, return that side's Service, the preview: same ports, never reached from outside."""
    spec = without_nulls(service["spec"])
    metadata = copied_metadata(pair, service, pair.following_name)
    kept = {
        key: value for key, value in metadata.pop("annotations", {}).items() if key.startswith(_SERVICE_ANNOTATIONS)
    }
    # An ALB with targets of type instance goes by node ports.
    made = {key: spec[key] for key in SERVICE_FIELDS if key in spec} | {
        "type": "NodePort" if spec.get("type") == "NodePort" else "ClusterIP",
        "selector": dict(deployment["spec"]["selector"]["matchLabels"]),
        "ports": [{key: value for key, value in port.items() if key != "nodePort"} for port in spec["ports"]],
    }
    if spec.get("clusterIP") == "None":
        made["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**metadata, **({"annotations": kept} if kept else {})},
        "spec": made,
    }


def autoscaler_of(name: str, autoscalers: Iterable[Document]) -> Document | None:
    """Given a Deployment's name and the namespace's autoscalers, return the one that scales it; None when none does."""
    for one in autoscalers:
        target = one["spec"]["scaleTargetRef"]
        if target.get("kind") == "Deployment" and target.get("name") == name:
            return one
    return None


def following_autoscaler(pair: Pair, autoscaler: Document, size: int) -> Document:
    """Given the live side's autoscaler and size, return the following side's, pinned at that size from birth."""
    spec = without_nulls(autoscaler["spec"])
    original = original_minimum(autoscaler)
    pinned = min(max(original, size), int(spec["maxReplicas"]))
    metadata = copied_metadata(pair, autoscaler, pair.following_name)
    pin = {ORIGINAL: str(original), PINNED: str(pinned)}
    return {
        "apiVersion": autoscaler["apiVersion"],
        "kind": "HorizontalPodAutoscaler",
        "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **pin}},
        "spec": {
            **spec,
            "minReplicas": pinned,
            "scaleTargetRef": {**spec["scaleTargetRef"], "name": pair.following_name},
        },
    }


def following_budgets(pair: Pair, budgets: Iterable[Document], old: Labels, new: Labels) -> list[Document]:
    """Given the namespace's disruption budgets and both sides' Pod labels, return a copy of each that protects the live Pods and would not protect the new ones.

    One that would (an empty selector) is not copied: a Pod under two budgets cannot be evicted at all (pkg/registry/core/pod/storage/eviction.go).
    """
    return [
        _selecting_copy(pair, one, "selector", old, new) for one in budgets if _is_for_live(one, "selector", old, new)
    ]


def following_policies(pair: Pair, policies: Iterable[Document], old: Labels, new: Labels) -> list[Document]:
    """Given the namespace's network policies and both sides' Pod labels, return a copy of each that is about the live Pods and would not be about the new ones.

    Peers in it that mean the workload's own Pods mean the following side's in the copy. A policy of all Pods (default deny) needs no copy.
    """
    made = []
    for one in policies:
        if _is_for_live(one, "podSelector", old, new):
            copy = _selecting_copy(pair, one, "podSelector", old, new)
            for direction, way in (("ingress", "from"), ("egress", "to")):
                if copy["spec"].get(direction):
                    copy["spec"][direction] = [_with_peers(rule, way, old, new) for rule in copy["spec"][direction]]
            made.append(copy)
    return made


def _is_for_live(document: Document, field: str, old: Labels, new: Labels) -> bool:
    selector = document["spec"].get(field)
    return not is_empty(selector) and selects(selector, old) and not selects(selector, new)


def _selecting_copy(pair: Pair, source: Document, field: str, old: Labels, new: Labels) -> Document:
    spec = without_nulls(source["spec"])
    labels = source["metadata"].get("labels") or {}
    name = source["metadata"]["name"]
    if pair.live and labels.get(WORKLOAD) == pair.workload and labels.get(COLOUR) == pair.live:
        name = name.removesuffix(f"-{pair.live}")
    selector = rewritten(spec[field], old, new)
    # Whatever the selector said, it means this side's Pods and no others.
    marks = {WORKLOAD: pair.workload, COLOUR: pair.following}
    selector = {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), **marks}}
    return {
        "apiVersion": source["apiVersion"],
        "kind": source["kind"],
        "metadata": copied_metadata(pair, source, f"{name}-{pair.following}"),
        "spec": {**spec, field: selector},
    }


def _with_peers(rule: Document, way: str, old: Labels, new: Labels) -> Document:
    if not rule.get(way):
        return rule
    return {**rule, way: [_peer(one, old, new) for one in rule[way]]}


def _peer(peer: Document, old: Labels, new: Labels) -> Document:
    selector = peer.get("podSelector")
    # With a namespaceSelector beside it, it means Pods elsewhere.
    if not selector or peer.get("namespaceSelector") is not None:
        return peer
    return {**peer, "podSelector": rewritten(selector, old, new)}
