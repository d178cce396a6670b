"""One backup restored into a new database, from the refusals before anything is touched to the planner's statistics.

While it is made the database is called nightshift_RESTOREID and carries a marker as its comment; it gets the asked-for name by `finish` alone, when it was verified.
Whatever fails before that, the database is dropped. A process that is killed leaves it, with a marker whose lock is free: see tasks.restore_target.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from core.database_statements import marker_of, temporary_name
from core.errors import ConfigurationError
from core.keys import backup_folder
from core.manifest import Manifest
from core.partial_listing import choose_tables
from core.restore_listing import Choice, Listed, choose_all
from core.restore_record import Phase, PhaseName, Restored
from tasks.compressed_stream import Meter, OnBytes
from tasks.fetch_archive import Fetched, fetch_archive, fetch_globals
from tasks.postgres import Connection
from tasks.recording import Clock, utc_now
from tasks.restore_database import Created, complete_database, make_database
from tasks.restore_locks import hold_locks
from tasks.restore_preparation import Prepared, prepare
from tasks.restore_roles import MadeRoles, make_roles, read_globals
from tasks.restored_copy import RestoredCopy, RestoreOrder, drop_or_tell
from tasks.run_pg_restore import Restoring, analyze, restore_fetched, restore_streamed
from tasks.spool import free_bytes, spool_folder
from tasks.stored_stream import Source


def choose_entries(
    contents: Listed, manifest: Manifest, tables: Sequence[str], missing_extensions: Sequence[str], where: str
) -> Choice:
    """Given a dump's contents, the tables asked for (empty: all) and the extensions to leave out, return what is restored.

    Raise ConfigurationError for tables that it does not have.
    """
    if not tables:
        return choose_all(contents, missing_extensions=missing_extensions)
    try:
        return choose_tables(contents, manifest.tables, tables, missing_extensions=missing_extensions)
    except ValueError as error:
        raise ConfigurationError(
            "choose the tables", where, str(error), "`tables` takes schema.table and schema.*"
        ) from error


class _Phases:
    """Measures the parts of a restore."""

    def __init__(self, on_phase: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._on_phase, self._clock = on_phase, clock
        self.done: list[Phase] = []

    @contextmanager
    def __call__(self, name: PhaseName) -> Iterator[None]:
        self._on_phase(name)
        began = self._clock()
        yield
        self.done.append(Phase(name=name, ms=round((self._clock() - began) * 1000)))


@contextmanager
def restore_backup(
    order: RestoreOrder,
    *,
    on_bytes: OnBytes | None = None,
    on_phase: Callable[[str], None] = lambda _name: None,
    now: Clock = utc_now,
    clock: Callable[[], float] = time.monotonic,
    free: Callable[[Path], int] = free_bytes,
) -> Iterator[RestoredCopy]:
    """Given an order, restore the backup and yield the copy; the locks of the restore are held until the block ends.

    `on_bytes` is told (plain, stored) bytes fetched so far, `on_phase` each phase as it begins; `clock` is in seconds. On an exception, here or in the block, the
    database is dropped and the error goes on, unless it was finished. On a normal end nothing is dropped. Raise PermanentError (a refusal, or pg_restore's
    failure), IntegrityError (what was fetched is not what was recorded), TemporaryError (S3 or the server does not answer).
    """
    phases = _Phases(on_phase, clock)
    with ExitStack() as stack:
        with phases("prepare"):
            session = stack.enter_context(hold_locks(order.login, order.restore_id, order.target))
            prepared = prepare(
                session,
                order.login,
                order.manifest,
                restore_id=order.restore_id,
                target=order.target,
                purpose=order.purpose,
                allow_missing_extensions=order.allow_missing_extensions,
            )
        copy = _Restore(order, session, prepared, phases, on_bytes=on_bytes, free=free).run(now)
        try:
            yield copy
        except BaseException:
            if not copy.finished and not copy.dropped:
                drop_or_tell(session, order.login, copy.database.name, copy.restored.roles_created)
            raise


class _Restore:
    """One restore under way."""

    def __init__(
        self,
        order: RestoreOrder,
        session: Connection,
        prepared: Prepared,
        phases: _Phases,
        *,
        on_bytes: OnBytes | None,
        free: Callable[[Path], int],
    ) -> None:
        self._order, self._session, self._prepared, self._phases, self._free = order, session, prepared, phases, free
        manifest = order.manifest
        folder = backup_folder(order.environment.prefix, manifest.database, manifest.backup_id)
        self._source = Source(order.store, folder, Meter(on_bytes))
        self._database = order.login.model_copy(update={"name": temporary_name(order.restore_id)})

    def run(self, now: Clock) -> RestoredCopy:
        """Do it all. What fails leaves no database."""
        order, phases = self._order, self._phases
        with spool_folder(order.spool_parent) as folder:
            with phases("fetch"):
                dumped = fetch_globals(self._source, order.manifest.globals)
                fetched = fetch_archive(
                    self._source,
                    order.manifest.archive,
                    folder,
                    self._prepared.clients,
                    self._choose,
                    only_chosen=bool(order.tables),
                    reserve_bytes=order.spool_reserve_bytes,
                    free=self._free,
                )
                self._source.meter.finish()
            with phases("globals"):
                marker = marker_of(
                    order.purpose, order.environment.name, order.restore_id, order.manifest.backup_id, now()
                )
                roles = make_roles(
                    self._session,
                    order.login,
                    read_globals(dumped, f"{self._source.where}globals"),
                    order.manifest,
                    purpose=order.purpose,
                    server_major=self._prepared.server_major,
                    marker=marker,
                )
            try:
                created, notes = self._fill(folder, fetched, now)
            except BaseException:
                drop_or_tell(self._session, order.login, self._database.name, roles.names)
                raise
        restored = self._restored(created, fetched, roles, notes)
        return RestoredCopy(order, self._database, restored, self._session)

    def _choose(self, contents: Listed) -> Choice:
        return choose_entries(
            contents, self._order.manifest, self._order.tables, self._prepared.missing_extensions, self._source.where
        )

    def _fill(self, folder: Path, fetched: Fetched, now: Clock) -> tuple[Created, tuple[str, ...]]:
        order, phases, properties = self._order, self._phases, self._order.manifest.properties
        with phases("create"):
            created = make_database(
                self._session,
                order.login,
                self._database,
                order.environment,
                order.manifest,
                purpose=order.purpose,
                restore_id=order.restore_id,
                begun=now(),
                server_major=self._prepared.server_major,
            )
        with phases("restore"):
            self._load(folder, fetched)
        with phases("analyze"):
            if order.analyze:
                analyze(self._database)
            notes = complete_database(self._session, order.login, self._database.name, properties)
        return created, notes

    def _load(self, folder: Path, fetched: Fetched) -> None:
        restoring = Restoring(
            self._prepared.clients,
            self._database,
            self._prepared.server_major,
            folder / "list",
            f"nightshift pg_restore {self._order.restore_id}",
        )
        if fetched.path is None:
            restore_streamed(restoring, self._source, self._order.manifest.archive.parts[0], fetched.choice)
            self._source.meter.finish()
        else:
            restore_fetched(restoring, self._source, fetched.path, fetched.choice, self._order.jobs)

    def _restored(self, created: Created, fetched: Fetched, roles: MadeRoles, notes: tuple[str, ...]) -> Restored:
        prepared, choice, streamed = self._prepared, fetched.choice, fetched.path is None
        how = ["the disk has no room for the dump: it was streamed, with one job"] if streamed else []
        if fetched.left:
            how.append(
                f"{fetched.left} files of the dump hold other tables' rows: they were neither fetched nor checked"
            )
        return Restored(
            backup_id=self._order.manifest.backup_id,
            server=self._order.server_name,
            name=self._database.name,
            oid=created.identity.database_oid,
            system_identifier=created.identity.system_identifier,
            server_version=prepared.server_version,
            server_version_number=prepared.identity.server_version_number,
            pg_restore=prepared.clients.version,
            phases=tuple(self._phases.done),
            skipped=choice.skipped,
            roles_created=roles.names,
            streamed=streamed,
            partial=bool(self._order.tables),
            notes=(*prepared.notes, *how, *choice.notes, *roles.notes, *created.notes, *notes),
        )
