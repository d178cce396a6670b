"""The steps of a disaster-recovery drill, each a Prefect task. What one enters (a scratch server, a restored copy) is left again by the flow's exit stack."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_image_artifact, create_table_artifact

from core.catalogue import data_problem
from core.checks import Check
from core.drill_trend import DrillPoint, trend_rows
from core.environment import Environment
from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.keys import PROVEN, backup_folder
from core.manifest import Manifest
from core.restore_record import Control, Proven, Restored
from core.restored_comparison import Verification
from core.signature import SigningKey
from tasks.catalogue import read_catalogue, read_manifest
from tasks.chosen_backup import ChosenBackup, find_backup, find_backup_to_drill
from tasks.drill_chart import trend_image
from tasks.drill_history import past_drills
from tasks.environments import load_environment
from tasks.invariants import check_invariants, run_smoke_command
from tasks.negative_controls import database_controls, stream_controls
from tasks.object_store import ObjectStore
from tasks.progress import Progress, shown_progress
from tasks.recording import utc_now
from tasks.restore_backup import restore_backup
from tasks.restore_steps import with_phase
from tasks.restore_target import sweep_drills
from tasks.restored_copy import RestoredCopy, RestoreOrder, drop_copy
from tasks.retrying import step
from tasks.scratch import Scratch, open_scratch, sweep_scratch
from tasks.sealed import sealed_bytes
from tasks.secrets import signing_keys
from tasks.verify_restored import verify_restored

MIB = 1024 * 1024


class Drill:
    """One database's drill: whose, which backup (verified), and the ids that name what it makes.

    Not a dataclass on purpose: Prefect looks inside those at each step, and a manifest of two thousand tables cost it seconds every time.
    """

    def __init__(  # noqa: PLR0917 - what it is made of
        self,
        environment_name: str,
        database: str,
        manifest: Manifest,
        manifest_sha256: str,
        run_id: str,
        from_copy: bool = False,
    ) -> None:
        self.environment_name, self.database, self.run_id, self.from_copy = (
            environment_name,
            database,
            run_id,
            from_copy,
        )
        self.manifest, self.manifest_sha256 = manifest, manifest_sha256

    @property
    def restore_id(self) -> str:
        """Eight hexadecimal digits: of the run, and of the database, since one run drills several."""
        return f"{zlib.crc32(f'{self.run_id}/{self.database}'.encode()):08x}"

    @property
    def rotation(self) -> int:
        """Moves the negative controls on to other tables from backup to backup; the same for the same backup."""
        return zlib.crc32(self.manifest.backup_id.encode())


def drill_store(environment: Environment, *, from_copy: bool) -> ObjectStore:
    """The bucket that a drill reads: the environment's, or its copy in another region. Raise ConfigurationError when there is no copy."""
    try:
        return ObjectStore.open(environment.reading_the_copy() if from_copy else environment)
    except ValueError as error:
        raise ConfigurationError(
            "read the bucket's copy", environment.name, str(error), "Add it (docs/environments.md), or drill the bucket"
        ) from error


def _work_parent(environment: Environment) -> Path | None:
    folder = environment.restore.spool_directory
    return Path(folder) if folder else None


@step("sweep what killed drills left")
def sweep(environment_name: str) -> tuple[str, ...]:
    """Remove what killed drills of this environment left behind, and nothing else; return what it was."""
    environment = load_environment(environment_name)
    return sweep_scratch(environment, work_parent=_work_parent(environment))


@step("choose the backup of {database} to drill")
def choose_backup_to_drill(
    environment_name: str, database: str, wanted: str, *, from_copy: bool
) -> tuple[ChosenBackup, Manifest]:
    """Return the newest decoded backup that no drill has proven (`wanted`: another one, as a restore would name it). Raise when there is none."""
    environment = load_environment(environment_name)
    store, keys = drill_store(environment, from_copy=from_copy), signing_keys(environment)
    chosen, manifest = (
        find_backup(store, environment, database, keys, wanted)
        if wanted
        else find_backup_to_drill(store, environment, database, keys, from_copy=from_copy)
    )
    get_run_logger().info("%s (%s)", chosen.backup_id, chosen.shown_state)
    return chosen, manifest


@step("start the scratch server for {drill.database}")
def start_scratch(stack: ExitStack, drill: Drill) -> Scratch:
    """Start the server on which the copy is restored; it is removed when the stack is left."""
    environment = load_environment(drill.environment_name)
    scratch = stack.enter_context(
        open_scratch(environment, drill.manifest, run_id=drill.run_id, work_parent=_work_parent(environment))
    )
    for swept in sweep_drills(scratch.login, environment.name):
        get_run_logger().warning("removed the %s, which a killed drill left", swept)
    for note in (*scratch.isolation, *scratch.notes):
        get_run_logger().info("%s", note)
    return scratch


@step("restore {drill.manifest.backup_id}")
def restore_into(stack: ExitStack, drill: Drill, scratch: Scratch) -> RestoredCopy:
    """Fetch the backup, prove its checksums, and restore it; the copy is dropped when the stack is left."""
    environment = load_environment(drill.environment_name)
    progress, logger = Progress(estimated_bytes=drill.manifest.plain_bytes), get_run_logger()
    order = RestoreOrder(
        store=drill_store(environment, from_copy=drill.from_copy),
        environment=environment,
        manifest=drill.manifest,
        login=scratch.login,
        server_name=f"the {scratch.kind} scratch server",
        restore_id=drill.restore_id,
        purpose="drill",
        jobs=environment.restore.jobs,
        spool_parent=environment.restore.spool_directory,
        spool_reserve_bytes=environment.restore.spool_reserve_mib * MIB,
        allow_missing_extensions=True,
    )
    with shown_progress(f"drill-{drill.database}", progress, logger):
        copy = stack.enter_context(
            restore_backup(order, on_bytes=progress.on_bytes, on_phase=lambda phase: logger.info("%s", phase))
        )
    stack.callback(drop_copy, copy)
    return copy


@step("compare {drill.manifest.backup_id}")
def compare(drill: Drill, copy: RestoredCopy) -> tuple[Restored, Verification]:
    """Compare the copy with the manifest: every digest, properties, coverage. Return the restore with its last phase, and what was found."""
    environment, started = load_environment(drill.environment_name), time.monotonic()
    verification = verify_restored(
        copy.database,
        drill.manifest,
        copy.restored,
        amcheck=True,
        exclude_schemas=environment.databases[drill.database].exclude_schemas,
    )
    return with_phase(copy.restored, "verify", started), verification


@step("ask the invariants of {drill.database}")
def ask_invariants(drill: Drill, copy: RestoredCopy) -> tuple[Check, ...]:
    """Ask the environment's invariants of the copy, and run its smoke command."""
    settings = load_environment(drill.environment_name).drill
    mine = [one for one in settings.invariants if one.database == drill.database]
    checks = check_invariants(copy.database, mine)
    if settings.smoke_command:
        checks += (run_smoke_command(settings.smoke_command, copy.database, settings.smoke_seconds),)
    return checks


@step("negative controls on {drill.database}")
def try_controls(drill: Drill, copy: RestoredCopy, restored: Restored) -> tuple[Control, ...]:
    """Damage the copy and a part of the stored dump on purpose, undo it, and return whether each damage was seen."""
    environment = load_environment(drill.environment_name)
    store = drill_store(environment, from_copy=drill.from_copy)
    folder = backup_folder(environment.prefix, drill.database, drill.manifest.backup_id)
    return (
        *database_controls(copy.database, drill.manifest, rotation=drill.rotation, restored=restored),
        *stream_controls(store, folder, drill.manifest, rotation=drill.rotation),
    )


@step("mark {proven.backup_id} proven")
def mark_proven(environment_name: str, database: str, proven: Proven) -> None:
    """Write the signed state object that says so. Raise PermanentError when the bucket does not hold any more what was drilled."""
    environment = load_environment(environment_name)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    require_still_there(store, environment, database, proven, keys)
    key = backup_folder(environment.prefix, database, proven.backup_id) + PROVEN
    store.put(key, sealed_bytes(proven, keys[0]))


def require_still_there(
    store: ObjectStore, environment: Environment, database: str, proven: Proven, keys: Sequence[SigningKey]
) -> None:
    """Given what was drilled, raise PermanentError when its manifest is gone or another by now, or some of its data.

    A drill takes hours, and once it has fetched the backup it does not need the bucket any more.
    """
    manifest, sha256 = read_manifest(store, environment, database, proven.backup_id, keys)
    entries = {entry.backup_id: entry for entry in read_catalogue(store, environment, database).entries}
    entry = entries.get(proven.backup_id)
    found = "it is not in the bucket any more" if entry is None else data_problem(entry, manifest)
    if sha256 != proven.manifest_sha256:
        found = "its manifest is another by now than the one that was drilled"
    if found:
        raise PermanentError(
            "mark the backup proven",
            f"{environment.name}/{database}/{proven.backup_id}",
            f"since it was fetched the bucket was changed: {found}",
            "It cannot be relied on; find out who touched the bucket",
        )


def proven_record(
    drill: Drill, scratch: Scratch, restored: Restored, verification: Verification, controls: tuple[Control, ...]
) -> Proven:
    """Given a drill in which everything matched, return the state to write."""
    return Proven(
        backup_id=drill.manifest.backup_id,
        manifest_sha256=drill.manifest_sha256,
        proven_at=utc_now(),
        scratch=scratch.kind,
        server_version=restored.server_version,
        tables=verification.tables_compared,
        rows=verification.rows,
        restore_ms=restored.ms,
        indicative=scratch.indicative,
        controls=controls,
        compared=verification.compared,
    )


@step("show the trend")
def show_trend(environment_name: str, newest: tuple[DrillPoint, ...]) -> tuple[DrillPoint, ...]:
    """Show past drills, this run's first, as a table and a chart; return them. Where the evidence cannot be read, only this run's."""
    environment = load_environment(environment_name)
    try:
        past = past_drills(ObjectStore.open(environment), environment, signing_keys(environment))
    except TemporaryError as error:
        # A picture of the past is no reason to lose this run's report.
        get_run_logger().warning("past drills are not shown: %s", error)
        past = ()
    points = (*newest, *past)[:30]
    if points:
        create_table_artifact(
            trend_rows(points), key=f"drill-trend-{environment_name}", description="Past drills, the newest first"
        )
    # One point is no trend.
    if len(points) > 1:
        create_image_artifact(
            trend_image(points, objective_minutes=environment.objectives.restore_minutes),
            key=f"drill-chart-{environment_name}",
            description="Recovery time by phase",
        )
    return points
