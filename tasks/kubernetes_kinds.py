"""Where the kinds that releases touch are served: the newest version that this cluster has, by discovery."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import PermanentError
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient

# Group, plural, and the versions that we can read, newest first (deprecation guide of the Kubernetes documentation).
_KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ConfigMap": ("", "configmaps", ("v1",)),
    "Secret": ("", "secrets", ("v1",)),
    "Service": ("", "services", ("v1",)),
    "Pod": ("", "pods", ("v1",)),
    "Node": ("", "nodes", ("v1",)),
    "Namespace": ("", "namespaces", ("v1",)),
    "Event": ("", "events", ("v1",)),
    "Endpoints": ("", "endpoints", ("v1",)),
    "ResourceQuota": ("", "resourcequotas", ("v1",)),
    "Deployment": ("apps", "deployments", ("v1",)),
    "ReplicaSet": ("apps", "replicasets", ("v1",)),
    "Job": ("batch", "jobs", ("v1",)),
    "CronJob": ("batch", "cronjobs", ("v1", "v1beta1")),
    "Lease": ("coordination.k8s.io", "leases", ("v1",)),
    "HorizontalPodAutoscaler": ("autoscaling", "horizontalpodautoscalers", ("v2", "v2beta2")),
    "PodDisruptionBudget": ("policy", "poddisruptionbudgets", ("v1", "v1beta1")),
    "NetworkPolicy": ("networking.k8s.io", "networkpolicies", ("v1",)),
    "Ingress": ("networking.k8s.io", "ingresses", ("v1",)),
    "EndpointSlice": ("discovery.k8s.io", "endpointslices", ("v1", "v1beta1")),
    "HTTPRoute": ("gateway.networking.k8s.io", "httproutes", ("v1", "v1beta1")),
    "ExternalSecret": ("external-secrets.io", "externalsecrets", ("v1", "v1beta1")),
}
# What a cluster serves changes when it is upgraded, or a kind is installed: found once, it is not asked for again for so long. A release would else ask some
# forty times, every other time for a version that is not there. What was not found is asked for each time.
KEPT_SECONDS = 60.0


@dataclass(frozen=True)
class Kind:
    """A kind as this cluster serves it."""

    name: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """As documents say it: v1, apps/v1."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """The path of the collection in a namespace ("" for kinds of the whole cluster), of one object, or of its subresource."""
        root = "/apis" if self.group else "/api"
        steps = [
            root,
            self.api_version,
            *(("namespaces", namespace) if namespace else ()),
            self.plural,
            name,
            subresource,
        ]
        return "/".join(step for step in steps if step)


# (API server's address, kind's name) → when it was found, and what.
_found: dict[tuple[str, str], tuple[float, Kind]] = {}


def find_kind(client: KubernetesClient, name: str, *, clock: Callable[[], float] = time.monotonic) -> Kind:
    """Given a kind's name, return it in the newest version that the cluster serves, as found within the last minute. Raise PermanentError when it serves none."""
    group, plural, versions = _KINDS[name]
    if len(versions) == 1:
        return Kind(name, group, versions[0], plural)
    at, known = _found.get((client.address, name), (0.0, None))
    if known is not None and clock() < at + KEPT_SECONDS:
        return known
    kind = _asked(client, name)
    _found[client.address, name] = (clock(), kind)
    return kind


def forget_kinds() -> None:
    """Ask each cluster anew what it serves."""
    _found.clear()


def _asked(client: KubernetesClient, name: str) -> Kind:
    group, plural, versions = _KINDS[name]
    for version in versions:
        try:
            served = client.get(f"/apis/{group}/{version}").get("resources") or ()
        except MissingError:
            continue
        if any(one.get("name") == plural for one in served):
            return Kind(name, group, version, plural)
    wanted = " or ".join(f"{group}/{version}" for version in versions)
    raise PermanentError(
        "find the kind",
        f"{name} at {client.address}",
        f"the cluster serves neither {wanted}",
        "Install it, or leave it out of the environment's file",
    )
