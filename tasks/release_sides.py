"""The sides of a blue-green release in the cluster: which one is live now, and what the following one is to be."""

from __future__ import annotations

from core.colour_overlaps import overlaps
from core.colour_pair import Labels, live_of, pod_labels, selector_of, sides_of
from core.environment_release import Release, Workload
from core.errors import PermanentError
from core.fence import Document
from core.release_plan import COMMIT, ReleasePlan, SidesPlan
from core.rollout_change import ForeignChangeError
from core.traffic import Side
from core.traffic_alb import group_weights
from core.traffic_httproute import backend_weights
from tasks.colours import Sides, Surroundings, read_sides, serving_side, side_documents
from tasks.config_copies import read_config_copies
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind


def live_side(client: KubernetesClient, release: Release, workload: str, around: Surroundings | None = None) -> str:
    """The name of the side of a workload that gets all of the traffic. Raise PermanentError when none or several do."""
    traffic = release.traffic
    name = traffic.name or workload
    if traffic.kind == "service":
        return serving_side(client, release.namespace, workload, name, around)
    services = {service_of(release, workload, side): side for side in sides_of(workload)}
    if traffic.kind == "httproute":
        weights = backend_weights(client.get(find_kind(client, "HTTPRoute").path(release.namespace, name)))
    else:
        path = find_kind(client, "Ingress").path(release.namespace, name)
        weights = group_weights(
            client.get(path), traffic.action or "", on=f"Ingress {name} in namespace {release.namespace}"
        )
    return live_of(workload, {side: weights.get(service, 0) for service, side in services.items()})


def service_of(release: Release, workload: str, side: str) -> str:
    """The name of a side's Service: the colours' are called as they are, the plain one's as the environment's file says."""
    if side != workload:
        return side
    traffic = release.traffic
    return (traffic.name if traffic.kind == "service" else traffic.service) or workload


def read_live_sides(
    client: KubernetesClient,
    release: Release,
    environment: str,
    workload: str,
    live_name: str,
    *,
    around: Surroundings | None = None,
) -> Sides:
    """Both sides as they are, by the name of the live one."""
    service = service_of(release, workload, workload if release.traffic.kind == "service" else live_name)
    return read_sides(
        client, release.namespace, environment, workload, live_name=live_name, service=service, around=around
    )


def following_documents(client: KubernetesClient, release: Release, sides: Sides, image: str) -> list[Document]:
    """All that the following side is to consist of, in the order to make it in."""
    workload = release.deployments("api")[0]
    container = workload.container or sides.live["spec"]["template"]["spec"]["containers"][0]["name"]
    images = dict.fromkeys((container, *workload.init_containers), image)
    return side_documents(
        sides, images, read_config_copies(client, release.namespace, sides.pair.environment, workload.config_maps)
    )


def plan_sides(release: Release, workload: Workload, sides: Sides, deployment: Document, *, adopt: bool) -> SidesPlan:
    """Given both sides and the following one's Deployment, return who is who."""
    current: Labels = sides.service["spec"].get("selector") or {}
    live_name, following_name = sides.pair.live_name, sides.pair.following_name
    port = int(sides.service["spec"]["ports"][0]["port"])
    by_selector = release.traffic.kind == "service"
    live_labels = selector_of(sides.live, current) if by_selector else pod_labels(sides.live)
    following_labels = (
        selector_of(deployment, current) if by_selector else deployment["spec"]["selector"]["matchLabels"]
    )
    return SidesPlan(
        workload=workload.name,
        live_name=live_name,
        following_name=following_name,
        service=sides.service["metadata"]["name"],
        live=Side(
            name=live_name, service=service_of(release, workload.name, live_name), port=port, selector=live_labels
        ),
        following=Side(name=following_name, service=following_name, port=port, selector=dict(following_labels)),
        adopt=adopt,
        shares=release.traffic.shares,
    )


def planned_documents(
    client: KubernetesClient, release: Release, plan: ReleasePlan, around: Surroundings | None = None
) -> tuple[Sides, list[Document]]:
    """Both sides as they are now and the documents of the following one, as the plan has them. Raise ForeignChangeError when the live side changed since.

    `around`: what is in the namespace, where it was read just now.
    """
    planned, target = plan.sides, plan.deployments("api")[0]
    if planned is None:
        raise PermanentError("prepare the following side", plan.release_id, "its plan has no sides")
    sides = read_live_sides(client, release, plan.environment, planned.workload, planned.live_name, around=around)
    documents = following_documents(client, release, sides, plan.image_of(target))
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    deployment["metadata"].setdefault("annotations", {})[COMMIT] = plan.commit
    if deployment["spec"]["template"] != target.after:
        raise ForeignChangeError(
            "prepare the following side",
            f"deployment/{planned.live_name}",
            "it, or a ConfigMap that goes along, was changed since the plan was made",
            "Find out who changed it, then start the release again",
        )
    return sides, documents


def require_unselected(client: KubernetesClient, release: Release, plan: ReleasePlan) -> None:
    """Right before the following side gets its Pods: raise ForeignChangeError when a selector would match them that was made since the checklist looked.

    Backup and migration lie in between: hours.
    """
    if plan.sides is None:
        return
    sides = read_live_sides(client, release, plan.environment, plan.sides.workload, plan.sides.live_name)
    around, new = sides.around, plan.deployments("api")[0].after["metadata"]["labels"]
    found = overlaps(
        sides.pair,
        pod_labels(sides.live),
        new,
        services=around.services,
        budgets=around.budgets,
        policies=around.policies,
        deployments=around.deployments,
        autoscalers=around.autoscalers,
    )
    if refused := [f"{one.kind} {one.name}: {one.found}" for one in found if one.refused]:
        raise ForeignChangeError(
            "fill the side",
            f"deployment/{sides.pair.following_name}",
            f"a selector matches its Pods that did not when the checklist looked: {'; '.join(refused)}",
            "Find out who made it, and let it select by a label that the Deployment or its Service selects by too; then start the release again",
        )
