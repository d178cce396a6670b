"""The two sides of a blue-green release in the small Kubernetes API: Pods, Services, and something that plays the controllers of endpoints and of the gateway."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.fence import Document, Fence
from core.traffic import Side, selects
from core.traffic_endpoints import is_ready
from tasks.fenced import stamp
from tasks.kubeconfig import find_connection
from tasks.kubernetes_client import KubernetesClient
from tasks.traffic import Traffic
from tests.fix_kubernetes import KubernetesApi

NAMESPACE = "staging"
BLUE = Side(name="blue", service="api-server-blue", port=80, selector={"app": "api-server", "color": "blue"})
GREEN = Side(name="green", service="api-server-green", port=80, selector={"app": "api-server", "color": "green"})
ROUTES = ("gateway.networking.k8s.io/v1", "httproutes", NAMESPACE)


class Sides:
    """Blue serves, green follows; each has two ready Pods and its Service. Users reach Service api-server, which selects blue."""

    def __init__(self, api: KubernetesApi, client: KubernetesClient) -> None:
        self.api, self.client, self.namespace = api, client, NAMESPACE
        self.fence = Fence("staging", "release-1", 7)
        # How endpoints are told: the version of EndpointSlice, or "" for Endpoints.
        self.slices = "discovery.k8s.io/v1"
        self.target_port = 3000
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for side, ip in ((BLUE, "10.0.1"), (GREEN, "10.0.2")):
            self.service(side.service, side)
            for number in (1, 2):
                self.pod(f"{side.name}-{number}", side, f"{ip}.{number}")
        self.service("api-server", BLUE)

    def service(self, name: str, side: Side) -> None:
        spec = {"selector": dict(side.selector), "ports": [{"name": "http", "port": side.port, "targetPort": 3000}]}
        self.api.put(_document("v1", "Service", name, spec=spec))

    def pod(self, name: str, side: Side, ip: str, *, ready: bool = True) -> None:
        document = _document("v1", "Pod", name, labels={**side.selector, "pod-template-hash": "1"})
        self.api.put(document)
        self.ready(name, ready, ip)

    def ready(self, name: str, ready: bool, ip: str | None = None) -> None:
        """Let a Pod become ready or not."""
        status = {"conditions": [{"type": "Ready", "status": str(ready)}], **({"podIP": ip} if ip else {})}
        self.api.set_status("v1", "pods", NAMESPACE, name, **status)

    def settle(self) -> None:
        """Play the controller of endpoints: every Service leads to the ready Pods that it selects."""
        for service in self.api.select("v1", "services", NAMESPACE, {}):
            name, selector = service["metadata"]["name"], service["spec"].get("selector") or {}
            pods = [
                pod
                for pod in self.api.select("v1", "pods", NAMESPACE, {})
                if selects(selector, pod["metadata"]["labels"])
            ]
            self.lead(name, [pod for pod in pods if is_ready(pod)], [pod for pod in pods if not is_ready(pod)])

    def lead(self, service: str, ready: list[Document], unready: list[Document]) -> None:
        """Let a Service lead to these Pods."""
        if not self.slices:
            subset = {
                "addresses": [_address(pod) for pod in ready],
                "notReadyAddresses": [_address(pod) for pod in unready],
            }
            self._put("v1", "endpoints", _document("v1", "Endpoints", service, subsets=[subset]))
            return
        endpoints = [
            {"addresses": [pod["status"]["podIP"]], "conditions": {"ready": state}, "targetRef": _reference(pod)}
            for state, pods in ((True, ready), (False, unready))
            for pod in pods
        ]
        labels = {"kubernetes.io/service-name": service}
        document = _document(
            self.slices,
            "EndpointSlice",
            f"{service}-x1",
            labels=labels,
            endpoints=endpoints,
            addressType="IPv4",
            ports=[{"name": "http", "port": self.target_port}],
        )
        self._put(self.slices, "endpointslices", document)

    def route(self, *rules: Document, parents: tuple[str, ...] = ("web",)) -> None:
        """Put an HTTPRoute named api-server, which no gateway has taken yet."""
        spec = {"parentRefs": [{"name": name} for name in parents], "rules": list(rules)}
        self.api.put(_document(ROUTES[0], "HTTPRoute", "api-server", spec=spec))

    def accept(self, *, behind: int = 0, parents: tuple[str, ...] = ("web",), **said: tuple[str, str]) -> None:
        """Let gateways take the route, so many generations behind; `said`: status and reason of a condition."""
        route = self.api.read(*ROUTES, "api-server")
        generation = route["metadata"]["generation"] - behind
        states = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs"), **said}
        conditions = [
            {"type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": generation}
            for kind, (status, reason) in states.items()
        ]
        told = [{"controllerName": "x/y", "parentRef": {"name": name}, "conditions": conditions} for name in parents]
        self.api.set_status(*ROUTES, "api-server", parents=told)

    def stamped(self, traffic: Traffic) -> Traffic:
        """The traffic, once this test's fence is on what it writes."""
        for path in traffic.managed_paths():
            stamp(self.client, path, self.fence)
        return traffic

    def _put(self, group_version: str, plural: str, document: Document) -> None:
        name = document["metadata"]["name"]
        if any(one["metadata"]["name"] == name for one in self.api.select(group_version, plural, NAMESPACE, {})):
            self.api.merge(group_version, plural, NAMESPACE, name, document)
        else:
            self.api.put(document)


def backend(name: str, weight: int | None = None, **more: Any) -> Document:
    """One backendRef."""
    return {"name": name, "port": 80, **({} if weight is None else {"weight": weight}), **more}


def _document(api_version: str, kind: str, name: str, labels: dict[str, str] | None = None, **more: Any) -> Document:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def _reference(pod: Document) -> Document:
    return {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": NAMESPACE}


def _address(pod: Document) -> Document:
    return {"ip": pod["status"]["podIP"], "targetRef": _reference(pod)}


@pytest.fixture
def sides(kubernetes: KubernetesApi) -> Iterator[Sides]:
    """Both sides, their endpoints settled."""
    # An outage is waited out in less than a second, not in ten.
    with KubernetesClient(lambda: find_connection(None), sleep=lambda seconds: time.sleep(seconds / 50)) as client:
        made = Sides(kubernetes, client)
        made.settle()
        yield made
