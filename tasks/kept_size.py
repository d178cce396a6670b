"""Whether a Deployment still has the size that a release gave it, and goes on being rolled out: nobody scaled it down or paused it meanwhile."""

from core.colour_surroundings import autoscaler_of
from core.fence import Document
from core.replica_sizes import somebody_shrank
from core.rollout_change import ForeignChangeError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind


def require_size(client: KubernetesClient, namespace: str, deployment: Document, least: int) -> int:
    """Given a Deployment as it is and how many replicas it was given, return how many are available.

    Raise ForeignChangeError when somebody made it smaller or paused it.
    """
    name = deployment["metadata"]["name"]
    changed = somebody_shrank(deployment, least, None)
    if changed:
        # Asked for only now: mostly there is nothing to excuse.
        scalers = client.list(find_kind(client, "HorizontalPodAutoscaler").path(namespace))
        changed = somebody_shrank(deployment, least, autoscaler_of(name, scalers))
    if changed:
        raise ForeignChangeError(
            "keep the size",
            f"deployment {namespace}/{name}",
            changed,
            "Find out who (kubectl get --show-managed-fields), then start the release again",
        )
    return int((deployment.get("status") or {}).get("availableReplicas") or 0)
