"""Starting a deployment and following its run: what every `nightshift` command that runs a flow does."""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterLevel,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun
from prefect.client.schemas.sorting import ArtifactSort, LogSort, TaskRunSort
from prefect.exceptions import ObjectNotFound
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from core.errors import PermanentError
from core.release_checks import STATE_NAMES
from core.run_names import name_before
from deployments.command.prefect_api import prefect_command

# A server that restarts is back within this; the run itself goes on meanwhile.
PATIENCE_SECONDS = 300
_EVERY_SECONDS = 1.0
T = TypeVar("T")
TaskState = Literal["waiting", "running", "passed", "failed", "waived", "not-configured"]
# A task that is done may have found an item of the checklist not well: the name of its state says so.
_OF_ITEMS: dict[str, TaskState] = {name: state for state, name in STATE_NAMES.items()}


@dataclass(frozen=True)
class StepView:
    """A task run as a person sees it; `seconds` is how long it has run."""

    name: str
    state: TaskState
    seconds: float


@dataclass(frozen=True)
class ProgressView:
    """A progress artifact: 0 to 100 percent and a sentence."""

    key: str
    percent: float
    sentence: str


@dataclass(frozen=True)
class RunView:
    """A flow run at one moment. `state_type` and `state_name` are Prefect's; `waited_seconds` is how long it has been there without being picked up.

    `set_by_hand`: it is Completed though its flow did not say so; none of ours completes without a message, nor those that report before their report is kept.
    """

    run_id: UUID
    name: str
    state_type: str
    state_name: str
    message: str
    seconds: float
    waited_seconds: float
    steps: tuple[StepView, ...] = ()
    progress: tuple[ProgressView, ...] = ()
    set_by_hand: bool = False

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, whichever."""
        return self.state_type in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    @property
    def waits(self) -> bool:
        """Whether the run is suspended until a person answers its form in the UI."""
        return self.state_type == "PAUSED"

    @property
    def well(self) -> bool:
        """Whether the flow itself said that it completed."""
        return self.state_type == "COMPLETED" and not self.set_by_hand


def deployment_exists(client: SyncPrefectClient, name: str) -> bool:
    """Whether the server knows a deployment FLOW/NAME."""
    try:
        client.read_deployment_by_name(name)
    except ObjectNotFound:
        return False
    return True


def start_deployment(
    client: SyncPrefectClient, name: str, parameters: Mapping[str, Any], *, idempotency_key: str | None = None
) -> UUID:
    """Given a deployment FLOW/NAME and its parameters, start a run and return its id. Raise PermanentError when the server knows no such deployment.

    With the same idempotency key the server starts one run, however often it is asked; without one, a key is made for this call.
    """
    try:
        deployment = client.read_deployment_by_name(name)
    except ObjectNotFound as error:
        raise PermanentError(
            f"start {name}",
            str(client.api_url),
            "the server knows no such deployment",
            f"Put all of them there: {prefect_command('--no-prompt deploy --all')}",
        ) from error
    key = idempotency_key or f"nightshift-{uuid.uuid4()}"
    flow, _, environment = name.partition("/")
    called = name_before(flow, environment, {**deployment.parameters, **parameters})
    run = _patiently(
        lambda: client.create_flow_run_from_deployment(
            deployment.id, name=called, parameters=dict(parameters), idempotency_key=key
        ),
        PATIENCE_SECONDS,
    )
    return run.id


def follow_run(
    client: SyncPrefectClient,
    run_id: UUID,
    *,
    every_seconds: float = _EVERY_SECONDS,
    patience_seconds: float = PATIENCE_SECONDS,
    report: str = "",
) -> Iterator[RunView]:
    """Given a run's id, yield how it stands, until and including its end, or until it waits for a person.

    A server that does not answer is waited for, for as long as patience says. `report`: the key of the report without which the run cannot have completed.
    """
    while True:
        view = _patiently(lambda: _view(client, run_id, report), patience_seconds)
        yield view
        if view.finished or view.waits:
            return
        time.sleep(every_seconds)


def read_table(client: SyncPrefectClient, run_id: UUID, key_begins: str) -> list[dict[str, Any]]:
    """The rows of the newest table that a run showed under a key that begins so; none when it showed none."""
    found = _newest_artifact(client, run_id, "table", key_begins)
    rows: list[dict[str, Any]] = json.loads(str(found.data)) if found is not None else []
    return rows


def read_markdown(client: SyncPrefectClient, run_id: UUID, key_begins: str) -> str:
    """The newest text that a run showed under a key that begins so; "" when it showed none."""
    found = _newest_artifact(client, run_id, "markdown", key_begins)
    return str(found.data) if found is not None else ""


def _newest_artifact(client: SyncPrefectClient, run_id: UUID, kind: str, key_begins: str) -> Artifact | None:
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=[kind])),
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
        sort=ArtifactSort.CREATED_DESC,
    )
    return next((one for one in found if (one.key or "").startswith(key_begins)), None)


def last_error(client: SyncPrefectClient, run_id: UUID) -> str:
    """The last line of the last error that a run logged, "" when there is none: a crash's state does not say why."""
    logs = client.read_logs(
        LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]), level=LogFilterLevel(ge_=logging.ERROR)),
        sort=LogSort.TIMESTAMP_DESC,
    )
    # What the worker says of the process that ended tells nothing of the run.
    said = [
        log.message.strip() for log in logs if log.name != "prefect.runner.flow_run_executor" and log.message.strip()
    ]
    return said[0].splitlines()[-1].strip() if said else ""


def _patiently(call: Callable[[], T], seconds: float) -> T:
    retrying = Retrying(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        reraise=True,
    )
    return retrying(call)


def _view(client: SyncPrefectClient, run_id: UUID, report: str) -> RunView:
    run = client.read_flow_run(run_id)
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    # The newest 200 (the server's limit for an answer); a screen shows fewer.
    tasks = client.read_task_runs(flow_run_filter=this_run, sort=TaskRunSort.EXPECTED_START_TIME_DESC)
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=["progress"])),
        flow_run_filter=this_run,
        sort=ArtifactSort.CREATED_DESC,
    )
    view = run_view(run, reversed(tasks), artifacts)
    if report and view.well and not read_markdown(client, run_id, report):
        return replace(view, set_by_hand=True)
    return view


def run_view(run: FlowRun, tasks: Iterable[TaskRun], artifacts: list[Artifact]) -> RunView:
    """Given what the server says of a run, return it as a person sees it."""
    state = run.state
    message = " ".join(((state.message if state else None) or "").split())
    return RunView(
        run_id=run.id,
        name=run.name,
        state_type=state.type.value if state else "PENDING",
        state_name=(state.name if state else None) or "Pending",
        message=message,
        seconds=run.estimated_run_time.total_seconds(),
        waited_seconds=_waited_seconds(run),
        steps=tuple(StepView(task.name, _task_state(task), task.estimated_run_time.total_seconds()) for task in tasks),
        progress=tuple(_progress(artifact) for artifact in sorted(artifacts, key=lambda artifact: artifact.key or "")),
        set_by_hand=state is not None and state.type.value == "COMPLETED" and not message,
    )


def _waited_seconds(run: FlowRun) -> float:
    if run.start_time is not None or run.expected_start_time is None:
        return 0.0
    now = datetime.now(run.expected_start_time.tzinfo)
    return max(0.0, (now - run.expected_start_time).total_seconds())


def _task_state(task: TaskRun) -> TaskState:
    states: dict[str, TaskState] = {
        "RUNNING": "running",
        "COMPLETED": "passed",
        "FAILED": "failed",
        "CRASHED": "failed",
        "CANCELLED": "failed",
    }
    state = states.get(task.state_type.value if task.state_type else "", "waiting")
    return _OF_ITEMS.get(task.state_name or "", state) if state == "passed" else state


def _progress(artifact: Artifact) -> ProgressView:
    data = artifact.data
    return ProgressView(
        artifact.key or "", float(data) if isinstance(data, int | float) else 0.0, artifact.description or ""
    )
