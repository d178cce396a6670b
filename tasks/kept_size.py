"""Whether a Deployment still has the size that a release gave it, and goes on being rolled out: nobody scaled it down or paused it meanwhile."""

from collections.abc import Mapping

from core.colour_surroundings import autoscaler_of
from core.fence import Document
from core.replica_sizes import somebody_shrank
from core.rollout_change import ForeignChangeError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.recording import Notes
from tasks.release_run import Action, Facts, ReleaseRun


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


def keep_sizes(steps: Mapping[str, str]) -> Action:
    """Given Deployment → the step that noted its size, look at them once more, before the release is closed.

    Raise ForeignChangeError when somebody made one smaller or paused it.
    """

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        found: Facts = {}
        with run.client() as client:
            kind = find_kind(client, "Deployment")
            for name, step in steps.items():
                least = int(run.journal.journal.facts_of(step).get("replicas", 0))
                deployment = client.get(kind.path(run.release.namespace, name))
                found[name] = require_size(client, run.release.namespace, deployment, least)
        notes.add(facts={"available": found})
        return found

    return action
