"""Which image a Deployment of a namespace runs now."""

from core.environment_release import Workload
from core.fence import Document
from core.live_image import LiveImage, container_name, label_selector, live_image
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind


def read_live_image(client: KubernetesClient, namespace: str, workload: Workload) -> tuple[Document, LiveImage]:
    """Given a namespace and a Deployment of it, return the Deployment and what its ready Pods run. Raise MissingError when there is no Deployment."""
    deployment = client.get(find_kind(client, "Deployment").path(namespace, workload.name))
    template = deployment["spec"]["template"]["spec"]
    container = container_name(template, workload.container, f"{workload.key} in {namespace}")
    selector = label_selector(deployment["spec"]["selector"])
    pods = client.list(find_kind(client, "Pod").path(namespace), labelSelector=selector)
    return deployment, live_image(template, pods, container)
