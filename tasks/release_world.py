"""What a release finds in the cluster: its workloads, as they are before anything is changed."""

from core.environment_release import Release, Workload
from core.errors import ConfigurationError, PermanentError
from core.fence import Document
from core.release_plan import COMMIT, ReleasePlan, Target, template_of, with_images
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind


def workload_path(client: KubernetesClient, release: Release, kind: str, name: str) -> str:
    """The path of a workload."""
    return find_kind(client, kind).path(release.namespace, name)


def anchor_path(client: KubernetesClient, release: Release, plan: ReleasePlan) -> str:
    """The path of a workload that every holder stamps and that serves while a release runs: creations, which have no object to look at, go by its stamp."""
    if plan.sides is not None:
        return workload_path(client, release, "Deployment", plan.sides.live_name)
    return workload_path(client, release, plan.targets[0].kind, plan.targets[0].name)


def read_workload(client: KubernetesClient, release: Release, kind: str, name: str) -> Document:
    """A workload as it is. Raise PermanentError when there is none."""
    try:
        return client.get(workload_path(client, release, kind, name))
    except MissingError as error:
        raise PermanentError(
            "read the workload",
            f"{kind} {release.namespace}/{name}",
            "there is none",
            "Correct release.workloads or release.namespace in the environment's file",
        ) from error


def find_target(client: KubernetesClient, release: Release, workload: Workload, image: str) -> Target:
    """Given a workload of the environment's file and the image that it is to run, return it as it is and as it is to become.

    Raise ConfigurationError when it has not the containers that the file names, or several and the file names none.
    """
    document = read_workload(client, release, workload.kind, workload.name)
    before = template_of(document)
    names = _containers(workload, before)
    try:
        after = with_images(before, names, image)
    except ValueError as error:
        raise ConfigurationError("plan the release", workload.key, str(error), "Correct release.workloads") from error
    annotations = document["metadata"].get("annotations") or {}
    return Target(
        key=workload.key,
        kind=workload.kind,
        name=workload.name,
        role=workload.role,
        containers=names,
        before=before,
        after=after,
        commit_before=str(annotations.get(COMMIT, "")),
        suspended=bool(document["spec"].get("suspend")),
    )


def _containers(workload: Workload, template: Document) -> tuple[str, ...]:
    there = [str(one.get("name")) for one in (template.get("spec") or {}).get("containers") or ()]
    if workload.container is None and len(there) != 1:
        raise ConfigurationError(
            "plan the release",
            workload.key,
            f"it has several containers ({', '.join(there)})",
            "Name the one in release.workloads: container = …",
        )
    return (workload.container or there[0], *workload.init_containers)
