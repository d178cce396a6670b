"""The beginning and the end of every run: reading its environment, and writing its report to S3 and to the Prefect UI."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from core.errors import ConfigurationError, NightshiftError
from core.evidence import Report, verdict_of
from core.report_text import render_report
from core.told_before import tells_news
from tasks.environments import load_environment
from tasks.evidence import append_report, newest_about
from tasks.log_redaction import install_log_redaction
from tasks.object_store import ObjectStore
from tasks.recording import Record, RunRecord, outcome_sentence
from tasks.retrying import step
from tasks.secrets import signing_keys


def begin_run(environment_name: str, *, flow: str, run_id: str, run_name: str) -> RunRecord:
    """Given an environment's name and the run's identity, read the environment and begin the record.

    Raise ConfigurationError for a wrong file, and for a run of another environment's deployment: before anything is touched.
    """
    install_log_redaction()
    _require_own_environment(environment_name, flow)
    return RunRecord(load_environment(environment_name), flow=flow, run_id=run_id, run_name=run_name)


def _require_own_environment(environment_name: str, flow: str) -> None:
    """The form of a deployment lets its parameters be changed: its concurrency limit, recovery and rights are of its own environment all the same."""
    if deployment.id is None:
        return
    with get_client(sync_client=True) as prefect:
        found = prefect.read_deployment(UUID(deployment.id))
    own = found.parameters.get("environment")
    if own not in {None, environment_name}:
        raise ConfigurationError(
            "begin the run",
            f"{flow}/{found.name}",
            f"the deployment is of environment {own}, and the run was given {environment_name}",
            f"Nothing was touched. Start the deployment of {environment_name}; where there is none, give it one in prefect.yaml",
        )


@step("write the report")
def write_report(run: RunRecord, records: Iterable[Record], inputs: Mapping[str, Any]) -> str:
    """Append the run's report to the environment's chain, show it as an artifact, and return its key. Raise when S3 does not take it."""
    environment, keys = run.environment, signing_keys(run.environment)
    steps = tuple(one for record in records for one in record.steps)
    verdict = "failed" if any(record.failed for record in records) else verdict_of(steps)

    def build(sequence: int, previous_sha256: str | None) -> Report:
        return Report(
            sequence=sequence,
            previous_sha256=previous_sha256,
            flow=run.flow,
            environment=environment.name,
            run_id=run.run_id,
            run_name=run.run_name,
            inputs=dict(inputs),
            tools={
                "nightshift": version("nightshift"),
                "prefect": version("prefect"),
                "python": platform.python_version(),
            },
            started=run.started,
            finished=run.clock(),
            steps=steps,
            verdict=verdict,
        )

    key, report = append_report(ObjectStore.open(environment), environment, keys, build)
    location = f"s3://{environment.store.bucket}/{key}"
    create_markdown_artifact(
        render_report(report, environment.zone, location),
        key=f"{run.flow}-{environment.name}",
        description=f"Evidence: {location}",
    )
    get_run_logger().info("report %s: %s", location, verdict)
    return key


@step("look whether this was told before")
def told_before(run: RunRecord, records: Sequence[Record]) -> int:
    """The number of the last report about the same when it tells all that these records do; 0 when there is news, or nobody can say."""
    try:
        last = newest_about(
            ObjectStore.open(run.environment),
            run.environment,
            signing_keys(run.environment),
            run.flow,
            [record.name for record in records],
        )
    except NightshiftError as error:
        get_run_logger().warning("the last report cannot be read, so this is told anew: %s", error)
        return 0
    steps = [one for record in records for one in record.steps]
    return 0 if last is None or tells_news(steps, last) else last.sequence


def end_run(
    run: RunRecord,
    records: Sequence[Record],
    inputs: Mapping[str, Any],
    *,
    told: Sequence[Record] = (),
    made: str = "",
    name: str = "Failed",
) -> State[None]:
    """Write the report and return the run's final state: Failed when a record failed, or the report could not be kept.

    A state of our own rather than an exception: its message is what a person reads first in the UI and in notifications. It tells what happened though the bucket
    is out of reach.

    Args:
        told: whose outcome the message tells; empty: that of all records.
        made: what was done for good before something failed; told first.
        name: what a Failed state is called in the UI.
    """
    told = told or records
    sentence = made + outcome_sentence(told)
    try:
        write_report(run, records, inputs)
    except NightshiftError as error:
        return Failed(name=name, message=f"{sentence}; BUT ITS REPORT COULD NOT BE KEPT: {error}")
    return Failed(name=name, message=sentence) if any(record.failed for record in told) else Completed(message=sentence)
