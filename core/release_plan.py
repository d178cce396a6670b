"""What a release is going to change: made before anything is, kept signed in S3, and named by its hash wherever somebody says yes to it."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from core.canonical import canonical_bytes, sha256_hex
from core.environment_release import Strategy
from core.frontend import FrontendPlan
from core.manifest import Record, Sha256
from core.release_settings import PlannedSettings
from core.traffic import Side

Document = dict[str, Any]
Compatibility = Literal["backward", "breaking"]
Migrate = Literal["yes", "no"]

# On the workloads: which commit they run. An image tells it to nobody.
COMMIT = "nightshift.dev/commit"


class Target(Record):
    """One workload and its Pod template, as it is and as it is to become. Server-side defaults are in both, so that they can be compared with what is read later."""

    key: str
    kind: Literal["Deployment", "CronJob"]
    name: str
    role: Literal["api", "worker"]
    containers: tuple[str, ...]
    before: Document
    after: Document
    commit_before: str = ""
    suspended: bool = False

    def runs(self, commit: str) -> bool:
        """Whether it runs the images of this release and this commit already."""
        before, after = images_of(self.before), images_of(self.after)
        return self.commit_before == commit and all(before.get(name) == after.get(name) for name in self.containers)


class MigrationPlan(Record):
    """The migration that goes first."""

    database: str
    image: str
    command: tuple[str, ...] = ()


class SidesPlan(Record):
    """The two sides of a blue-green release. `live`: who serves when it begins; `service`: the Service that is copied for a side."""

    workload: str
    live_name: str
    following_name: str
    service: str
    live: Side
    following: Side
    adopt: bool
    shares: tuple[int, ...]


class ReleasePlan(Record):
    """All that a release is going to do. Equal plans have equal hashes: it holds nothing that changes by itself, such as sizes and times."""

    format: Literal["nightshift-release-plan/1"] = "nightshift-release-plan/1"
    environment: str
    release_id: str
    strategy: Strategy
    namespace: str
    commit: str
    image: str
    requested_by: str
    schema_compatibility: Compatibility
    targets: tuple[Target, ...]
    sides: SidesPlan | None = None
    migration: MigrationPlan | None = None
    backup: tuple[str, ...] = ()
    config_copies: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    waived: dict[str, str] = Field(default_factory=dict)
    # None: of a plan that an older nightshift kept.
    settings: PlannedSettings | None = None
    # None, too: of a release that carries none.
    frontend: FrontendPlan | None = None

    @property
    def sha256(self) -> Sha256:
        """The plan's hash."""
        without = {name for name in ("settings", "frontend") if getattr(self, name) is None}
        return sha256_hex(canonical_bytes(self.model_dump(mode="json", exclude=without)))

    @property
    def is_live_already(self) -> bool:
        """Whether the same commit and images run already: then nothing is done."""
        front = self.frontend is None or self.frontend.is_live
        return front and all(target.runs(self.commit) for target in self.targets)

    def deployments(self, role: str) -> tuple[Target, ...]:
        """The Deployments of a role, in order."""
        return tuple(one for one in self.targets if one.kind == "Deployment" and one.role == role)

    def image_of(self, target: Target) -> str:
        """The image that a workload is to run."""
        return images_of(target.after)[target.containers[0]]

    @property
    def cron_jobs(self) -> tuple[Target, ...]:
        """The CronJobs, in order."""
        return tuple(one for one in self.targets if one.kind == "CronJob")


class KeptPlan(Record):
    """A plan as kept in S3, with when and by which run it was made."""

    format: Literal["nightshift-kept-plan/1"] = "nightshift-kept-plan/1"
    plan: ReleasePlan
    plan_sha256: Sha256
    flow_run_id: str
    made_at: AwareDatetime


def release_id_of(flow_run_id: str) -> str:
    """Given the id of a flow run, return the id of its release: the same for a run that is started again."""
    return f"r-{flow_run_id.replace('-', '')[:12]}"


def template_of(document: Document) -> Document:
    """The Pod template of a Deployment, Job or CronJob."""
    spec: Document = document.get("spec") or {}
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"].get("spec") or {}
    template: Document = spec.get("template") or {}
    return template


def template_patch(kind: str, patch: Document) -> Document:
    """Given a merge patch of a Pod template, return that of the object of this kind."""
    return (
        {"spec": {"jobTemplate": {"spec": {"template": patch}}}} if kind == "CronJob" else {"spec": {"template": patch}}
    )


def with_images(template: Document, names: tuple[str, ...], image: str) -> Document:
    """Given a Pod template and the names of containers, return it with their image changed. Raise ValueError naming a container that it does not have."""
    spec = dict(template.get("spec") or {})
    found: set[str] = set()
    for part in ("containers", "initContainers"):
        if part in spec:
            spec[part] = [{**one, "image": image} if one.get("name") in names else one for one in spec[part]]
            found |= {str(one.get("name")) for one in spec[part]}
    if missing := sorted(set(names) - found):
        raise ValueError(f"no container {', '.join(missing)}; it has {', '.join(sorted(found))}")
    return {**template, "spec": spec}


def images_of(template: Document) -> dict[str, str]:
    """Container name → image, init containers included."""
    spec = template.get("spec") or {}
    return {
        str(one.get("name")): str(one.get("image"))
        for part in ("initContainers", "containers")
        for one in spec.get(part) or ()
    }
