"""What a release asks for, and the plan that is made of it: images by digest, and the live state."""

from __future__ import annotations

from collections.abc import Mapping

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from core.colour_pair import sides_of
from core.config_copies import secret_names, with_config_copies
from core.environment import Environment
from core.environment_release import Release, Strategy, Workload
from core.errors import ConfigurationError, PermanentError
from core.image_reference import ResolvedImage, split_tag_or_digest
from core.manifest import Record
from core.release_plan import Compatibility, MigrationPlan, ReleasePlan, SidesPlan, Target, release_id_of
from core.release_plan_text import PlannedObject, plan_text
from core.release_settings import planned_settings
from tasks.colours import Surroundings, read_surroundings
from tasks.config_copies import read_config_copies
from tasks.environments import load_environment
from tasks.frontend import plan_frontend
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.planned_objects import planned_objects
from tasks.registry import resolve_image
from tasks.release_run import release_of
from tasks.release_sides import following_documents, live_side, plan_sides, read_live_sides
from tasks.release_world import find_target
from tasks.retrying import step
from tasks.secret_versions import read_secret_versions


class ReleaseRequest(Record):
    """What was asked for. `strategy`: None for the environment's own."""

    environment: str
    flow_run_id: str
    image: str
    commit: str
    strategy: Strategy | None = None
    schema_compatibility: Compatibility = "backward"
    migrate: bool = True
    migrate_command: tuple[str, ...] = ()
    adopt: bool = False
    requested_by: str
    skip_checks: dict[str, str] = Field(default_factory=dict)
    frontend: str = ""

    @property
    def release_id(self) -> str:
        """The release's id."""
        return release_id_of(self.flow_run_id)


class Images:
    """Repository → image by digest, each asked of its registry once. Not a dataclass on purpose: Prefect hands it to tasks as it is."""

    def __init__(self, found: dict[str, ResolvedImage]) -> None:
        self.found = found

    @classmethod
    def of_digests(cls, digests: Mapping[str, str], tag: str) -> Images:
        """Images that were looked up before."""
        name, _ = split_tag_or_digest(tag)
        return cls({one: ResolvedImage(repository=one, tag=name, digest=digest) for one, digest in digests.items()})

    @property
    def digests(self) -> dict[str, str]:
        """Repository → digest."""
        return {one: image.digest for one, image in self.found.items()}

    def of(self, release: Release, workload: Workload) -> ResolvedImage:
        """The image of a workload."""
        return self.found[workload.repository or release.repository]


@step("resolve {request.image}")
def resolve_images(request: ReleaseRequest) -> Images:
    """Look the tag up in every repository that the release takes an image from, once: what is rolled out is the digest that it has now.

    Raise ConfigurationError or PermanentError when there is none such, TemporaryError when the registry stays away.
    """
    environment = load_environment(request.environment)
    release = release_of(environment)
    repositories = [release.repository, *(one.repository for one in release.workloads if one.repository)]
    if release.migration is not None and request.migrate:
        repositories.append(release.migration.repository or release.repository)
    # A digest is one repository's; the others are then asked for the same one, and say that they do not have it.
    found = {one: resolve_image(environment, release, one, request.image) for one in dict.fromkeys(repositories)}
    for image in found.values():
        get_run_logger().info("%s", image.pinned)
    return Images(found)


@step("plan {request.release_id}")
def make_plan(request: ReleaseRequest, images: Images, shown: str = "") -> ReleasePlan:
    """Read the live state and return what would be changed; show it as an artifact, unless it has the hash of the one that was `shown` before. Nothing is written
    to the cluster.

    Raise ConfigurationError when workloads are not as the environment's file says, PermanentError when traffic is split, a side is missing, or a colour serves
    that a rolling release would not change.
    """
    environment = load_environment(request.environment)
    release = release_of(environment)
    strategy = request.strategy or release.strategy
    if strategy == "blue-green":
        _require_one_that_is_shifted(release)
    frontend = plan_frontend(release, request.frontend)
    with KubernetesClient.open(release.context) as client:
        if strategy == "rolling":
            _require_traffic_in_place(client, release)
        sides, around, targets = None, None, []
        for workload in release.workloads:
            pinned = images.of(release, workload).pinned
            if strategy == "blue-green" and workload in release.deployments("api"):
                sides, target, around = _sides(client, release, environment, workload, pinned, adopt=request.adopt)
            else:
                target = _in_place(client, release, environment, workload, pinned)
            targets.append(target)
        secrets = _secret_versions(client, release, targets)
        named = [name for one in release.workloads for name in one.config_maps]
        found = read_config_copies(client, release.namespace, environment.name, dict.fromkeys(named))
        copies = {name: str(copy["metadata"]["name"]) for name, copy in found.items()}
    plan = ReleasePlan(
        environment=environment.name,
        release_id=request.release_id,
        strategy=strategy,
        namespace=release.namespace,
        commit=request.commit,
        image=images.found[release.repository].pinned,
        requested_by=request.requested_by,
        schema_compatibility=request.schema_compatibility,
        targets=tuple(targets),
        sides=sides,
        migration=_migration(release, request, images),
        backup=(release.migration.database,)
        if release.migration is not None and request.migrate and release.backup
        else (),
        config_copies=copies,
        secrets=secrets,
        waived=request.skip_checks,
        settings=planned_settings(release, strategy),
        frontend=frontend,
    )
    if plan.sha256 == shown:
        return plan
    create_markdown_artifact(
        plan_text(plan, _objects(environment, plan, around)),
        key=f"release-plan-{plan.release_id}",
        description=f"Plan {plan.sha256[:12]}",
    )
    return plan


def _require_one_that_is_shifted(release: Release) -> None:
    """Raise ConfigurationError when the environment's file, which may say rolling, is not enough for blue-green."""
    wrong, way_out = "", ""
    if release.traffic.kind == "none":
        wrong, way_out = "the environment shifts no traffic", "Configure [release.traffic]"
    elif len(several := release.deployments("api")) != 1:
        wrong = f'it shifts one Deployment, and {", ".join(one.name for one in several)} have role = "api"'
        way_out = "Leave one of them in release.workloads"
    if wrong:
        raise ConfigurationError("plan the release", "blue-green", wrong, f"{way_out}, or release rolling")


def _require_traffic_in_place(client: KubernetesClient, release: Release) -> None:
    """Raise PermanentError where there are colours and one of them serves: what a rolling release changes gets no request, and would be called live all the same."""
    deployments = release.deployments("api")
    if release.traffic.kind == "none" or len(deployments) != 1:
        return
    (workload,) = deployments
    there = client.list(find_kind(client, "Deployment").path(release.namespace), metadata_only=True)
    if not {one["metadata"]["name"] for one in there} & {*sides_of(workload.name)} - {workload.name}:
        return
    if (serving := live_side(client, release, workload.name)) != workload.name:
        raise PermanentError(
            "plan the release",
            "rolling",
            f"{serving} has the traffic, and a rolling release changes {workload.name}",
            "Release blue-green",
        )


def _objects(environment: Environment, plan: ReleasePlan, around: Surroundings | None) -> list[PlannedObject]:
    """What would become of each object beside the workloads. What keeps us from looking is told by the checklist, with what to do about it."""
    if plan.is_live_already:
        return []
    release = release_of(environment)
    try:
        with KubernetesClient.open(release.context) as client:
            return planned_objects(client, release, plan, around)
    except PermanentError as error:
        get_run_logger().warning("not every object that would change could be looked at: %s", error)
        return [PlannedObject("objects beside the workloads", {}, {"not looked at": str(error)})]


def _in_place(
    client: KubernetesClient, release: Release, environment: Environment, workload: Workload, image: str
) -> Target:
    target = find_target(client, release, workload, image)
    if not workload.config_maps:
        return target
    copies = read_config_copies(client, release.namespace, environment.name, workload.config_maps)
    names = {name: copy["metadata"]["name"] for name, copy in copies.items()}
    return target.model_copy(update={"after": with_config_copies(target.after, names)})


def _sides(
    client: KubernetesClient, release: Release, environment: Environment, workload: Workload, image: str, *, adopt: bool
) -> tuple[SidesPlan, Target, Surroundings]:
    around = read_surroundings(client, release.namespace)
    name = live_side(client, release, workload.name, around)
    sides = read_live_sides(client, release, environment.name, workload.name, name, around=around)
    documents = following_documents(client, release, sides, image)
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    live = workload.model_copy(update={"name": name})
    target = find_target(client, release, live, image).model_copy(
        update={"key": workload.key, "after": deployment["spec"]["template"]}
    )
    return plan_sides(release, workload, sides, deployment, adopt=adopt), target, around


def _migration(release: Release, request: ReleaseRequest, images: Images) -> MigrationPlan | None:
    if release.migration is None or not request.migrate:
        return None
    image = images.found[release.migration.repository or release.repository].pinned
    return MigrationPlan(database=release.migration.database, image=image, command=request.migrate_command)


def _secret_versions(client: KubernetesClient, release: Release, targets: list[Target]) -> dict[str, str]:
    """The resourceVersion of each Secret that the Pods read: a rollback tells when one changed since. Never its content."""
    if not release.record_secrets:
        return {}
    names = sorted({name for one in targets for name in secret_names(one.before)})
    return read_secret_versions(client, release.namespace, names)
