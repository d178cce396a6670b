"""The table [webhook]: which events of GitHub start what in this environment. Reading a request is core.webhook_event's business, choosing core.webhook_mapping's."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from core.secret_reference import SecretReference
from core.section import Name, OptionalSecret, OptionalText, Section
from core.webhook_event import FIELDS, Way

ACTIONS_ISSUER = "https://token.actions.githubusercontent.com"
# Two while one is changed for the other; a third would be one that nobody remembers.
MOST_SECRETS = 2
# Restores and swaps are for persons: nothing that arrives from the internet starts one.
StartedFlow = Literal["release", "rollback", "nightly-backup", "dr-drill"]


class WebhookTrigger(Section):
    """One rule: this event, of these refs and workflows, starts this flow in this environment. The first rule that fits counts."""

    event: Way = Field(
        description="deployment, workflow_run (completed with success), release (published): as GitHub sends them. actions: a job with its own token."
    )
    refs: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Allowed refs; * at the end stands for any rest. Branch or tag as the event has it (main, v1.2.3); for actions in full (refs/heads/main)."
    )
    workflows: tuple[str, ...] = Field(
        (),
        description="workflow_run: paths (.github/workflows/build.yml). actions: job_workflow_ref (acme/api/.github/workflows/release.yml@refs/heads/main).",
    )
    github_environment: OptionalText = Field(
        None, description="GitHub's environment of a deployment or of an Actions job. Required for both."
    )
    flow: StartedFlow = Field("release", description="What is started: this flow's deployment of this environment.")
    take: dict[str, str] = Field(
        default_factory=dict,
        description='Parameter = field of the event: {image = "tag", commit = "commit"}. The fields of each event: docs/webhook.md.',
    )
    accept: tuple[str, ...] = Field(
        (), description="actions: parameters that the job may give in its request: texts, numbers, true and false."
    )
    fixed: dict[str, Any] = Field(default_factory=dict, description="Parameters with the same value each time.")

    @model_validator(mode="after")
    def _pinned(self) -> "WebhookTrigger":
        if self.event in {"workflow_run", "actions"} and not self.workflows:
            raise ValueError(
                f"event {self.event!r} needs workflows: else any workflow of the repository could start it"
            )
        if self.event in {"deployment", "actions"} and not self.github_environment:
            raise ValueError(f"event {self.event!r} needs github_environment")
        if self.event in {"deployment", "release"} and self.workflows:
            raise ValueError(f"event {self.event!r} names no workflow")
        if self.accept and self.event != "actions":
            raise ValueError("accept is for actions; other events have fields (take)")
        if any(pattern.startswith("*") or "*" in pattern[:-1] for pattern in self.refs):
            raise ValueError("refs: * stands only at the end, and not alone")
        return self

    @model_validator(mode="after")
    def _parameters_agree(self) -> "WebhookTrigger":
        unknown = sorted(set(self.take.values()) - set(FIELDS[self.event]))
        if unknown:
            raise ValueError(
                f"take: event {self.event!r} has no field {unknown[0]!r}; it has: {', '.join(FIELDS[self.event])}"
            )
        names = [*self.take, *self.accept, *self.fixed]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"parameter {twice[0]!r} is given twice, in take, accept or fixed")
        if "environment" in names:
            raise ValueError("the parameter environment is this environment; it is not chosen by a request")
        return self


class WebhookRepository(Section):
    """A repository whose events count, known by its id: a name can be given up and taken by somebody else."""

    id: int = Field(ge=1, description="GitHub's id of it: gh api repos/OWNER/NAME --jq .id")
    repository: str = Field(
        pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", description="OWNER/NAME; only used to report back."
    )
    triggers: Annotated[tuple[WebhookTrigger, ...], Field(min_length=1)] = Field(description="Its rules, in order.")


class WebhookGitHub(Section):
    """How runs are reported back, as GitHub deployment statuses: a token, or a GitHub App. It needs the right `deployments: write`, and no other."""

    api_url: str = Field(
        "https://api.github.com",
        pattern=r"^https?://[^\s@?#]+$",
        description="Address of the API; GitHub Enterprise has its own.",
    )
    token: OptionalSecret = Field(None, description="Secret reference: a fine-grained token.")
    app_id: int | None = Field(None, ge=1, description="GitHub App: its id.")
    installation_id: int | None = Field(None, ge=1, description="GitHub App: id of its installation.")
    private_key: OptionalSecret = Field(None, description="GitHub App: secret reference of its private key, as PEM.")

    @model_validator(mode="after")
    def _one_way_in(self) -> "WebhookGitHub":
        app = (self.app_id, self.installation_id, self.private_key)
        if any(part is not None for part in app) and None in app:
            raise ValueError("app_id, installation_id and private_key go together")
        if (self.token is None) == (self.private_key is None):
            raise ValueError("either token, or app_id, installation_id and private_key")
        return self


class Webhook(Section):
    """What starts runs from outside, by `nightshift webhook`. Nothing that is not named here does."""

    secrets: Annotated[tuple[SecretReference, ...], Field(max_length=MOST_SECRETS)] = Field(
        (), description="Secret references: GitHub's webhook secret, the newest first; two while it is changed."
    )
    audience: OptionalText = Field(
        None, description="What an Actions token must be made for: one name for each environment. Empty: no tokens."
    )
    issuer: str = Field(
        ACTIONS_ISSUER,
        pattern=r"^https?://[^\s@?#]+[^/\s@?#]$",
        description="Who makes the tokens; GitHub Enterprise has its own.",
    )
    max_age_minutes: int = Field(
        30, ge=1, le=1440, description="An event whose own time is further back is refused: it may be a repetition."
    )
    start_within_hours: int = Field(
        12,
        ge=1,
        le=168,
        description="What was accepted while the Prefect server was away is not started later than this.",
    )
    repositories: Annotated[dict[Name, WebhookRepository], Field(min_length=1)] = Field(
        description="The repositories: [webhook.repositories.NAME]."
    )
    github: WebhookGitHub | None = Field(None, description="How runs are reported back. Empty: they are not.")

    @field_validator("repositories")
    @classmethod
    def _each_once(cls, repositories: dict[str, WebhookRepository]) -> dict[str, WebhookRepository]:
        ids = [one.id for one in repositories.values()]
        if len(set(ids)) < len(ids):
            raise ValueError("two of them have the same id")
        return repositories

    @model_validator(mode="after")
    def _ways_in(self) -> "Webhook":
        events = {trigger.event for one in self.repositories.values() for trigger in one.triggers}
        if events - {"actions"} and not self.secrets:
            raise ValueError(f"event {min(events - {'actions'})!r} needs secrets: without one nothing is believed")
        if "actions" in events and not self.audience:
            raise ValueError("event 'actions' needs an audience")
        return self
