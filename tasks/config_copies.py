"""Configuration copies in the cluster: what a version takes along, and copies that nothing can read any more."""

from collections.abc import Iterable, Iterator

from core.config_copies import CONFIG_OF, copy_document, unused_copies
from core.fence import ENVIRONMENT, Document
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind


def read_config_copies(
    client: KubernetesClient, namespace: str, environment: str, config_maps: Iterable[str]
) -> dict[str, Document]:
    """Given the ConfigMaps that travel with a version, return each one's copy as it is to be made, by the ConfigMap's name.

    Raise MissingError for one that is not there.
    """
    kind = find_kind(client, "ConfigMap")
    return {name: copy_document(client.get(kind.path(namespace, name)), environment) for name in config_maps}


def remove_unused_copies(client: KubernetesClient, namespace: str, environment: str) -> tuple[str, ...]:
    """Delete the copies of an environment that no Pod template reads, those of earlier revisions (ReplicaSets) included, and return their names.

    For the holder of the lease, at the end of a release: between making a copy and the Deployment that reads it, it looks unused.
    """
    kind = find_kind(client, "ConfigMap")
    listed = client.list(kind.path(namespace), metadata_only=True, labelSelector=f"{ENVIRONMENT}={environment}")
    copies = {one["metadata"]["name"]: one for one in listed if CONFIG_OF in one["metadata"]["labels"]}
    # After the copies: a template that comes to be meanwhile is seen.
    unused = unused_copies(copies.values(), _templates(client, namespace))
    for name in unused:
        client.delete(kind.path(namespace, name), uid=copies[name]["metadata"]["uid"])
    return unused


def _templates(client: KubernetesClient, namespace: str) -> Iterator[Document]:
    for name in ("Deployment", "ReplicaSet", "CronJob"):
        for one in client.list(find_kind(client, name).path(namespace)):
            yield (one["spec"]["jobTemplate"] if name == "CronJob" else one)["spec"]["template"]
