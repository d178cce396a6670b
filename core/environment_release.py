"""The tables of an environment's file that releases need: [release] and what belongs to it."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from core.environment_checks import ReleaseChecks
from core.environment_frontend import Frontend
from core.environment_gates import Gates
from core.environment_migration import Migration
from core.environment_traffic import Traffic
from core.section import OptionalSecret, OptionalText, Section

Strategy = Literal["rolling", "blue-green"]
# A Kubernetes name, as for most kinds (RFC 1123 label), shortened so that "-green" and a hash still fit.
KUBERNETES_NAME = r"^[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?$"
KubernetesName = Annotated[str, Field(pattern=KUBERNETES_NAME)]
_REPOSITORY = re.compile(r"[a-z0-9]+([._:-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


def _plain_repository(repository: str) -> str:
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError("a repository's address without tag and digest, such as registry.example.com/team/api-server")
    return repository


class Workload(Section):
    """One thing that runs the released image: [[release.workloads]]. The first Deployment with role "api" is the one that traffic is shifted to."""

    name: KubernetesName = Field(description="Name of the Deployment or CronJob.")
    kind: Literal["Deployment", "CronJob"] = Field("Deployment", description="Deployment or CronJob.")
    role: Literal["api", "worker"] = Field(
        "api",
        description="api: takes traffic, rolled first. worker: rolled after the api, with all of the traffic there.",
    )
    container: OptionalText = Field(None, description="Its container that runs the image. Empty: the only one it has.")
    repository: OptionalText = Field(
        None, description="Repository of its image, when it is another than release.repository; the same tag is taken."
    )
    config_maps: tuple[str, ...] = Field(
        (),
        description="ConfigMaps that its Pods read and that a release takes along: as copies whose names hold a hash, so that an old Pod never reads new configuration.",
    )
    init_containers: tuple[str, ...] = Field((), description="Init containers that run the same image.")

    @field_validator("repository")
    @classmethod
    def _address_only(cls, repository: str | None) -> str | None:
        return None if repository is None else _plain_repository(repository)

    @property
    def key(self) -> str:
        """How plans and journals call it: deployment/api-server."""
        return f"{self.kind.lower()}/{self.name}"


class Registry(Section):
    """Where a tag is looked up, once: what is rolled out is the digest that it had then."""

    kind: Literal["registry", "ecr", "none"] = Field(
        "registry",
        description="registry: the registry's own API. ecr: AWS ECR's API by the worker's role. none: no lookup; only digests can be released.",
    )
    username: OptionalSecret = Field(
        None, description="Secret reference. Empty: no sign-in (anonymous tokens are asked for)."
    )
    password: OptionalSecret = Field(None, description="Secret reference; goes with username.")
    address: OptionalText = Field(
        None, description="Address to ask instead of https:// and the repository's host, e.g. http://127.0.0.1:5000."
    )
    region: OptionalText = Field(None, description="ecr: region of the repository. Empty: taken from its host name.")

    @model_validator(mode="after")
    def _credentials_agree(self) -> "Registry":
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self


class Release(Section):
    """How a new version gets out: [release]."""

    namespace: KubernetesName = Field(description="Namespace of the workloads.")
    context: OptionalText = Field(
        None, description="Context of the kubeconfig. Empty: its current one, or the Pod's own service account."
    )
    control_namespace: KubernetesName = Field(
        "nightshift", description="Namespace of the journals and of the lease; must exist. Not the workloads' own."
    )
    strategy: Strategy = Field(
        "rolling",
        description="rolling: the Deployment rolls by itself. blue-green: two of them, and traffic is shifted.",
    )
    repository: str = Field(description="Repository of the image, without tag: registry.example.com/team/api-server.")
    registry: Registry = Field(default_factory=Registry, description="Where tags are looked up.")
    workloads: Annotated[tuple[Workload, ...], Field(min_length=1)] = Field(
        description="What runs the image: [[release.workloads]]."
    )
    approval: bool = Field(
        True, description="Ask a person before anything is changed; the form shows plan and preflight."
    )
    approval_hours: int = Field(24, ge=1, le=168, description="How long a run waits for its approval.")
    backup: bool = Field(True, description="Back up the migrated database first, at least to the state decoded.")
    rollout_minutes: int = Field(
        15,
        ge=1,
        le=240,
        description="How long one workload may take to roll out; its progress deadline counts besides.",
    )
    settle_seconds: int = Field(
        5,
        ge=0,
        le=3600,
        description="rolling: how long new Pods must stay ready, without a restart, before they count as rolled out.",
    )
    keep_full_minutes: int = Field(
        60, ge=0, le=1440, description="blue-green: how long the old colour keeps its full size after the shift."
    )
    drain_seconds: int = Field(
        30,
        ge=0,
        le=3600,
        description="blue-green: how long a colour that gets no traffic any more may end its requests.",
    )
    record_secrets: bool = Field(
        False,
        description="Note the resourceVersion of each Secret that the Pods read, so that a rollback tells when one changed. Needs get on them by name.",
    )
    tracked_by_allowed: tuple[Literal["argocd", "flux", "helm"], ...] = Field(
        (),
        description="Tools whose tracked objects a release may change all the same: you told them to leave images, sizes and traffic alone.",
    )
    migration: Migration | None = Field(None, description="The database migration that goes first.")
    traffic: Traffic = Field(default_factory=Traffic, description="blue-green: how traffic is shifted.")
    gates: Gates = Field(default_factory=Gates, description="What must hold at each step of a shift.")
    checks: ReleaseChecks = Field(default_factory=ReleaseChecks, description="The checklist before a release.")
    frontend: Frontend | None = Field(None, description="The front end that a release may carry along.")

    @field_validator("repository")
    @classmethod
    def _address_only(cls, repository: str) -> str:
        return _plain_repository(repository)

    @model_validator(mode="after")
    def _workloads_agree(self) -> "Release":
        keys = [workload.key for workload in self.workloads]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"release.workloads names {', '.join(twice)} twice")
        if not self.deployments("api"):
            raise ValueError('release.workloads needs a Deployment with role = "api"')
        if self.control_namespace == self.namespace:
            raise ValueError("release.control_namespace must be another namespace than release.namespace")
        if self.strategy == "blue-green" and self.traffic.kind == "none":
            raise ValueError('release.strategy = "blue-green" needs [release.traffic] with a kind')
        if self.strategy == "blue-green" and len(self.deployments("api")) != 1:
            raise ValueError(
                'release.strategy = "blue-green" shifts one Deployment: exactly one workload with role = "api"'
            )
        return self

    def deployments(self, role: str) -> tuple[Workload, ...]:
        """The Deployments of a role, in the file's order."""
        return tuple(one for one in self.workloads if one.kind == "Deployment" and one.role == role)

    @property
    def cron_jobs(self) -> tuple[Workload, ...]:
        """The CronJobs, in the file's order."""
        return tuple(one for one in self.workloads if one.kind == "CronJob")
