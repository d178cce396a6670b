"""From an event to the run that it starts, or to the reason why it starts none. Pure: the rules are the environment's, the time is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from core.environment_webhook import Webhook, WebhookRepository, WebhookTrigger
from core.webhook_event import LONGEST_TEXT, Event, RefusedError, is_plain

# Clocks differ; GitHub's and ours by less than this.
CLOCK_DIFFERENCE = timedelta(minutes=2)
REQUEST_KEYS = frozenset({"flow", "parameters", "deployment_id"})


@dataclass(frozen=True)
class Start:
    """What is to be started: FLOW/ENVIRONMENT with these parameters, once for each `key`."""

    key: str
    environment: str
    flow: str
    parameters: Mapping[str, Any]
    repository: str
    deployment_id: int | None = None

    @property
    def asked_by_job(self) -> bool:
        """Whether an Actions job asked for it: it may wait for how it goes."""
        return self.key.startswith(f"{self.environment}/{self.flow}/actions-")


@dataclass(frozen=True)
class Request:
    """The body of an Actions job: which flow, and parameters that its rule must accept one by one."""

    flow: str
    parameters: Mapping[str, Any]
    deployment_id: int | None


def actions_request(document: Mapping[str, Any]) -> Request:
    """Given the body of a job's request, return it. Raise RefusedError (422) naming what is wrong."""
    unknown = sorted(set(document) - REQUEST_KEYS)
    if unknown:
        raise RefusedError(422, f"the body has a key {unknown[0][:40]!r}; known are {', '.join(sorted(REQUEST_KEYS))}")
    flow, parameters, deployment = (
        document.get("flow", "release"),
        document.get("parameters", {}),
        document.get("deployment_id"),
    )
    if not isinstance(flow, str):
        raise RefusedError(422, "flow is no text")
    if not isinstance(parameters, dict):
        raise RefusedError(422, "parameters is no object")
    for name, value in parameters.items():
        # No tables and lists: to Prefect a table may be a reference to a block, or a template.
        if not isinstance(value, str | int | bool):
            raise RefusedError(422, f"parameter {name[:40]!r} is no text, number, true or false")
        if isinstance(value, str) and value and not is_plain(value):
            raise RefusedError(422, f"parameter {name[:40]!r} is no plain text of at most {LONGEST_TEXT} letters")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise RefusedError(422, f"parameter {name[:40]!r} is too large")
    if deployment is not None and (
        isinstance(deployment, bool) or not isinstance(deployment, int) or not 0 < deployment < 2**63
    ):
        raise RefusedError(422, "deployment_id is no positive number")
    return Request(flow, parameters, deployment)


def chosen_start(
    environment: str, webhook: Webhook, event: Event, now: datetime, request: Request | None = None
) -> Start:
    """Given an event that was proven to be GitHub's, return what it starts. Raise RefusedError: 403 when no rule allows it, 409 when it is too old, 422 when a
    parameter's field is not there or not accepted. `request` is what an Actions job asked for."""
    repository = next((one for one in webhook.repositories.values() if one.id == event.repository_id), None)
    if repository is None:
        raise RefusedError(403, f"repository {event.repository_id} is not in [webhook.repositories]")
    _require_fresh(event, timedelta(minutes=webhook.max_age_minutes), now)
    trigger = _first_that_fits(repository, event, request)
    parameters = {"environment": environment, **trigger.fixed, **_taken(trigger, event), **_accepted(trigger, request)}
    key = f"{environment}/{trigger.flow}/{event.way}-{event.repository_id}-{event.subject}"
    return Start(key, environment, trigger.flow, parameters, repository.repository, event.deployment_id)


def fits(pattern: str, text: str) -> bool:
    """Whether a text is the pattern's; a `*` at its end stands for any rest."""
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _first_that_fits(repository: WebhookRepository, event: Event, request: Request | None) -> WebhookTrigger:
    reason = f"no rule for event {event.way}"
    for trigger in repository.triggers:
        if trigger.event != event.way:
            continue
        if request is not None and request.flow != trigger.flow:
            reason = f"no rule lets an Actions job start {request.flow[:40]!r}"
        elif not any(fits(pattern, event.ref) for pattern in trigger.refs):
            reason = f"no rule allows ref {event.ref[:100]!r}"
        elif trigger.workflows and event.workflow not in trigger.workflows:
            reason = f"no rule allows workflow {event.workflow[:200]!r}"
        elif trigger.github_environment and event.github_environment != trigger.github_environment:
            reason = f"no rule allows GitHub's environment {event.github_environment[:60]!r}"
        else:
            return trigger
    raise RefusedError(403, reason)


def _require_fresh(event: Event, most: timedelta, now: datetime) -> None:
    if event.happened is None:
        return
    if now - event.happened > most:
        minutes = int((now - event.happened).total_seconds() // 60)
        raise RefusedError(409, f"it happened {minutes} minutes ago, longer than max_age_minutes")
    if event.happened - now > CLOCK_DIFFERENCE:
        raise RefusedError(409, "it happened in the future: compare this machine's clock")


def _taken(trigger: WebhookTrigger, event: Event) -> dict[str, str]:
    missing = sorted(field for field in trigger.take.values() if field not in event.fields)
    if missing:
        raise RefusedError(422, f"the event has no {missing[0]}")
    return {parameter: event.fields[field] for parameter, field in trigger.take.items()}


def _accepted(trigger: WebhookTrigger, request: Request | None) -> dict[str, Any]:
    if request is None:
        return {}
    unknown = sorted(set(request.parameters) - set(trigger.accept))
    if unknown:
        raise RefusedError(422, f"parameter {unknown[0][:40]!r} is not accepted from a job")
    return dict(request.parameters)
