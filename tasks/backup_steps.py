"""The steps of the nightly backup, each a Prefect task: check before, dump and digest, commit, read back and decode, apply the retention."""

import logging
from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from core.backup_facts import retention_rows
from core.checks import Check, failed_checks
from core.environment import Environment
from core.errors import ConfigurationError, PermanentError
from core.evidence import Finding
from core.keys import MANIFEST, backup_folder, owner_key
from core.manifest import Decoded, Manifest
from core.retention import RetentionOutcome
from tasks.backup_source import check_backup_source
from tasks.catalogue import claim_folder, commit_manifest, read_manifest, write_decoded
from tasks.clients import find_clients
from tasks.decode import decode_backup
from tasks.environments import load_environment
from tasks.object_store import ObjectStore
from tasks.preflight_postgres import check_postgres
from tasks.preflight_spool import check_spool
from tasks.preflight_store import check_store
from tasks.progress import Progress, shown_progress
from tasks.prune import apply_retention
from tasks.recording import utc_now
from tasks.retrying import step
from tasks.secrets import signing_keys
from tasks.stock import count_backups, first_though_there_were_others
from tasks.take_backup import take_backup

_LOG_LEVELS = {"passed": logging.INFO, "warning": logging.WARNING, "failed": logging.ERROR}


def choose_databases(environment: Environment, wanted: Sequence[str]) -> tuple[str, ...]:
    """Given the databases asked for (none: all), return their names. Raise ConfigurationError for one that the environment does not have."""
    if unknown := sorted(set(wanted) - environment.databases.keys()):
        known = ", ".join(environment.databases)
        raise ConfigurationError(
            "choose the databases", environment.name, f"no database {', '.join(unknown)}", f"It has {known}"
        )
    return tuple(name for name in environment.databases if not wanted or name in wanted)


@step("check before {database}")
def check_before(environment_name: str, database: str) -> tuple[Check, ...]:
    """Check database and bucket before anything is written, and claim the folder. Raise PermanentError naming all that is not well."""
    environment = load_environment(environment_name)
    store = ObjectStore.open(environment)
    checks = (
        *check_postgres(environment_name, database, environment.databases[database]),
        *check_spool(database, environment.databases[database]),
        *check_store(environment, store),
    )
    keys = signing_keys(environment)
    if not failed_checks(checks):
        checks += (check_backup_source(store, environment, database, keys),)
    for check in checks:
        get_run_logger().log(_LOG_LEVELS[check.state], "%s: %s %s", check.name, check.found, check.next_step)
    if failed := failed_checks(checks):
        found = "; ".join(f"{check.name}: {check.found}" for check in failed)
        raise PermanentError(
            "begin the backup", f"{environment_name}/{database}", found, " ".join(check.next_step for check in failed)
        )
    if store.head(owner_key(environment.prefix, database)) is None and (
        found := first_though_there_were_others(store, environment, database, keys)
    ):
        mend = "Look at store.bucket and store.prefix, and who removed what was there"
        checks = (*checks, Check(name="earlier backups", state="warning", found=found, next_step=mend))
    claim_folder(store, environment, database, keys[0], keys)
    return checks


@step("dump and digest {database}")
def dump_and_digest(environment_name: str, database: str) -> Manifest:
    """Store a dump of one snapshot, and count and digest its tables in the same snapshot. Return the manifest, not yet written."""
    environment = load_environment(environment_name)
    progress, logger = Progress(), get_run_logger()
    with shown_progress(f"backup-{database}", progress, logger):
        return take_backup(environment, database, ObjectStore.open(environment), progress)


@step("commit {manifest.backup_id}")
def commit(environment_name: str, manifest: Manifest) -> str:
    """Write the signed manifest, which makes the stored objects a backup, and return its key. Again with the same manifest: nothing changes."""
    environment = load_environment(environment_name)
    commit_manifest(ObjectStore.open(environment), environment, manifest, signing_keys(environment)[0])
    return backup_folder(environment.prefix, manifest.database, manifest.backup_id) + MANIFEST


@step("decode {backup_id}")
def read_back_and_decode(environment_name: str, database: str, backup_id: str) -> Decoded:
    """Read a backup back from S3, manifest included, decode it to its end, and write that it is decoded. Raise IntegrityError saying what differs."""
    environment = load_environment(environment_name)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    manifest, manifest_sha256 = read_manifest(store, environment, database, backup_id, keys)
    progress = Progress(estimated_bytes=manifest.plain_bytes)
    with shown_progress(f"decode-{database}", progress, get_run_logger()):
        decoded = decode_backup(
            store,
            backup_folder(environment.prefix, database, backup_id),
            manifest,
            manifest_sha256,
            find_clients(manifest.server.version_number // 10_000),
            on_bytes=progress.on_bytes,
        )
    write_decoded(store, environment, database, decoded, keys[0])
    return decoded


@step("retention of {database}")
def apply_the_retention(environment_name: str, database: str, backup_id: str, *, dry_run: bool) -> RetentionOutcome:
    """Delete what the retention no longer keeps (`dry_run`: only tell), and show the plan as a table. Raise when the plan cannot be relied on."""
    environment = load_environment(environment_name)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    outcome = apply_retention(
        store, environment, database, keys, utc_now(), dry_run=dry_run, current_backup_id=backup_id
    )
    verb = "would be deleted" if dry_run else "deleted"
    create_table_artifact(
        retention_rows(outcome.plan),
        key=f"retention-{environment_name}-{database}",
        description=f"Retention of {environment_name}/{database}: {len(outcome.deleted)} {verb}, {sum(1 for _ in outcome.plan.kept)} kept",
    )
    return outcome


@step("take stock of {database}")
def take_stock_of(
    environment_name: str, database: str, deleted: Sequence[str]
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """Return which backups are there now, for the report, and a warning when some are gone that no run deleted. `deleted`: what this run did."""
    environment = load_environment(environment_name)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    stock, missed = count_backups(store, environment, database, keys, deleted=deleted, now=utc_now())
    findings = (Finding(severity="warning", text=missed),) if missed else ()
    return stock.facts() if stock else {}, findings
