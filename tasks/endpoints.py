"""Which Pods a Service leads to, read from EndpointSlices (or Endpoints, where a cluster serves no version of them)."""

from core.errors import PermanentError
from core.fence import Document
from core.traffic import Effective, Side
from core.traffic_endpoints import SLICE_SERVICE, Endpoint, judge_endpoints, listed_endpoints, slice_endpoints
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import Kind, find_kind


def endpoint_kind(client: KubernetesClient) -> Kind:
    """EndpointSlice in the version that the cluster serves, else Endpoints."""
    try:
        return find_kind(client, "EndpointSlice")
    except PermanentError as error:
        if type(error) is not PermanentError:
            raise
        return find_kind(client, "Endpoints")


def chosen_by(kind: Kind, service: str) -> dict[str, str]:
    """The parameters of a list or watch that picks what belongs to one Service."""
    if kind.name == "Endpoints":
        return {"fieldSelector": f"metadata.name={service}"}
    return {"labelSelector": f"{SLICE_SERVICE}={service}"}


def ready_endpoints(client: KubernetesClient, kind: Kind, namespace: str, service: str) -> frozenset[Endpoint]:
    """The ready endpoints of a Service; none when there is no such Service."""
    if kind.name != "Endpoints":
        return slice_endpoints(client.list(kind.path(namespace), labelSelector=f"{SLICE_SERVICE}={service}"))
    try:
        return listed_endpoints(client.get(kind.path(namespace, service)))
    except MissingError:
        return frozenset()


def judge_service(
    client: KubernetesClient, kind: Kind, namespace: str, service: str, side: Side
) -> tuple[Effective, frozenset[Endpoint]]:
    """Whether a Service leads to all ready Pods of a side and to nothing else; and its endpoints."""
    endpoints = ready_endpoints(client, kind, namespace, service)
    selector = ",".join(f"{key}={value}" for key, value in sorted(side.selector.items()))
    pods: list[Document] = list(client.list(find_kind(client, "Pod").path(namespace), labelSelector=selector))
    return judge_endpoints(service, side, endpoints, pods), endpoints
