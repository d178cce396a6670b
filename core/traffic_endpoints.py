"""Which Pods a Service really leads to, as its EndpointSlices (or, where those are not served, its Endpoints) tell."""

from collections.abc import Iterable
from typing import NamedTuple

from core.fence import Document
from core.traffic import Effective, Side, selects

# The label by which slices belong to a Service (discovery.k8s.io, well_known_labels.go).
SLICE_SERVICE = "kubernetes.io/service-name"


class Endpoint(NamedTuple):
    """One ready address: of which Pod ("" when it is no Pod's)."""

    pod: str
    address: str


def slice_endpoints(slices: Iterable[Document]) -> frozenset[Endpoint]:
    """Given the slices of one Service, return its ready endpoints. While slices are rewritten one address may stand in two.

    No `ready` at all means ready (discovery/v1 types.go, EndpointConditions.Ready: "A nil value should be interpreted as true").
    """
    return frozenset(
        Endpoint(_pod(endpoint), str(address))
        for one in slices
        for endpoint in one.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or ()
    )


def listed_endpoints(endpoints: Document) -> frozenset[Endpoint]:
    """Given a Service's Endpoints, return the ready ones (`notReadyAddresses` are kept apart there)."""
    return frozenset(
        Endpoint(_pod(address), str(address.get("ip")))
        for subset in endpoints.get("subsets") or ()
        for address in subset.get("addresses") or ()
    )


def _pod(endpoint: Document) -> str:
    target = endpoint.get("targetRef") or {}
    return str(target.get("name", "")) if target.get("kind") == "Pod" else ""


def is_ready(pod: Document) -> bool:
    """Whether a Pod is Ready and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def judge_endpoints(service: str, side: Side, endpoints: frozenset[Endpoint], pods: Iterable[Document]) -> Effective:
    """Given a Service's ready endpoints and the side's Pods, return whether the Service leads to all ready Pods of the side, and to nothing else."""
    ready = {
        pod["metadata"]["name"]
        for pod in pods
        if is_ready(pod) and selects(side.selector, pod["metadata"].get("labels") or {})
    }
    there = {endpoint.pod for endpoint in endpoints}
    where = f"Service {service}"
    if foreign := sorted(there - ready):
        listed = ", ".join(name or "an address that is no Pod's" for name in foreign[:3])
        return _pending(f"{where} still leads to {len(foreign)} others than the ready Pods of {side.name} ({listed})")
    if not ready:
        return _pending(f"{side.name} has no ready Pod")
    if missing := sorted(ready - there):
        return _pending(
            f"{where} does not lead to {len(missing)} of {len(ready)} ready Pods of {side.name} yet ({', '.join(missing[:3])})"
        )
    return Effective(state="effective", found=f"{where} leads to the {len(ready)} ready Pods of {side.name}")


def _pending(found: str) -> Effective:
    return Effective(state="pending", found=found)
