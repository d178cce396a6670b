"""The nightly backup of every database of an environment. Runbook: docs/backup.md.

A database that fails does not stop the others; the run is Failed at its end, and its report says what happened to each.
"""

from typing import Annotated, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from core import run_names
from core.backup_facts import backup_facts, backup_findings, decoded_facts
from core.section import NAME_PATTERN
from core.stock import STEP
from core.units import human_bytes
from flows.run_names import named
from tasks.backup_steps import (
    apply_the_retention,
    check_before,
    choose_databases,
    commit,
    dump_and_digest,
    read_back_and_decode,
    take_stock_of,
)
from tasks.children import children_of_this_run
from tasks.recording import Record
from tasks.report_steps import begin_run, end_run

EnvironmentName = Annotated[str, Field(pattern=NAME_PATTERN)]
RetentionMode = Literal["apply", "dry-run", "skip"]


@flow(name="nightly-backup", flow_run_name=named(run_names.nightly_backup), persist_result=False)
def nightly_backup(
    environment: EnvironmentName,
    databases: list[str] = [],  # noqa: B006 - never changed, and the form in the UI shows it
    retention: RetentionMode = "apply",
) -> State[None]:
    """Back up an environment's databases to S3, prove that each backup decodes, and delete what the retention no longer keeps.

    The UI's form shows what is said here of each parameter.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        databases: Only these databases, by their names in the environment's file. Empty: all.
        retention: apply: delete what the policy no longer keeps. dry-run: show the plan, delete nothing. skip: neither.
    """
    run = begin_run(environment, flow="nightly-backup", run_id=str(flow_run.id), run_name=str(flow_run.name))
    records = [Record(name) for name in choose_databases(run.environment, databases)]
    get_run_logger().info("backing up %s", ", ".join(record.name for record in records))

    # In this order: when the run is cancelled its child processes are ended first, and then the threads that wait for them.
    with ThreadPoolTaskRunner[None](max_workers=run.environment.backups.parallel) as runner, children_of_this_run():
        parameters = [{"environment": environment, "record": record, "retention": retention} for record in records]
        for future in [runner.submit(back_up_database, each) for each in parameters]:
            future.wait()

    inputs = {"databases": [record.name for record in records], "retention": retention}
    return end_run(run, records, inputs)


@task(task_run_name="back up {record.name}", cache_policy=NO_CACHE, persist_result=False)
def back_up_database(environment: str, record: Record, retention: RetentionMode) -> None:
    """Back up one database: each step is a task of its own and a line in the report."""
    database = record.name

    with record.step("check before") as notes:
        notes.add_checks(check_before(environment, database))

    with record.step("dump and digest") as notes:
        manifest = dump_and_digest(environment, database)
        notes.add(facts=backup_facts(manifest), findings=backup_findings(manifest))

    with record.step("commit the manifest") as notes:
        key = commit(environment, manifest)
        notes.add(facts={"manifest": key})

    with record.step("read back and decode") as notes:
        decoded = read_back_and_decode(environment, database, manifest.backup_id)
        notes.add(facts=decoded_facts(decoded))

    gone: tuple[str, ...] = ()
    # Only a run in which all went well may delete: a backup with gaps never replaces an older one.
    if retention != "skip" and not record.failed_so_far:
        with record.step("retention") as notes:
            outcome = apply_the_retention(environment, database, manifest.backup_id, dry_run=retention == "dry-run")
            notes.add(facts=outcome.facts(), findings=outcome.findings)
        gone = outcome.gone

    with record.step(STEP) as notes:
        facts, missed = take_stock_of(environment, database, gone)
        notes.add(facts=facts, findings=missed)

    record.finish(f"{manifest.backup_id}, {human_bytes(manifest.stored_bytes)} stored, decoded")
