"""What a release would do to each object beside its workloads: read, and tried as a dry run. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator

from core.environment_release import Release
from core.fence import Document
from core.merge_patch import apply_merge_patch
from core.release_plan import ReleasePlan, SidesPlan
from core.release_plan_text import PlannedObject
from core.replica_sizes import live_size, pin_change
from core.traffic import split_between
from tasks.colours import Sides, Surroundings, planned_changes
from tasks.config_copies import read_config_copies
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.open_traffic import open_traffic
from tasks.release_sides import planned_documents

# What the API server keeps for itself, and changes by itself.
_NOT_SHOWN = frozenset({"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"})


def planned_objects(
    client: KubernetesClient, release: Release, plan: ReleasePlan, around: Surroundings | None = None
) -> list[PlannedObject]:
    """Given a plan, return each object that would be made or changed beside the workloads, in order: configuration copies; for two sides the following one's
    objects, the live one's autoscaler, and what shares the traffic, as it is once the new version has all of it.
    `around`: what is in the namespace, where it was read just now.

    Raise PermanentError for what the API server or an admission webhook refuses.
    """
    if plan.sides is None:
        copies = read_config_copies(client, release.namespace, plan.environment, plan.config_copies)
        return _changes(client, list(copies.values()))
    found, documents = planned_documents(client, release, plan, around)
    return [*_changes(client, documents), *_of_live_side(client, release, plan, plan.sides, found)]


def _changes(client: KubernetesClient, documents: list[Document]) -> list[PlannedObject]:
    return [_changed(client, path, patch) for path, patch in planned_changes(client, documents).items()]


def _of_live_side(
    client: KubernetesClient, release: Release, plan: ReleasePlan, sides: SidesPlan, found: Sides
) -> Iterator[PlannedObject]:
    if (scaler := found.autoscaler) and (patch := pin_change(scaler, live_size(found.live, scaler))):
        kind = find_kind(client, "HorizontalPodAutoscaler")
        yield _planned(kind.path(release.namespace, scaler["metadata"]["name"]), scaler, patch)
    traffic = open_traffic(client, release, plan.environment, sides.live, sides.following)
    before, patch = traffic.planned(split_between(sides.live, sides.following, 100))
    yield _planned(traffic.path, before, patch)


def _changed(client: KubernetesClient, path: str, patch: Document) -> PlannedObject:
    try:
        return _planned(path, client.get(path), patch)
    except MissingError:
        return PlannedObject(_called(path), {}, patch)


def _planned(path: str, before: Document, patch: Document) -> PlannedObject:
    shown = {key: value for key, value in before.items() if key != "status"}
    shown["metadata"] = {key: value for key, value in before["metadata"].items() if key not in _NOT_SHOWN}
    return PlannedObject(_called(path), shown, apply_merge_patch(patch, shown))


def _called(path: str) -> str:
    return "/".join(path.split("/")[-2:])
