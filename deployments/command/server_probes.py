"""What `nightshift check` asks the Prefect server: whether it answers us, and whether the environment's nights begin without a person."""

from collections.abc import Iterator
from typing import Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkQueue
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from core.checks import Check
from core.environment import Environment
from core.errors import NightshiftError, PermanentError
from core.unattended import Deployed, PoolState, unattended_checks, unattended_flows
from deployments.command.prefect_api import Server, deploy_command, find_server

SERVER_CHECK = "Prefect server"


def look_at_server(environment: Environment) -> Iterator[Check]:
    """None, or one that is away, is a warning: it may run elsewhere, or be started yet. One that refuses us is a failure: no run would begin."""
    try:
        server = find_server(environment.name)
    except NightshiftError as error:
        yield Check(name=SERVER_CHECK, state="warning", found=error.found, next_step=error.next_step)
        return
    try:
        # One more try, which is enough for one that is busy: Prefect's client would wait for longer than the probe may take.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}), server.client() as client:
            version = client.api_version()
            unattended = list(_unattended(client, environment))
    except NightshiftError as error:
        yield _away(server, error)
    else:
        yield Check(name=SERVER_CHECK, state="passed", found=f"{server.api_url}, {version}")
        yield from unattended


def _away(server: Server, error: NightshiftError) -> Check:
    found, refused = f"{server.api_url}: {error.found}", isinstance(error, PermanentError)
    state: Literal["failed", "warning"] = "failed" if refused else "warning"
    return Check(name=SERVER_CHECK, state=state, found=found, next_step=error.next_step)


def _unattended(client: SyncPrefectClient, environment: Environment) -> Iterator[Check]:
    names = [f"{flow}/{environment.name}" for flow in unattended_flows(environment)]
    deployments = {name: _deployed(client, name) for name in names}
    pools = {one.pool: _pool(client, one.pool) for one in deployments.values() if one is not None and one.pool}
    return unattended_checks(deployments, pools, deploy_command(environment.name))


def _deployed(client: SyncPrefectClient, name: str) -> Deployed | None:
    try:
        found = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None
    schedules = sum(one.active for one in found.schedules)
    pool, name = found.work_pool_name or "", found.work_queue_name or ""
    queue = _queue(client, name, pool) if pool and name else None
    is_paused, is_closed = queue is not None and queue.is_paused, queue is not None and queue.concurrency_limit == 0
    return Deployed(found.paused, schedules, pool, name if is_paused else "", name if is_closed else "")


def _queue(client: SyncPrefectClient, name: str, pool: str) -> WorkQueue | None:
    """The queue of a pool: of one that is paused, or whose limit is 0, the pool itself says nothing."""
    try:
        return client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        return None


def _pool(client: SyncPrefectClient, name: str) -> PoolState:
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        return PoolState.LACKING
    if found.is_paused:
        return PoolState.PAUSED
    if found.concurrency_limit == 0:
        return PoolState.CLOSED
    return PoolState(found.status.value) if found.status is not None else PoolState.NOT_READY
