"""Digests of tables and large objects, computed by several sessions on one exported snapshot, beside the dump.

Each session locks its share of the tables when it begins, not when it comes to them: an ALTER TABLE that waits for the backup's own locks would otherwise make every
later reader wait behind it, and the backup for its own digest.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from core.digest_sql import PINNED_SETTINGS, large_objects_sql, table_count_sql
from core.environment_database import Database
from core.errors import TemporaryError
from core.inventory import TableDraft
from core.manifest import LargeObjects, Table
from tasks.inventory import batches
from tasks.postgres import Connection, connect, describe, pin_session, translated
from tasks.snapshot import LOCK_BATCH, HeldSnapshot, lock_error, lock_statement

_CHECK_SECONDS = 0.2
_CANCEL_SECONDS = 1.0
# How often a session that is to stop is asked to cancel before its socket is shut.
_CANCEL_ROUNDS = 5


@dataclass(frozen=True)
class TableDigest:
    """What was counted of one table; None where its mode does not ask for it."""

    rows: int | None
    digest: str | None
    digest_sql: str | None


@dataclass(frozen=True)
class DigestResult:
    """What was counted of a database. `tables` is by oid, one item for every table of the inventory."""

    tables: dict[int, TableDigest]
    large_objects: LargeObjects


@dataclass
class _Share:
    """What one session does. Large objects go to the session with the least to do."""

    tables: list[TableDraft] = field(default_factory=list)
    large_objects: bool = False
    bytes: int = 0


def compute_digests(
    database: Database, snapshot: HeldSnapshot, *, stop: threading.Event, on_table: Callable[[str], None]
) -> DigestResult:
    """Given the held snapshot, count and digest every table and the large objects, each by its mode; return when all is done.

    `on_table` is called, from a session's thread, with the name of each table when it begins. When `stop` is set, running queries are cancelled within about a second and
    TemporaryError is raised; no thread outlives the call. Errors name the table.
    """
    drafts = snapshot.inventory.tables
    shares = share_out([draft for draft in drafts if draft.mode != "off"], database.digest_sessions)
    results: dict[int, TableDigest] = {
        draft.oid: TableDigest(None, None, None) for draft in drafts if draft.mode == "off"
    }
    workers = [_Worker(database, snapshot, share, on_table) for share in shares]
    with ThreadPoolExecutor(len(workers), thread_name_prefix="digest") as pool:
        futures = [pool.submit(worker.run) for worker in workers]
        try:
            _wait_for(futures, stop, describe(database))
        finally:
            _end(workers, futures)
    for worker in workers:
        results.update(worker.results)
    return DigestResult(results, next(worker.large_objects for worker in workers if worker.large_objects is not None))


def share_out(drafts: Sequence[TableDraft], sessions: int) -> list[_Share]:
    """Given tables and a number of sessions, return what each does: the largest table first, each to the session with the fewest bytes so far."""
    shares = [_Share() for _ in range(sessions)]
    for draft in sorted(drafts, key=lambda draft: (-draft.size_bytes, draft.oid)):
        least = min(shares, key=lambda share: share.bytes)
        least.tables.append(draft)
        least.bytes += max(draft.size_bytes, 1)
    min(shares, key=lambda share: share.bytes).large_objects = True
    return [share for share in shares if share.tables or share.large_objects]


def _wait_for(futures: Sequence[Future[None]], stop: threading.Event, on: str) -> None:
    """Return when all futures are done. Raise the first one's error at once, or TemporaryError when `stop` is set."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_CHECK_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        if pending and stop.is_set():
            raise TemporaryError(
                "compute digests", on, "stopped, since the backup was cancelled or another of its parts failed"
            )


def _end(workers: Sequence["_Worker"], futures: Sequence[Future[None]]) -> None:
    """Make every thread end: ask its server to cancel, and shut its socket when this does not help. A thread that still connects ends by itself."""
    for worker in workers:
        worker.stopping.set()
    rounds = 0
    while pending := wait(futures, timeout=0).not_done:
        for worker, future in zip(workers, futures, strict=True):
            if future in pending:
                worker.cancel()
                if rounds >= _CANCEL_ROUNDS:
                    worker.disconnect()
        rounds += 1
        wait(pending, timeout=_CHECK_SECONDS)


class _Worker:
    """One session and its share."""

    def __init__(
        self, database: Database, snapshot: HeldSnapshot, share: _Share, on_table: Callable[[str], None]
    ) -> None:
        self._database, self._snapshot, self._share, self._on_table = database, snapshot, share, on_table
        self._connection: Connection | None = None
        self.stopping = threading.Event()
        self.results: dict[int, TableDigest] = {}
        self.large_objects: LargeObjects | None = None

    def run(self) -> None:
        """Do the share, from the first to the last, or until `stopping` is set."""
        on = describe(self._database)
        with connect(self._database, application_name="nightshift digest") as connection:
            self._connection = connection
            with translated("join the snapshot", on):
                pin_session(connection, PINNED_SETTINGS)
                pin_session(connection, {"lock_timeout": f"{self._database.lock_timeout_seconds}s"})
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self._snapshot.name)))
                if not self.stopping.is_set():
                    self._lock(connection, on)
            for draft in self._share.tables:
                if self.stopping.is_set():
                    return
                self._on_table(draft.qualified)
                with translated(f"compute the digest of {draft.qualified}", on):
                    self.results[draft.oid] = _count(connection, draft)
            if self._share.large_objects and not self.stopping.is_set():
                self._on_table("large objects")
                with translated("compute the digest of the large objects", on):
                    self.large_objects = digest_large_objects(connection, digest=self._database.digests == "full")

    def _lock(self, connection: Connection, on: str) -> None:
        for batch in batches(self._share.tables, LOCK_BATCH):
            try:
                connection.execute(lock_statement([(draft.schema_name, draft.name) for draft in batch]))
            except psycopg.errors.LockNotAvailable as error:
                connection.execute("ROLLBACK")
                raise lock_error(connection, error, [draft.oid for draft in batch], on) from error

    def cancel(self) -> None:
        """Ask the server to cancel the running query. A server that does not answer is no error: `disconnect` follows."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_CANCEL_SECONDS)

    def disconnect(self) -> None:
        """Shut the socket under the session, so that its thread wakes with an error whatever the server does."""
        if self._connection is None or self._connection.closed:
            return
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as shared,
        ):
            shared.shutdown(socket.SHUT_RDWR)


def _count(connection: Connection, table: TableDraft | Table) -> TableDigest:
    if table.digest_sql is not None:
        row = connection.execute(table.digest_sql.encode()).fetchone()
        assert row is not None  # noqa: S101 - for the type checker: an aggregate has one row
        return TableDigest(row[0], row[1], table.digest_sql)
    query = table_count_sql(table.schema_name, table.name, condition=table.condition)
    row = connection.execute(query.encode()).fetchone()
    return TableDigest(row[0] if row else None, None, None)


def digest_table(connection: Connection, table: Table) -> tuple[int | None, str | None]:
    """Given a session on a restored database (pinned by `pin_session(…, PINNED_SETTINGS)`) and a table of the manifest, return its rows and digest there.

    The manifest's own SQL is run, so a manifest must be one whose signature was verified. Mode `counts`: no digest; `off`: neither. Raise psycopg.Error.
    """
    if table.mode == "off":
        return None, None
    result = _count(connection, table)
    return result.rows, result.digest


def digest_large_objects(connection: Connection, *, digest: bool) -> LargeObjects:
    """Given a pinned session in a transaction, return the large objects' record; without digest their count and bytes only. Raise psycopg.Error."""
    query = large_objects_sql(digest=digest)
    row = connection.execute(query.encode()).fetchone()
    assert row is not None  # noqa: S101 - for the type checker: an aggregate has one row
    return LargeObjects(count=row[0], content_bytes=row[1], digest=row[2], digest_sql=query if digest else None)
