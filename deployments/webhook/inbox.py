"""What was accepted, on disk before anybody is told so: SQLite in WAL mode, each commit synced (`synchronous = FULL`), since GitHub does not send a delivery again.

One thread writes. All that arrives while it syncs is committed together with the next sync, so that many deliveries at once cost few syncs. One process at a time has
the inbox open (a lock that ends with the process): there is one dispatcher.
"""

import contextlib
import fcntl
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.webhook_mapping import Start

T = TypeVar("T")
# Past this nothing more is taken in (503): the disk is stuck.
MOST_WAITING_WRITES = 1000
MOST_AT_ONCE = 200
Outcome = Literal["accepted", "repeated", "other parameters", "token used"]

# waiting: to be started. started: its run goes on. ended: nothing is to be done about it any more.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    key TEXT PRIMARY KEY, environment TEXT NOT NULL, flow TEXT NOT NULL, parameters TEXT NOT NULL, repository TEXT NOT NULL, deployment_id INTEGER,
    received REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', run_id TEXT, note TEXT NOT NULL DEFAULT '', reported TEXT NOT NULL DEFAULT '',
    ended REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_open ON deliveries (state, received);
CREATE INDEX IF NOT EXISTS deliveries_ended ON deliveries (ended);
CREATE TABLE IF NOT EXISTS tokens (jti TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
"""
# A change that leaves nothing behind once the next one is written.
_TRY = (
    "INSERT INTO tokens VALUES ('a write that is tried', ?) ON CONFLICT (jti) DO UPDATE SET expires = excluded.expires"
)
# What is taken in anew has another time; None stands for any.
_THAT_ONE = "key = ? AND received = coalesce(?, received)"
# What a later release takes the place of.
_SHOWN = "flow IN ('release', 'rollback') AND reported = 'success'"
_COLUMNS = "key, environment, flow, parameters, repository, deployment_id, received, state, run_id, note, reported"


@dataclass(frozen=True)
class Delivery:
    """A row of the inbox. `received` is in seconds since 1970; `reported` the last state that GitHub was told."""

    start: Start
    received: float
    state: Literal["waiting", "started", "ended"]
    run_id: str
    note: str
    reported: str


@dataclass(frozen=True)
class Token:
    """The id of a token that is used up with this delivery, and when it expires (seconds since 1970)."""

    jti: str
    expires: float


class Inbox:
    """Opened until `close`. Raise ConfigurationError when another process has it open, or the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "inbox.sqlite3"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "inbox.lock").open("w")
        except OSError as error:
            raise ConfigurationError(
                "open the inbox", str(folder), error.strerror or str(error), "Name another folder"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            found = "another receiver has it open"
            raise ConfigurationError(
                "open the inbox", str(folder), found, "End that one, or name another folder"
            ) from error
        self._writes: queue.Queue[tuple[Callable[[sqlite3.Connection], Any], Future[Any]] | None] = queue.Queue(
            MOST_WAITING_WRITES
        )
        try:
            self._connect().close()
        except sqlite3.Error as error:
            self._lock.close()
            raise PermanentError(
                "open the inbox", str(self.file), str(error), "Look at the disk and the file"
            ) from error
        self._written = True
        self._reading = self._connect()
        self._reading_lock = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="inbox", daemon=True)
        self._thread.start()

    def accept(self, start: Start, token: Token | None, now: float) -> "Future[Outcome]":
        """Put a delivery in. The future has its outcome once it is on disk, or the error. Raise TemporaryError when too many wait already."""
        return self.submit(lambda connection: _accept(connection, start, token, now))

    def submit(self, change: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Have a change written; the future is done after the commit."""
        future: Future[T] = Future()
        try:
            self._writes.put_nowait((change, future))
        except queue.Full:
            raise TemporaryError(
                "write the inbox", str(self.file), "too many writes wait", "Look at the disk"
            ) from None
        return future

    def set_started(self, key: str, run_id: str) -> None:
        """Keep which run was made."""
        self._change("UPDATE deliveries SET state = 'started', run_id = ? WHERE key = ?", run_id, key)

    def set_made(self, key: str, run_id: str, now: float) -> None:
        """Keep which run was made; nobody is told of its end."""
        self._change("UPDATE deliveries SET state = 'ended', run_id = ?, ended = ? WHERE key = ?", run_id, now, key)

    def set_never_made(self, key: str, note: str) -> None:
        """Keep why no run was made; GitHub is still to be told."""
        self._change("UPDATE deliveries SET state = 'started', note = ? WHERE key = ?", note, key)

    def set_reported(self, key: str, state: str, received: float | None = None) -> None:
        """Keep what GitHub was told last. `received`: of the delivery that was received then, not of one that was taken in anew since."""
        self._change(f"UPDATE deliveries SET reported = ? WHERE {_THAT_ONE}", state, key, received)  # noqa: S608 - ours

    def set_ended(self, key: str, note: str, now: float, received: float | None = None) -> None:
        """Nothing is to be done about it any more. `received`: as of set_reported."""
        self._change(
            f"UPDATE deliveries SET state = 'ended', note = ?, ended = ? WHERE {_THAT_ONE}",  # noqa: S608 - ours
            note,
            now,
            key,
            received,
        )

    def forget(self, before: float, now: float) -> None:
        """Remove deliveries that ended before a moment, and ids of tokens that have expired (a day is left for clocks that were put back).

        What GitHub shows as active is kept: the next release, however late, tells it otherwise.
        """
        shown = f"{_SHOWN} AND deployment_id IS NOT NULL"
        self._change(f"DELETE FROM deliveries WHERE state = 'ended' AND ended < ? AND NOT ({shown})", before)  # noqa: S608 - ours
        self._change("DELETE FROM tokens WHERE expires < ?", now - 86400)

    def open(self, state: Literal["waiting", "started"], most: int = 1000) -> list[Delivery]:
        """The deliveries of a state, the oldest first."""
        return self._read("state = ? ORDER BY received LIMIT ?", state, most)

    def find(self, key: str) -> Delivery | None:
        """The delivery of a key; None when there is none (any more)."""
        return next(iter(self._read("key = ?", key)), None)

    def succeeded_before(self, delivery: Delivery, went_on: float = 0.0) -> list[Delivery]:
        """Releases and rollbacks of the same environment that GitHub was told succeeded, that it still shows as active, and that this one came after: what was received
        earlier, and what had ended when this one still went on (`went_on`: when that was last seen), since one that waits for a person is overtaken."""
        return self._read(
            f"environment = ? AND {_SHOWN} AND (received <= ? OR (state = 'ended' AND ended < ?)) AND key != ?",
            delivery.start.environment,
            delivery.received,
            went_on,
            delivery.start.key,
        )

    def counts(self) -> dict[str, tuple[int, float]]:
        """For waiting and started: how many, and when the oldest was received."""
        with self._reading_lock:
            rows = self._reading.execute(
                "SELECT state, count(*), min(received) FROM deliveries WHERE state IN ('waiting', 'started') GROUP BY state"
            ).fetchall()
        return {state: (count, oldest) for state, count, oldest in rows}

    @property
    def alive(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    @property
    def writable(self) -> bool:
        """Whether the last write came onto the disk. After one that did not another is tried at each look, so that it is known when there is room again."""
        if not self._written:
            with contextlib.suppress(TemporaryError):
                self.submit(lambda connection: connection.execute(_TRY, (time.time(),)))
        return self._written

    def close(self) -> None:
        """Write what waits, then end."""
        self._writes.put(None)
        self._thread.join()
        self._reading.close()
        self._lock.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False, timeout=10)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        return connection

    def _change(self, statement: str, *values: object) -> None:
        self.submit(lambda connection: connection.execute(statement, values).rowcount).result()

    def _read(self, condition: str, *values: object) -> list[Delivery]:
        with self._reading_lock:
            rows = self._reading.execute(f"SELECT {_COLUMNS} FROM deliveries WHERE {condition}", values).fetchall()  # noqa: S608 - ours
        return [_delivery(row) for row in rows]

    def _write(self) -> None:
        connection = self._connect()
        with contextlib.closing(connection):
            ending = False
            while not ending:
                batch = [self._writes.get()]
                with contextlib.suppress(queue.Empty):
                    while len(batch) < MOST_AT_ONCE:
                        batch.append(self._writes.get_nowait())
                ending = None in batch
                # Who asked may have gone (a connection that broke): such a change is left out. From here on it can no longer be taken back.
                changes = [one for one in batch if one and one[1].set_running_or_notify_cancel()]
                if changes:
                    self._written = _commit_together(connection, changes)


def _commit_together(
    connection: sqlite3.Connection, batch: list[tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]]
) -> bool:
    """Each change in a savepoint of its own, all in one transaction; the futures are done after the commit, since only then it is on disk. Return whether all is."""
    results: list[tuple[Future[Any], Any, Exception | None]] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        for change, future in batch:
            connection.execute("SAVEPOINT one")
            try:
                results.append((future, change(connection), None))
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who asked for the change
                connection.execute("ROLLBACK TO one")
                results.append((future, None, error))
            connection.execute("RELEASE one")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        # A full disk is not asked again at once.
        time.sleep(0.05)
        results = [(future, None, error) for _, future in batch]
    for future, result, failure in results:
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)
    return not any(isinstance(failure, sqlite3.OperationalError) for _, _, failure in results)


def _accept(connection: sqlite3.Connection, start: Start, token: Token | None, now: float) -> Outcome:
    if token is not None:
        fresh = connection.execute(
            "INSERT INTO tokens VALUES (?, ?) ON CONFLICT DO NOTHING", (token.jti, token.expires)
        )
        if not fresh.rowcount:
            return "token used"
    parameters = json.dumps(dict(start.parameters), sort_keys=True)
    made = connection.execute(
        "INSERT INTO deliveries (key, environment, flow, parameters, repository, deployment_id, received) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (start.key, start.environment, start.flow, parameters, start.repository, start.deployment_id, now),
    )
    if made.rowcount:
        return "accepted"
    # Given up before a run was made, whether GitHub has heard of it or not: who sends it again wants it still, by GitHub's event as the rules are now.
    # Prefect makes one run of a key, should it have made one all the same.
    again = connection.execute(
        "UPDATE deliveries SET state = 'waiting', parameters = ?, received = ?, note = '', reported = '', ended = NULL"
        " WHERE key = ? AND state != 'waiting' AND run_id IS NULL AND (parameters = ? OR ?)",
        (parameters, now, start.key, parameters, token is None),
    )
    if again.rowcount:
        return "accepted"
    (kept,) = connection.execute("SELECT parameters FROM deliveries WHERE key = ?", (start.key,)).fetchone()
    return "repeated" if kept == parameters else "other parameters"


def _delivery(row: tuple[Any, ...]) -> Delivery:
    key, environment, flow, parameters, repository, deployment_id, received, state, run_id, note, reported = row
    start = Start(key, environment, flow, json.loads(parameters), repository, deployment_id)
    return Delivery(start, received, state, run_id or "", note, reported)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Inbox]:
    """An inbox for the length of the block."""
    inbox = Inbox(folder)
    try:
        yield inbox
    finally:
        inbox.close()
