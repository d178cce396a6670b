"""Looking at the side that served before, when the traffic is to go back to it: is it what the release found, and who serves."""

from __future__ import annotations

from core.environment import Environment
from core.evidence import Finding
from core.old_side import OldSide, accepted_by, began_to_move, next_step_of, told_change, told_of, way_of
from core.pod_health import is_ready, lasting_pods
from core.release_journal import Journal
from core.release_plan import ReleasePlan, SidesPlan, template_of
from core.rollout_change import ForeignChangeError
from core.traffic import Side
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.open_traffic import open_traffic
from tasks.pod_health import check_pods
from tasks.release_run import ReleaseRun, release_of


def look_at_old_side(
    client: KubernetesClient, environment: Environment, plan: ReleasePlan, sides: SidesPlan, journal: Journal | None
) -> OldSide:
    """What is seen of both sides. Pods are asked only where the old side is another than the release found."""
    release = release_of(environment)
    current = template_of(client.get(find_kind(client, "Deployment").path(release.namespace, sides.live_name)))
    changed = told_change(sides.live_name, current, plan.deployments("api")[0].before)
    share = (
        open_traffic(client, release, environment.name, sides.live, sides.following).read().of(sides.following.service)
    )
    return OldSide(
        changed=changed,
        share=share,
        moved=began_to_move(journal),
        new_serves=not changed or _serves(client, environment, sides.following),
        old_serves=not changed or _serves(client, environment, sides.live),
        accepted=accepted_by(journal),
    )


def held_for(client: KubernetesClient, environment: Environment, plan: ReleasePlan, journal: Journal | None) -> str:
    """Why the traffic must not go back now, in a sentence; "" when it may, or when nothing is shifted."""
    if plan.sides is None:
        return ""
    seen = look_at_old_side(client, environment, plan, plan.sides, journal)
    return told_of(plan.sides, seen) if way_of(seen) == "hold" else ""


def look_before_back(run: ReleaseRun, client: KubernetesClient, sides: SidesPlan) -> OldSide:
    """What is seen, right before the way back does anything. Raise ForeignChangeError when both sides are to stay as they are."""
    seen = look_at_old_side(client, run.environment, run.plan, sides, run.journal.journal)
    if way_of(seen) == "hold":
        raise foreign_change(run, sides, seen)
    return seen


def foreign_change(run: ReleaseRun, sides: SidesPlan, seen: OldSide) -> ForeignChangeError:
    """What stops the way back, with what to do about it."""
    told = told_of(sides, seen)
    next_step = next_step_of(run.release.namespace, run.environment.name, run.journal.journal.release_id, sides)
    return ForeignChangeError("take the traffic back", f"deployment/{sides.live_name}", told, next_step)


def left_theirs(seen: OldSide) -> list[Finding]:
    """What is to be told where the traffic is left with a side that somebody else changed: an error, unless a person took it so."""
    if not seen.changed or way_of(seen) == "give it all the same":
        return []
    told = f"{seen.changed}; it has the traffic, and is not the version that the release found"
    return [Finding(severity="warning" if seen.accepted else "error", text=told)]


def _serves(client: KubernetesClient, environment: Environment, side: Side) -> bool:
    """Whether a side has a ready Pod and none that answers ill. One that cannot be asked is taken by its readiness, as a Service takes it."""
    release = release_of(environment)
    selector = ",".join(f"{key}={value}" for key, value in sorted(side.selector.items()))
    pods = client.list(f"/api/v1/namespaces/{release.namespace}/pods", labelSelector=selector)
    if not any(is_ready(pod) for pod in lasting_pods(pods)):
        return False
    return check_pods(client, release.gates, namespace=release.namespace, selector=selector).state != "fail"
