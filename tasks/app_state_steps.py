"""The steps of the application-state backup, each a Prefect task: check before, list the objects, ask Velero, wait, ask for errors, rehearse, remove.

Each step opens its own client of the Kubernetes API and closes it: credentials last minutes, and a step that is tried again begins with fresh ones.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from prefect import get_run_logger

from core.checks import Check, failed_checks
from core.environment import Environment
from core.environment_restore import AppState
from core.errors import NightshiftError, PermanentError
from core.state_comparison import Inventory
from core.state_facts import app_state_of
from core.velero import VeleroRun, backup_document
from core.velero_results import VeleroErrors
from tasks.drill_namespace import remove_namespace
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.recording import utc_now
from tasks.rehearse_state import Begun, Rehearsed, begin_restore, compare_copy, look_at
from tasks.retrying import step
from tasks.velero import check_velero, collection, make_backup, wait_for_end
from tasks.velero_results import fetch_errors

_LOG_LEVELS = {"passed": logging.INFO, "warning": logging.WARNING, "failed": logging.ERROR}


@dataclass(frozen=True)
class Asked:
    """A Backup that Velero was asked for, and whether this run had asked already, before it was killed."""

    backup: VeleroRun
    again: bool


@step("check the cluster")
def check_cluster(environment_name: str, *, drill: bool) -> tuple[Check, ...]:
    """Check our rights, Velero's storage location and the namespaces before anything is made. Raise PermanentError naming all that is not well."""
    with _cluster(environment_name) as (_, settings, client):
        checks = check_velero(client, settings, utc_now(), drill=drill)
        address = client.address
    for check in checks:
        get_run_logger().log(_LOG_LEVELS[check.state], "%s: %s %s", check.name, check.found, check.next_step)
    if failed := failed_checks(checks):
        raise PermanentError(
            "begin the backup of application state",
            f"{environment_name} at {address}",
            "; ".join(f"{check.name}: {check.found}" for check in failed),
            " ".join(check.next_step for check in failed),
        )
    return checks


@step("try the Backup {name}")
def try_backup(environment_name: str, name: str, run_id: str) -> None:
    """Have the API server check the Backup that would be made; it keeps nothing."""
    with _cluster(environment_name) as (environment, settings, client):
        document = backup_document(environment.name, settings, name, run_id)
        client.create(collection(settings, "backups"), document, dry_run=True)


@step("list the objects")
def list_objects(environment_name: str) -> tuple[Inventory, ...]:
    """List every namespace as a rehearsal compares it. The content of Secrets and ConfigMaps is not read."""
    with _cluster(environment_name) as (_, settings, client):
        return look_at(client, settings)


@step("ask for the Backup {name}")
def ask_for_backup(environment_name: str, name: str, run_id: str) -> Asked:
    """Make the Backup, or find the one that this run made before."""
    with _cluster(environment_name) as (environment, settings, client):
        document = backup_document(environment.name, settings, name, run_id)
        backup, again = make_backup(client, settings, document, environment.name)
    if again:
        get_run_logger().info("this run made Backup %s before; it is %s", backup.name, backup.standing)
    return Asked(backup, again)


@step("wait for {name}")
def wait_for_velero(environment_name: str, plural: str, name: str) -> VeleroRun:
    """Wait until Velero has ended a Backup or Restore, well or not. Raise PermanentError when it is stuck or was deleted."""
    logger = get_run_logger()
    with _cluster(environment_name) as (_, settings, client):
        return wait_for_end(
            client, settings, plural, name, on_change=lambda run: logger.info("%s: %s", run.name, run.standing)
        )


@step("fetch the errors of {run.name}")
def find_errors(environment_name: str, run: VeleroRun, run_id: str) -> VeleroErrors:
    """Fetch the first errors of a Backup or Restore that did not end well, or say why they cannot be had; that fails no run that has failed already."""
    try:
        with _cluster(environment_name) as (environment, settings, client):
            return fetch_errors(client, settings, environment.name, run, run_id)
    except NightshiftError as error:
        return VeleroErrors(why_not=error.found)


@step("restore {namespace} beside")
def restore_beside(environment_name: str, backup: str, namespace: str, run_id: str) -> Begun:
    """Make the scratch namespace, in which nothing can start, and a Restore of a namespace into it."""
    with _cluster(environment_name) as (environment, settings, client):
        return begin_restore(
            client, settings, environment.name, backup=backup, namespace=namespace, run_id=run_id, clock=utc_now
        )


@step("compare {after.namespace}")
def compare_with_backup(
    environment_name: str, begun: Begun, asked: datetime, *, before: Inventory | None, after: Inventory, run_id: str
) -> Rehearsed:
    """Compare what was restored with what was there while the Backup was made."""
    with _cluster(environment_name) as (environment, settings, client):
        return compare_copy(
            client, settings, environment.name, begun=begun, asked=asked, before=before, after=after, run_id=run_id
        )


@step("remove the scratch namespace")
def remove_scratch(environment_name: str, run_id: str) -> bool:
    """Remove the scratch namespace if this run made it, and wait until it is gone."""
    with _cluster(environment_name) as (environment, settings, client):
        return remove_namespace(client, settings, environment.name, run_id)


@contextmanager
def _cluster(environment_name: str) -> Iterator[tuple[Environment, AppState, KubernetesClient]]:
    """An environment, its [app_state], and a client of its cluster that ends with the block."""
    environment = load_environment(environment_name)
    settings = app_state_of(environment.name, environment.app_state)
    with KubernetesClient.open(settings.context) as client:
        yield environment, settings, client
