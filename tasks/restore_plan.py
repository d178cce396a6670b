"""What a restore would do and what it would meet: the plan that each shows, and the dry run, which looks at all that a restore refuses and changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prefect.artifacts import create_table_artifact

from core.backup_source import swap_refusals
from core.database_statements import temporary_name
from core.drill_trend import expected_ms
from core.environment import Environment
from core.errors import PermanentError
from core.keys import backup_folder
from core.manifest import Manifest, Record
from core.restore_facts import Outlook, plan_rows
from core.restore_listing import Choice, Listed
from tasks.catalogue import read_manifest
from tasks.chosen_backup import ChosenBackup
from tasks.compressed_stream import Meter
from tasks.drill_history import past_drills
from tasks.environments import load_environment
from tasks.fetch_archive import fetch_globals, look_at_archive
from tasks.object_store import ObjectStore
from tasks.postgres import Connection, connect, describe, translated
from tasks.recording import utc_now
from tasks.restore_backup import choose_entries
from tasks.restore_locks import holder, target_key
from tasks.restore_preparation import Prepared, examine
from tasks.restore_request import RestoreRequest
from tasks.restore_roles import examine_roles, read_globals
from tasks.restore_target import login_of, require_no_alias
from tasks.retrying import step
from tasks.secrets import signing_keys
from tasks.spool import free_bytes, spool_folder
from tasks.stored_stream import Source
from tasks.swap_steps import early_refusals

MIB = 1024 * 1024


class Plan(Record):
    """What a restore would do, as a table, and (a dry run's) why it would be refused."""

    rows: list[dict[str, str]]
    reasons: tuple[str, ...] = ()


@step("plan the restore of {chosen.backup_id}")
def show_plan(request: RestoreRequest, chosen: ChosenBackup, *, live: str | None = None, dry_run: bool = False) -> Plan:
    """Show what the restore would do as a table, and return it; a dry run's also says what it would meet. Nothing is changed.

    `live`: the database that the copy is to replace. Raise TemporaryError when the bucket or a server does not answer.
    """
    environment = load_environment(request.environment)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    manifest, _ = read_manifest(store, environment, request.database, chosen.backup_id, keys)
    took = expected_ms(past_drills(store, environment, keys), request.database, manifest.plain_bytes)
    spool = Path(environment.restore.spool_directory or tempfile.gettempdir())
    outlook = look_ahead(request, environment, store, manifest, live) if dry_run else None
    rows = plan_rows(
        manifest,
        state=chosen.state,
        now=utc_now(),
        target=request.target,
        server=request.server,
        expected_ms=took,
        free_bytes=max(0, free_bytes(spool) - environment.restore.spool_reserve_mib * MIB) if spool.is_dir() else 0,
        outlook=outlook,
    )
    create_table_artifact(
        rows, key=f"restore-plan-{request.environment}-{request.database}", description="What this restore does"
    )
    if outlook:
        return Plan(rows=rows, reasons=outlook.reasons)
    # Before hours of restoring: what the copy could not be swapped for in the end.
    return Plan(rows=rows, reasons=swap_refusals(manifest.server, live, request.accepted) if live else ())


def require_possible(request: RestoreRequest, plan: Plan, backup_id: str, *, dry_run: bool) -> None:
    """Raise PermanentError with all that was found in a restore's way."""
    if plan.reasons:
        raise PermanentError(
            "restore",
            f"{'dry run of ' if dry_run else ''}{backup_id} as {request.target} on {request.server}",
            f"it would be refused: {'; '.join(reason.rstrip('.;') for reason in plan.reasons)}",
            "Nothing was changed",
        )


def look_ahead(
    request: RestoreRequest, environment: Environment, store: ObjectStore, manifest: Manifest, live: str | None
) -> Outlook:
    """Given what is asked for, look at everything that a restore looks at before it makes anything, and return what it would meet.

    Nothing is changed on the server or in the bucket, and no lock is taken; of the dump only the globals and the table of contents are fetched.
    """
    reasons: list[str] = []
    outlook = Outlook()
    with _noted(reasons):
        outlook = _look(request, environment, store, manifest, reasons)
    swap = None
    if live is not None:
        refused: list[str] = []
        with _noted(refused):
            refused += swap_refusals(manifest.server, live, request.accepted)
            refused += early_refusals(environment, request, live)
        swap = tuple(refused)
    return outlook.model_copy(update={"refusals": tuple(reasons), "swap": swap})


@contextmanager
def _noted(reasons: list[str]) -> Iterator[None]:
    """What would refuse the restore is a reason; what may pass (TemporaryError) is none, and goes on."""
    try:
        yield
    except PermanentError as error:
        reasons.append(str(error))


def _look(
    request: RestoreRequest, environment: Environment, store: ObjectStore, manifest: Manifest, reasons: list[str]
) -> Outlook:
    server = environment.servers[request.server]
    login = login_of(server, server.maintenance_database)
    folder = backup_folder(environment.prefix, manifest.database, manifest.backup_id)
    source = Source(store, folder, Meter(None))
    with closing(connect(login, application_name=f"nightshift dry run {request.restore_id}")) as session:
        with translated("look at the server", describe(login)):
            session.execute("SET default_transaction_read_only = on")
        prepared = examine(
            session,
            login,
            manifest,
            restore_id=request.restore_id,
            target=request.target,
            purpose="restore",
            allow_missing_extensions=request.allow_missing_extensions,
        )
        _require_free_name(session, request, describe(login))
        require_no_alias(login, temporary_name(request.restore_id))
        outlook = Outlook(server_version=prepared.server_version, notes=prepared.notes)
        with _noted(reasons):
            dumped = read_globals(fetch_globals(source, manifest.globals), f"{source.where}globals")
            roles = examine_roles(session, login, dumped, manifest, server_major=prepared.server_major)
            outlook = outlook.model_copy(update={"roles": roles.names, "notes": (*outlook.notes, *roles.notes)})
    with _noted(reasons):
        return _look_at_the_dump(request, environment, source, manifest, prepared, outlook)
    return outlook


def _require_free_name(session: Connection, request: RestoreRequest, on: str) -> None:
    with translated("look at the server", on):
        who = holder(session, target_key(request.target))
    if who is not None:
        raise PermanentError(
            "begin the restore",
            on,
            f"another restore is making a database called {request.target} ({who})",
            "Wait for its end, or choose another name",
        )


def _look_at_the_dump(  # noqa: PLR0917 - all that the choice depends on
    request: RestoreRequest,
    environment: Environment,
    source: Source,
    manifest: Manifest,
    prepared: Prepared,
    outlook: Outlook,
) -> Outlook:
    def choose(contents: Listed) -> Choice:
        return choose_entries(contents, manifest, request.tables, prepared.missing_extensions, source.where)

    # What killed runs left is the next restore's to sweep.
    with spool_folder(environment.restore.spool_directory, sweep=False) as folder:
        choice = look_at_archive(
            source,
            manifest.archive,
            folder,
            prepared.clients,
            choose,
            only_chosen=bool(request.tables),
            reserve_bytes=environment.restore.spool_reserve_mib * MIB,
        )
    return outlook.model_copy(update={"skipped": choice.skipped, "notes": (*outlook.notes, *choice.notes)})
