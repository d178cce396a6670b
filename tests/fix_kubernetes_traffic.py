"""Who leads traffic in the small Kubernetes API of the tests: Endpoints and EndpointSlices of Services, and the status of HTTPRoutes. Nothing flows."""

from typing import TYPE_CHECKING, Any

from tests.fix_kubernetes_deployments import owner_of
from tests.fix_kubernetes_objects import CONTROLLER, ApiError, now
from tests.fix_kubernetes_pods import is_ready
from tests.fix_kubernetes_selection import matches

if TYPE_CHECKING:
    from tests.fix_kubernetes_objects import Objects

Document = dict[str, Any]
SLICES, ROUTES = "discovery.k8s.io/v1", "gateway.networking.k8s.io/v1"


class Traffic:
    """The controllers of Services and of routes. `accepts`: what the gateway says of a route; None: it says nothing, as when it is away."""

    def __init__(self, api: "Objects") -> None:
        self._api = api
        self.accepts: bool | None = True

    def step(self) -> None:
        """Look at each Service and each route once."""
        for service in self._api.select("v1", "services", "", {}):
            if (service.get("spec") or {}).get("selector"):
                self._lead(service)
        if self.accepts is not None:
            for route in self._api.select(ROUTES, "httproutes", "", {}):
                self._answer(route, accepts=self.accepts)

    def _lead(self, service: Document) -> None:
        metadata, spec = service["metadata"], service["spec"]
        namespace = metadata["namespace"]
        pods = [one for one in self._api.select("v1", "pods", namespace, {}) if matches(spec["selector"], one["metadata"].get("labels")) and _is_there(one)]  # fmt: skip
        ports = [_port(port, pods) for port in spec.get("ports") or ()]
        addresses = {True: [], False: []}
        for pod in pods:
            addresses[is_ready(pod)].append({"ip": pod["status"]["podIP"], "targetRef": _reference(pod)})
        named = {"addresses": addresses[True], "notReadyAddresses": addresses[False]}
        subset = {key: value for key, value in named.items() if value}
        endpoints = {"subsets": [{**subset, "ports": ports}] if subset else []}
        self._write(service, "Endpoints", metadata["name"], {}, endpoints)
        found = [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": is_ready(pod), "serving": is_ready(pod), "terminating": False},
                "targetRef": _reference(pod),
            }
            for pod in pods
        ]
        labels = {
            "kubernetes.io/service-name": metadata["name"],
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        content = {"addressType": "IPv4", "endpoints": found, "ports": ports}
        self._write(service, "EndpointSlice", f"{metadata['name']}-{metadata['uid'][:5]}", labels, content)

    def _write(self, service: Document, kind: str, name: str, labels: dict[str, str], content: Document) -> None:
        version, plural = ("v1", "endpoints") if kind == "Endpoints" else (SLICES, "endpointslices")
        namespace = service["metadata"]["namespace"]
        try:
            self._api.merge(version, plural, namespace, name, content, manager=CONTROLLER)
        except ApiError:
            metadata = {"name": name, "labels": labels, "ownerReferences": [owner_of(service)]}
            document = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
            self._api.create(version, plural, namespace, document, manager=CONTROLLER)

    def _answer(self, route: Document, *, accepts: bool) -> None:
        metadata, spec = route["metadata"], route.get("spec") or {}
        namespace, generation = metadata["namespace"], metadata["generation"]
        backends = [one for rule in spec.get("rules") or () for one in rule.get("backendRefs") or ()]
        missing = [one["name"] for one in backends if ("v1", "services", one.get("namespace", namespace), one["name"]) not in self._api.objects]  # fmt: skip
        resolved = (
            ("False", "BackendNotFound", f'service "{missing[0]}" not found')
            if missing
            else ("True", "ResolvedRefs", "")
        )
        accepted = ("True", "Accepted", "") if accepts else ("False", "NoMatchingParent", "")
        before = (route.get("status") or {}).get("parents") or []
        parents = []
        for parent in spec.get("parentRefs") or ():
            was = next((one["conditions"] for one in before if one["parentRef"] == parent), [])
            found = (_condition(was, "Accepted", *accepted), _condition(was, "ResolvedRefs", *resolved))
            conditions = [{**one, "observedGeneration": generation} for one in found]
            parents.append({"controllerName": "tests.example/gateway", "parentRef": parent, "conditions": conditions})
        self._api.set_status(ROUTES, "httproutes", namespace, metadata["name"], parents=parents)


def _condition(before: list[Document], kind: str, status: str, reason: str, message: str) -> Document:
    was = next((one for one in before if one["type"] == kind), {})
    since = was["lastTransitionTime"] if was.get("status") == status else now()
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def _is_there(pod: Document) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") in {"Running", "Pending"}


def _reference(pod: Document) -> Document:
    return {"kind": "Pod", **{key: pod["metadata"][key] for key in ("name", "namespace", "uid")}}


def _port(port: Document, pods: list[Document]) -> Document:
    """A Service's port as its endpoints have it: named target ports are looked up in the Pods."""
    target = port["targetPort"]
    if isinstance(target, str):
        there = [one for pod in pods for container in pod["spec"]["containers"] for one in container.get("ports") or ()]
        target = next((one["containerPort"] for one in there if one.get("name") == target), port["port"])
    return {**({"name": port["name"]} if "name" in port else {}), "port": target, "protocol": port["protocol"]}
