"""Rows and digests of a restored copy's tables and large objects, counted by several sessions, each by the manifest's own SQL."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg

from core.digest_comparison import Counted
from core.environment_database import Database
from core.errors import TemporaryError
from core.manifest import LargeObjects, Table
from core.missing_privileges import Access, large_objects_remedy, table_remedy
from tasks.digests import digest_large_objects, digest_table
from tasks.postgres import Connection, describe, translate, translated
from tasks.restored_session import Opening

LARGE_OBJECTS = "large objects"
_CHECK_SECONDS = 0.2
_CANCEL_SECONDS = 1.0
_INSUFFICIENT_PRIVILEGE = "42501"
# data_corrupted, index_corrupted
_DAMAGE = frozenset({"XX001", "XX002"})
_ACCESS: LiteralString = """
    SELECT pg_get_userbyid(c.relowner), has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""
_STRANGERS: LiteralString = """
    SELECT DISTINCT pg_get_userbyid(o.lomowner) FROM pg_largeobject_metadata AS o WHERE NOT pg_has_role(o.lomowner, 'USAGE')
"""


@dataclass
class CopyDigests:
    """What was counted: tables by their oids in the manifest, and large objects (None: not asked for or not readable).

    `unread` says of what could not be read why, by name: whether it is as recorded is not known. `damaged` says of what the server
    cannot read, since its own pages are not right, why. `unread_tables` are the oids of the tables of both.
    """

    tables: dict[int, Counted] = field(default_factory=dict)
    large_objects: LargeObjects | None = None
    unread: dict[str, str] = field(default_factory=dict)
    unread_tables: set[int] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)


def digest_copy(
    database: Database,
    tables: Iterable[Table],
    large_objects: LargeObjects | None,
    *,
    sessions: int,
    on_table: Callable[[str], None],
    opening: Opening,
) -> CopyDigests:
    """Given a copy and what opens sessions on it, the tables to count and the large objects as recorded (None: leave them aside), count all, the largest first.

    `on_table` is called, from a session's thread, with each table's name when it begins. What the role may not read, or the server cannot, is told in `unread`.
    Raise TemporaryError when the server is lost. No thread outlives the call; an exception in the caller's thread cancels what runs.
    """
    first: list[Table | LargeObjects] = [] if large_objects is None else [large_objects]
    by_size = sorted(tables, key=lambda table: (-table.size_bytes, table.oid))
    waiting = deque([*first, *by_size])
    workers = [_Worker(database, opening, waiting, on_table) for _ in range(max(1, min(sessions, len(waiting))))]
    with ThreadPoolExecutor(len(workers), thread_name_prefix="verify") as pool:
        futures = [pool.submit(worker.run) for worker in workers]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            _end(workers, futures)
    result = CopyDigests()
    for worker in workers:
        result.tables |= worker.result.tables
        result.unread |= worker.result.unread
        result.unread_tables |= worker.result.unread_tables
        result.damaged |= worker.result.damaged
        result.large_objects = worker.result.large_objects or result.large_objects
    return result


def _end(workers: Iterable["_Worker"], futures: Iterable[Future[None]]) -> None:
    """Make every thread end: a session that runs a query is asked to cancel it until it does."""
    while pending := wait(futures, timeout=0).not_done:
        for worker in workers:
            worker.cancel()
        wait(pending, timeout=_CHECK_SECONDS)


class _Worker:
    """One session, which takes the next of what waits until nothing does."""

    def __init__(
        self,
        database: Database,
        opening: Opening,
        waiting: deque[Table | LargeObjects],
        on_table: Callable[[str], None],
    ) -> None:
        self._database, self._opening, self._waiting, self._on_table = database, opening, waiting, on_table
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self.result = CopyDigests()

    def run(self) -> None:
        with self._opening() as connection:
            self._connection = connection
            while not self._stopping.is_set():
                try:
                    item = self._waiting.popleft()
                except IndexError:
                    return
                self._count(connection, item)

    def _count(self, connection: Connection, item: Table | LargeObjects) -> None:
        name = item.qualified if isinstance(item, Table) else LARGE_OBJECTS
        self._on_table(name)
        try:
            if isinstance(item, Table):
                self.result.tables[item.oid] = digest_table(connection, item)
            else:
                with connection.transaction():
                    self.result.large_objects = digest_large_objects(connection, digest=item.digest is not None)
        except psycopg.Error as error:
            meaning = translate(error, f"compute the digest of {name}", describe(self._database))
            if isinstance(meaning, TemporaryError):
                raise meaning from error
            if connection.broken:
                # A time-out that ends the session, say: the server's word on the session, none on the table.
                raise TemporaryError(meaning.attempted, meaning.on, meaning.found, "The session ended") from error
            self._note(connection, item, name, error, meaning.found)

    def _note(
        self, connection: Connection, item: Table | LargeObjects, name: str, error: psycopg.Error, found: str
    ) -> None:
        if isinstance(item, Table):
            self.result.unread_tables.add(item.oid)
        if error.sqlstate in _DAMAGE:
            self.result.damaged[name] = found
            return
        if error.sqlstate == _INSUFFICIENT_PRIVILEGE:
            found = f"{found}; {self._remedy(connection, item)}"
        self.result.unread[name] = found

    def _remedy(self, connection: Connection, item: Table | LargeObjects) -> str:
        role = self._database.user
        with translated("ask what the role may read", describe(self._database)):
            if isinstance(item, Table):
                row = connection.execute(_ACCESS, (item.schema_name, item.name)).fetchone()
                owner, usage, select, hidden = row or (item.owner, True, True, False)
                return table_remedy(role, Access(owner=owner, schema_usage=usage, select=select, hidden=hidden))
            return large_objects_remedy(role, [row[0] for row in connection.execute(_STRANGERS)])

    def cancel(self) -> None:
        """Ask the server to cancel the running query, and take nothing more."""
        self._stopping.set()
        if self._connection is not None and not self._connection.closed:
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
