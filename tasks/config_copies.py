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


def find_unused_copies(
    client: KubernetesClient, namespace: str, environment: str, *, cron_jobs: bool = False
) -> tuple[str, ...]:
    """The names of an environment's copies that no Pod template reads, those of earlier revisions (ReplicaSets) included. `cron_jobs`: theirs are looked at too.

    For the holder of the lease, at the end of a release: between making a copy and the Deployment that reads it, it looks unused. They are told, not deleted:
    a release has no right to delete anything in the workloads' namespace.
    """
    kind = find_kind(client, "ConfigMap")
    listed = client.list(kind.path(namespace), metadata_only=True, labelSelector=f"{ENVIRONMENT}={environment}")
    copies = [one for one in listed if CONFIG_OF in one["metadata"]["labels"]]
    # After the copies: a template that comes to be meanwhile is seen.
    return unused_copies(copies, _templates(client, namespace, cron_jobs))


def _templates(client: KubernetesClient, namespace: str, cron_jobs: bool) -> Iterator[Document]:
    for name in ("Deployment", "ReplicaSet", *(("CronJob",) if cron_jobs else ())):
        for one in client.list(find_kind(client, name).path(namespace)):
            yield (one["spec"]["jobTemplate"] if name == "CronJob" else one)["spec"]["template"]
