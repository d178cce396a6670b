"""What is in a namespace: every kind that the API server can list, the objects of those that a rehearsal compares, and how many there are of the others.

Metadata only is read (PartialObjectMetadataList): the content of Secrets never leaves the API server.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from core.errors import NightshiftError
from core.fence import Document
from core.state_comparison import Inventory, LeftOut, Listed, counts, services_that_reach_out, why_left_out
from tasks.kubernetes_answers import ForbiddenError
from tasks.kubernetes_client import KubernetesClient

logger = logging.getLogger(__name__)

# Made by the token controller for each service account (Kubernetes before 1.24); Velero restores none of them.
_TOKENS_LEFT_OUT = "type!=kubernetes.io/service-account-token"


@dataclass(frozen=True)
class ListedKind:
    """A namespaced kind that the API server lists: `name` as RESOURCE.GROUP, and where it is listed."""

    name: str
    group_version: str

    def path(self, namespace: str) -> str:
        """Where the objects of a namespace are listed."""
        root = "/api" if "/" not in self.group_version else "/apis"
        return f"{root}/{self.group_version}/namespaces/{namespace}/{self.name.partition('.')[0]}"


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal of a namespace restores and compares, and what it leaves out, with the reason."""

    kinds: tuple[ListedKind, ...]
    left_out: tuple[LeftOut, ...]


def find_kinds(client: KubernetesClient) -> tuple[ListedKind, ...]:
    """Every namespaced kind that can be listed, each once, in the preferred version of its group or else the first that has it.

    Not every version of a group has all of its kinds: Kubernetes 1.20 prefers batch/v1, which has no CronJob yet. A group whose server is away is passed over.
    """
    found: dict[str, ListedKind] = {}
    for kind in _kinds(client):
        found.setdefault(kind.name, kind)
    return tuple(found.values())


def plan_rehearsal(
    client: KubernetesClient, namespace: str, kinds: Iterable[ListedKind], excluded: Iterable[str]
) -> Rehearsal:
    """Given a namespace and the kinds that there are, say what a rehearsal restores; of what it leaves out, those that the namespace has, counted."""
    excluded = tuple(excluded)
    restored, left_out = [], []
    for kind in kinds:
        why = why_left_out(kind.name, excluded)
        if kind.name == "services" and not why:
            why = _why_no_services(client, kind.path(namespace))
        if not why:
            restored.append(kind)
        elif number := _number(client, kind, namespace):
            left_out.append(LeftOut(kind=kind.name, objects=number, why=why))
    return Rehearsal(tuple(restored), tuple(left_out))


def take_inventory(client: KubernetesClient, namespace: str, kinds: Iterable[ListedKind]) -> Inventory:
    """Given a namespace, list the objects of these kinds that take part in a comparison. A kind that we may not list is told as unreadable."""
    listed, unreadable = [], {}
    for kind in kinds:
        try:
            objects = {
                item["metadata"]["name"]: item["metadata"]["creationTimestamp"]
                for item in _metadata(client, kind, namespace)
                if counts(kind.name, item["metadata"])
            }
        except ForbiddenError as error:
            unreadable[kind.name] = error.found
        else:
            listed.append(Listed(kind=kind.name, objects=objects))
    return Inventory(namespace=namespace, listed=tuple(listed), unreadable=unreadable)


def _why_no_services(client: KubernetesClient, path: str) -> str:
    try:
        reaching = services_that_reach_out(client.list(path))
    except ForbiddenError:
        return "they may not be listed, and one could have a load balancer"
    return f"a copy of {', '.join(reaching)} would get a load balancer or a DNS name" if reaching else ""


def _metadata(client: KubernetesClient, kind: ListedKind, namespace: str) -> Iterator[Document]:
    selector = {"fieldSelector": _TOKENS_LEFT_OUT} if kind.name == "secrets" else {}
    return client.list(kind.path(namespace), metadata_only=True, **selector)


def _number(client: KubernetesClient, kind: ListedKind, namespace: str) -> int:
    """How many objects there are of a kind that is left out; 0 when that cannot be told, since nothing depends on it."""
    try:
        return sum(1 for item in client.list(kind.path(namespace), metadata_only=True) if counts(kind.name, item["metadata"]))  # fmt: skip
    except NightshiftError:
        return 0


def _kinds(client: KubernetesClient) -> Iterator[ListedKind]:
    yield from _resources(client, "/api/v1", "v1", "")
    for group in client.get("/apis").get("groups") or ():
        preferred = group["preferredVersion"]["groupVersion"]
        others = [version["groupVersion"] for version in group.get("versions") or ()]
        for version in dict.fromkeys((preferred, *others)):
            try:
                yield from _resources(client, f"/apis/{version}", version, group["name"])
            except NightshiftError as error:
                # An aggregated API (metrics, say) whose own server is down; nothing that is rehearsed comes from one.
                logger.info("the kinds of %s are passed over: %s", version, error)


def _resources(client: KubernetesClient, path: str, group_version: str, group: str) -> Iterator[ListedKind]:
    for resource in client.get(path).get("resources") or ():
        # "pods/log" and the like are parts of an object.
        if resource.get("namespaced") and "list" in (resource.get("verbs") or ()) and "/" not in resource["name"]:
            yield ListedKind(f"{resource['name']}.{group}".rstrip("."), group_version)
