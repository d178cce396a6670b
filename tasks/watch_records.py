"""The records of a watch in the bucket: read, and written so that whoever does the same at the same time, or again, changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from core.environment import Environment
from core.errors import IntegrityError
from core.keys import watch_folder, watches_folder
from core.manifest import Record
from core.signature import SigningKey
from core.watch_decision import BLIND, DEGRADED, OUTSIDE, ROLLBACK, STOPPED, SUSPECT, UNSCRAPED
from core.watch_record import OutsideBefore, WatchBaseline, WatchEnd, WatchLogs, WatchMark, WatchStart, WatchTick
from tasks.object_store import ObjectExistsError, ObjectStore
from tasks.recording import utc_now
from tasks.sealed import open_sealed, read_record, sealed_bytes
from tasks.secrets import signing_keys

R = TypeVar("R", OutsideBefore, WatchStart, WatchBaseline, WatchLogs, WatchTick, WatchMark, WatchEnd)
START, BASELINE, KNOWN_LOGS, ENDED, TICK = "watch", "baseline", "known-logs", "ended", "tick-"
OUTSIDE_BEFORE = "outside-before"
# What a tick reads of what was done; the other marks (signed off, reminded) concern nobody but who made them.
MARKS = (DEGRADED, SUSPECT, ROLLBACK, STOPPED, BLIND, OUTSIDE, UNSCRAPED)


class WatchRecords:
    """The folder of one watch. Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside."""

    def __init__(self, environment: Environment, release_id: str) -> None:
        self.environment, self.release_id = environment, release_id
        self._store = ObjectStore.open(environment)
        self._keys = signing_keys(environment)
        self._folder = watch_folder(environment.prefix, release_id)

    def names(self) -> tuple[str, ...]:
        """The names of what is there, in order; one LIST."""
        found = (one.key.removeprefix(self._folder) for one in self._store.list(self._folder))
        return tuple(name.removesuffix(".json") for name in found if name.endswith(".json"))

    def start(self) -> WatchStart:
        """What is watched. Raise ObjectMissingError when no watch of this release was begun."""
        return self._read(START, WatchStart)

    def baseline(self) -> WatchBaseline:
        """The days to compare with. Raise ObjectMissingError while they were not read yet."""
        return self._read(BASELINE, WatchBaseline)

    def known_logs(self) -> WatchLogs:
        """The errors in the logs before the release. Raise ObjectMissingError while they were not learned."""
        return self._read(KNOWN_LOGS, WatchLogs)

    def outside_before(self) -> OutsideBefore:
        """The public address as it was before the release. Raise ObjectMissingError when nobody looked."""
        return self._read(OUTSIDE_BEFORE, OutsideBefore)

    def end(self) -> WatchEnd:
        """How it ended. Raise ObjectMissingError while it goes on."""
        return self._read(ENDED, WatchEnd)

    def mark(self, what: str) -> WatchMark:
        """What was done once. Raise ObjectMissingError when it was not."""
        return self._read(what, WatchMark)

    def newest_tick(self, names: Iterable[str]) -> WatchTick | None:
        """Given the names of what is there, the tick that saw most; None before the first."""
        ticks = [name for name in names if name.startswith(TICK)]
        return self._read(max(ticks), WatchTick) if ticks else None

    def keep(
        self, record: OutsideBefore | WatchStart | WatchBaseline | WatchLogs | WatchTick | WatchMark | WatchEnd
    ) -> bool:
        """Write a record that is not there yet, and return whether it was this call that did: of several that see the same, one does."""
        body = sealed_bytes(record, self._keys[0])
        try:
            # A tick is deleted after the end; all that it saw stands in the last one.
            self._store.put_new(self._key(_name_of(record)), body, locked=not isinstance(record, WatchTick))
        except ObjectExistsError:
            return False
        return True

    def keep_mark(self, what: str, why: str, by: str) -> bool:
        """Write that something was done, and return whether it was this call that did."""
        mark = WatchMark(
            environment=self.environment.name,
            release_id=self.release_id,
            what=what,
            at=utc_now(),
            by=by,
            why=why[:1000],
        )
        return self.keep(mark)

    def forget_ticks(self, names: Iterable[str]) -> None:
        """Delete all ticks but the last one."""
        ticks = sorted(name for name in names if name.startswith(TICK))
        if ticks[:-1]:
            self._store.delete(self._key(name) for name in ticks[:-1])

    def _read(self, name: str, record: type[R]) -> R:
        key = self._key(name)
        on = f"s3://{self._store.bucket}/{key}"
        whose = self.environment.name, self.release_id
        return opened(self._store.get(key), self._keys, name, record, whose=whose, on=on)

    def _key(self, name: str) -> str:
        return f"{self._folder}{name}.json"


def opened(
    stored: bytes, keys: Sequence[SigningKey], name: str, record: type[R], *, whose: tuple[str, str], on: str
) -> R:
    """Given the bytes of a record, its name, and of which environment and release it is to be, return it. Raise IntegrityError when it is not that."""
    what = f"the watch's {name}"
    found = read_record(open_sealed(stored, keys, what=what, on=on), record, what=what, on=on)
    if (found.environment, found.release_id) != whose:
        raise IntegrityError(f"read {what}", on, f"it is {found.environment}'s {found.release_id}'s")
    # A signed object under another name is a forgery, too: an early tick as the last one, a mark of one thing as that of another.
    if (own := _name_of(found)) != name:
        raise IntegrityError(f"read {what}", on, f"it is a copy of {own}", "Find out who copied it; nightshift has not")
    return found


def _name_of(record: Record) -> str:
    if isinstance(record, WatchMark):
        return record.what
    if isinstance(record, WatchTick):
        return f"{TICK}{record.closed:03d}-{record.known:03d}"
    return _NAMES[type(record)]


_NAMES: dict[type[Record], str] = {
    WatchStart: START,
    OutsideBefore: OUTSIDE_BEFORE,
    WatchBaseline: BASELINE,
    WatchLogs: KNOWN_LOGS,
    WatchEnd: ENDED,
}


def watches(environment: Environment) -> Mapping[str, tuple[str, ...]]:
    """Release id → names of what is kept of its watch, oldest first by the time of `watch.json`; one LIST per 1,000 objects."""
    folder = watches_folder(environment.prefix)
    begun: dict[str, datetime] = {}
    found: dict[str, list[str]] = {}
    for one in ObjectStore.open(environment).list(folder):
        release_id, _, name = one.key.removeprefix(folder).partition("/")
        if name.endswith(".json"):
            found.setdefault(release_id, []).append(name.removesuffix(".json"))
            if name == f"{START}.json":
                begun[release_id] = one.modified
    return {release_id: tuple(found[release_id]) for release_id in sorted(begun, key=lambda one: begun[one])}
