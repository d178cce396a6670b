"""The ticks of a watch: a schedule of its own on the environment's deployment post-deploy-watch, and runs that are asked for at once.

Whoever asks twice gets the first's: a schedule by its slug, a run by its idempotency key (both seen on a Prefect server 3.8.8).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import RRuleSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

from core.errors import ConfigurationError, NightshiftError, TemporaryError
from core.run_names import name_before
from core.watch_counts import BUCKET_MINUTES, BUCKETS

WATCH, ROLLBACK, SIGN_OFF = "post-deploy-watch", "rollback", "watch-sign-off"


def slug_of(release_id: str) -> str:
    """The schedule's slug."""
    return f"watch-{release_id}"


def rule_of(first_tick: datetime) -> str:
    """Given the time of the first tick, return the recurrence of all 288 (RFC 5545)."""
    begin = first_tick.astimezone(UTC)
    return f"DTSTART:{begin:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=MINUTELY;INTERVAL={BUCKET_MINUTES};COUNT={BUCKETS}"


def schedule_ticks(environment: str, release_id: str, first_tick: datetime) -> bool:
    """Make the schedule of a watch, and return whether it was not there yet. Raise ConfigurationError when the environment has no such deployment."""
    with _server(f"schedule the watch of {release_id}", WATCH, environment) as (prefect, deployment):
        if any(one.slug == slug_of(release_id) for one in prefect.read_deployment_schedules(deployment)):
            return False
        try:
            prefect.create_deployment_schedules(
                deployment,
                [
                    DeploymentScheduleCreate(
                        schedule=RRuleSchedule(rrule=rule_of(first_tick)),
                        parameters={"environment": environment, "release_id": release_id},
                        slug=slug_of(release_id),
                    )
                ],
            )
        except ObjectAlreadyExists:
            return False
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
            return False
        return True


def remove_schedule(environment: str, release_id: str) -> bool:
    """Remove the schedule of a watch, with the runs that it would have made, and return whether there was one."""
    with _server(f"end the watch of {release_id}", WATCH, environment) as (prefect, deployment):
        found = [one.id for one in prefect.read_deployment_schedules(deployment) if one.slug == slug_of(release_id)]
        for one in found:
            try:
                prefect.delete_deployment_schedule(deployment, one)
            except ObjectNotFound:
                continue
        return bool(found)


def start_run(flow: str, environment: str, parameters: Mapping[str, Any], key: str) -> UUID:
    """Start a deployment's run, once for each key, and return its id."""
    with _server(f"start {flow}", flow, environment) as (prefect, deployment):
        run = prefect.create_flow_run_from_deployment(
            deployment,
            name=name_before(flow, environment, parameters),
            parameters={"environment": environment, **parameters},
            idempotency_key=key,
        )
        return run.id


def ask_for_sign_off(environment: str, release_id: str, times: int) -> UUID:
    """Start the run that waits for a person's sign-off, once for each time that it is asked for, and return its id."""
    return start_run(SIGN_OFF, environment, {"release_id": release_id}, f"sign-off-{release_id}-{times}")


@contextmanager
def _server(attempted: str, flow: str, environment: str) -> Iterator[tuple[SyncPrefectClient, UUID]]:
    """A client, and the id of FLOW/ENVIRONMENT. Errors of the server come out as ours."""
    name = f"{flow}/{environment}"
    try:
        with get_client(sync_client=True) as prefect:
            try:
                deployment = prefect.read_deployment_by_name(name).id
            except ObjectNotFound as error:
                step = f"Make it: prefect --no-prompt deploy --name '*/{environment}'"
                raise ConfigurationError(attempted, name, "the server has no such deployment", step) from error
            yield prefect, deployment
    except NightshiftError:
        raise
    except (PrefectHTTPStatusError, httpx.HTTPError) as error:
        found = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}".rstrip(": ")
        raise TemporaryError(
            attempted, name, found, "Look at the Prefect server; the next sweep of post-deploy-watch tries again"
        ) from error
