"""The table [release.checks]: the checklist before a release."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.section import Address, Name, OptionalSecret, OptionalText, Section

# A DNS subdomain, as Secrets and most other kinds are named (RFC 1123).
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$")]
Severity = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]


class CiCheck(Section):
    """Item ci: what GitHub says of the commit, by check runs and commit statuses."""

    repository: str = Field(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", description="OWNER/NAME of the repository.")
    api_url: Address = Field("https://api.github.com", description="Address of the API; GitHub Enterprise has its own.")
    token: OptionalSecret = Field(
        None, description="Secret reference: a token that may read checks and commit statuses. Empty: public only."
    )
    required: tuple[str, ...] = Field(
        (),
        description="Names of checks that must be there and have succeeded (skipped or neutral will not do); no others count. Empty: all of the commit's count.",
    )
    ignored: tuple[str, ...] = Field(
        (), description="Names that do not count, such as the job that starts this release and waits for it."
    )


class ScanCheck(Section):
    """Item scan: the image's security scan."""

    kind: Literal["check-run", "ecr"] = Field(description="check-run: a check of the commit. ecr: findings of AWS ECR.")
    name: OptionalText = Field(None, description="check-run: its name; needs [release.checks.ci].")
    fail_at: Severity = Field("HIGH", description="ecr: a finding of this severity or a higher one fails.")
    age_days: int = Field(7, ge=1, le=365, description="ecr: an older scan knows too little and fails.")

    @model_validator(mode="after")
    def _named(self) -> "ScanCheck":
        if (self.kind == "check-run") != (self.name is not None):
            raise ValueError('name goes with kind = "check-run"')
        return self


class NamedSecret(Section):
    """A Secret that must be there."""

    name: ObjectName = Field(description="Name of the Secret, in release.namespace.")
    keys: tuple[str, ...] = Field((), description="Keys that it must have, not empty ones.")


class SecretsCheck(Section):
    """Item secrets: what the new version needs is there, synced and fresh."""

    external: tuple[ObjectName, ...] = Field((), description="ExternalSecrets that must be Ready, synced and fresh.")
    refreshed_hours: int = Field(24, ge=1, le=8760, description="An ExternalSecret refreshed longer ago is not fresh.")
    named: tuple[NamedSecret, ...] = Field(
        (), description="Secrets that must be there: [[release.checks.secrets.named]]."
    )
    read_secrets: bool = Field(
        True,
        description="Look into the named Secrets (the right `get` on them); only their keys are looked at. false: not at all.",
    )


class MonitoringCheck(Section):
    """Item monitoring: who would see that the new version is bad."""

    prometheus: Address = Field(description="Address of Prometheus, or of what answers as it does.")
    token: OptionalSecret = Field(None, description="Secret reference: a bearer token. Empty: none.")
    rules: tuple[str, ...] = Field((), description="Alerts and recording rules that must be loaded and healthy.")
    jobs: tuple[str, ...] = Field((), description="Scrape jobs whose targets must all be up.")


class BaselineQuery(Section):
    """One figure of the running version: [[release.checks.baseline.queries]]."""

    name: Name = Field(description="How the report calls it.")
    query: str = Field(min_length=1, description="PromQL, of one or few series.")


class BaselineCheck(Section):
    """Item baseline: how the running version did until now, kept in the report. Needs [release.checks.monitoring]."""

    queries: Annotated[tuple[BaselineQuery, ...], Field(min_length=1)] = Field(
        description="What is recorded: [[release.checks.baseline.queries]]."
    )
    hours: int = Field(24, ge=1, le=720, description="How far back.")
    samples: int = Field(100, ge=1, le=10_000, description="Fewer numbers than this are no baseline.")


class CapacityCheck(Section):
    """Items capacity and nodes: is there room for the Pods that a release adds."""

    nodes: bool = Field(
        False, description="Also ask whether they fit on the nodes: needs the right to list nodes and all Pods."
    )


class DocumentationCheck(Section):
    """Item documentation: the change is written down."""

    url: str = Field(
        pattern=r"^https?://[^\s@]+$",
        description="Address that must answer; {tag}, {commit} and {digest} are put in, e.g. https://example.com/releases/{tag}.",
    )
    contains: OptionalText = Field(
        None, description="Text that the page must hold, with the same words put in. Empty: any."
    )
    token: OptionalSecret = Field(None, description="Secret reference: a bearer token for that address. Empty: none.")


class StagingCheck(Section):
    """Item staging: staging runs, or ran last, the very image."""

    namespace: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Namespace of staging's workloads."
    )
    context: OptionalText = Field(None, description="Context of the kubeconfig. Empty: the release's own.")


class PostureCheck(Section):
    """Items security-groups, web-acl and cloudfront: read-only looks at AWS."""

    region: OptionalText = Field(None, description="AWS region. Empty: the worker's own.")
    security_groups: tuple[str, ...] = Field((), description="Ids that may be open to the internet on `ports` alone.")
    ports: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = Field((80, 443), description="Ports that are expected.")
    load_balancer: OptionalText = Field(None, description="ARN of the load balancer that must have a web ACL.")
    rate_rule: OptionalText = Field(None, description="Name of its rate-based rule. Empty: any that blocks.")
    distribution: OptionalText = Field(None, description="CloudFront distribution's id.")
    uncached: Annotated[str, Field(pattern=r"^/")] = Field("/api/*", description="Path pattern that it must not cache.")


class ReleaseChecks(Section):
    """The checklist before a release. What is not configured here is not asked, and the report says so."""

    ci: CiCheck | None = Field(None, description="GitHub's checks of the commit.")
    scan: ScanCheck | None = Field(None, description="The image's security scan.")
    secrets: SecretsCheck | None = Field(None, description="Secrets present, synced, fresh.")
    monitoring: MonitoringCheck | None = Field(None, description="Prometheus answers, rules and targets.")
    baseline: BaselineCheck | None = Field(None, description="Figures of the running version.")
    capacity: CapacityCheck = Field(default_factory=CapacityCheck, description="Room for the Pods that a release adds.")
    documentation: DocumentationCheck | None = Field(None, description="The change is written down.")
    staging: StagingCheck | None = Field(None, description="Staging runs the same image.")
    posture: PostureCheck | None = Field(None, description="Security groups, web ACL, CloudFront.")

    @model_validator(mode="after")
    def _tables_agree(self) -> "ReleaseChecks":
        if self.scan is not None and self.scan.kind == "check-run" and self.ci is None:
            raise ValueError('[release.checks.scan] with kind = "check-run" needs [release.checks.ci]')
        if self.baseline is not None and self.monitoring is None:
            raise ValueError("[release.checks.baseline] needs [release.checks.monitoring]")
        return self
