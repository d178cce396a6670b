"""What an environment's bucket says of it, read for the metrics: the truth is there, not in the memory of a process that may have been away.

Requests, when nothing was read before: for each database one LIST per 1,000 objects and two to four GETs (manifest and state of the newest decoded and the newest
proven backup, and three for each that is marked as damaged);
one GET and one LIST of the evidence, and a GET for each of the last 100 reports; one LIST of the releases per 1,000 objects, a GET for each that
ended in the last 30 days, and one for its watch; one LIST of the watches per 1,000 objects, and a GET for each record of one that goes on: its beginning, its last
look, and what was told. A process that stays keeps what it verified (tasks.kept_reads): then it is four requests, three to five a database, and two for each watch
that goes on.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from core.canonical import sha256_hex
from core.catalogue import State
from core.environment import Environment
from core.environment_watch import Watch
from core.errors import IntegrityError
from core.evidence import Head, Report
from core.evidence_chain import sequence_of
from core.keys import evidence_folder, evidence_head_key, evidence_key, releases_folder, watch_folder, watches_folder
from core.manifest import Manifest
from core.own_metrics import ClosedFacts, DatabaseFacts, EnvironmentFacts, Kind, NewestBackup
from core.own_metrics_watches import LOOKED_BACK, OpenWatch
from core.own_runs import Run, chain_problems, open_since, run_of
from core.signature import SigningKey
from core.watch_record import WatchEnd, WatchMark, WatchStart, WatchTick
from core.watch_standing import standing_of
from tasks.catalogue import read_catalogue
from tasks.kept_reads import DISTRUSTED, KeptReads
from tasks.object_store import ObjectMissingError, ObjectStore, StoredObject
from tasks.release_records import ClosedRelease
from tasks.sealed import open_sealed, read_record
from tasks.secrets import signing_keys
from tasks.trust import Examiner
from tasks.watch_counts import scraped_by
from tasks.watch_records import ENDED, MARKS, START, TICK, opened

REPORTS_READ = 100
# A day, and as long as is waited at most for a Prometheus that is away; a watch that has not ended by then has none.
WATCH_ENDS_WITHIN = timedelta(days=5)


def read_environment(environment: Environment, kept: KeptReads, now: datetime) -> EnvironmentFacts:
    """Given an environment, what was read before, and the time (aware), read its bucket. Raise TemporaryError or PermanentError when that is not possible.

    What is forged or damaged counts for nothing, and is counted itself.
    """
    began = time.monotonic()
    store = ObjectStore.open(environment)
    try:
        look = _Look(store, environment, signing_keys(environment), kept, now)
        databases = tuple(look.database(name) for name in environment.databases)
        head, runs, whole = look.runs()
        closed, without_end = look.releases()
        watches = tuple(look.watches(closed))
        open_watches = tuple(look.open_watches())
    finally:
        store.client.close()
    kept.forget_unused()
    oldest = min((run.started for run in runs), default=now)
    return EnvironmentFacts(
        environment=environment.name,
        read_at=now,
        read_seconds=time.monotonic() - began,
        objectives=environment.objectives,
        databases=databases,
        head=head,
        runs=runs,
        closed=closed,
        # Of one that was planned before the oldest report that was read nobody knows here whether it was refused.
        open_releases=tuple(
            since
            for release_id, planned in without_end.items()
            if (whole or planned > oldest) and (since := open_since(runs, release_id, planned)) is not None
        ),
        watches=watches,
        open_watches=open_watches,
        distrusted=look.distrusted,
    )


class _Look:
    """One look at a bucket. `distrusted`: how many objects of each kind are forged, damaged or missing."""

    def __init__(
        self, store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], kept: KeptReads, now: datetime
    ) -> None:
        self.store, self.environment, self.keys, self.kept, self.now = store, environment, keys, kept, now
        self.prefix = environment.prefix
        self.distrusted: dict[Kind, int] = {}

    def database(self, database: str) -> DatabaseFacts:
        """A database's backups."""
        catalogue = read_catalogue(self.store, self.environment, database)
        examiner = Examiner(self.store, self.environment, database, self.keys)
        examiner.examine_marked(catalogue)
        known = examiner.verified(catalogue, without_gaps=True)
        removed = sum(1 for entry in catalogue.incomplete if entry.manifest_removed)
        self._distrust("backup", removed + sum(1 for one in examiner.examined.values() if one.told))
        backups: dict[State, int] = {}
        for entry in known.backups:
            backups[entry.state] = backups.get(entry.state, 0) + 1
        point, proof = known.recovery_point, known.newest_proven
        manifest = None if point is None else examiner.examine(point).manifest
        return DatabaseFacts(
            database=database,
            backups=backups,
            recovery_point=None if point is None else point.snapshot_time,
            proof=None if proof is None else proof.snapshot_time,
            newest=None if manifest is None else _newest(manifest),
        )

    def runs(self) -> tuple[int, tuple[Run, ...], bool]:
        """The chain's last number, the newest runs, and whether the look went back to the first report."""
        head = self._head()
        start_after = evidence_key(self.prefix, max(0, head - REPORTS_READ)) if head else ""
        numbered = {
            number: one
            for one in self.store.list(evidence_folder(self.prefix), start_after=start_after)
            if (number := sequence_of(one.key, self.prefix))
        }
        last = max((head, *numbered))
        first = max(1, last - REPORTS_READ + 1)
        listed = [one for number, one in numbered.items() if number >= first]
        found = self.kept.read_all(self.store, listed, self._run)
        runs = tuple(one for one in found if one is not DISTRUSTED)
        # Without a head nobody would notice that the chain's end was cut off.
        self._distrust("evidence", int(not head and bool(numbered)))
        self._distrust("evidence", chain_problems(runs, len(found) - len(runs), first, last))
        return last, runs, first == 1

    def releases(self) -> tuple[tuple[ClosedFacts, ...], dict[str, datetime]]:
        """Of the last 30 days: releases with an end, and id → when the plan was last written, of those without. The two newest ends are read however old they are."""
        folder = releases_folder(self.prefix)
        plans: dict[str, datetime] = {}
        ends: dict[str, StoredObject] = {}
        for one in self.store.list(folder):
            release_id, _, name = one.key.removeprefix(folder).partition("/")
            if name == "closed.json":
                ends[release_id] = one
            elif name.startswith("plan-"):
                plans[release_id] = min(one.modified, plans.get(release_id, one.modified))
        oldest = self.now - LOOKED_BACK
        newest = sorted(ends.values(), key=lambda one: one.modified)[-2:]
        recent = [one for one in ends.values() if one.modified > oldest or one in newest]
        found = self.kept.read_all(self.store, recent, self._closed)
        self._distrust("release", sum(one is DISTRUSTED for one in found))
        without_end = {name: at for name, at in plans.items() if name not in ends and at > oldest}
        return tuple(one for one in found if one is not DISTRUSTED), without_end

    def watches(self, closed: Sequence[ClosedFacts]) -> Iterator[WatchEnd]:
        """How the watches of these releases ended, of those that did."""
        self._distrust("watch", 0)
        for release in closed:
            if release.outcome != "released" or release.at < self.now - LOOKED_BACK:
                continue
            key = watch_folder(self.prefix, release.release_id) + "ended.json"
            final = release.at < self.now - WATCH_ENDS_WITHIN
            found = self.kept.look(self.store, key, self._ended, final=final)
            if found is DISTRUSTED:
                self._distrust("watch", 1)
            elif found is not None:
                yield found

    def open_watches(self) -> Iterator[OpenWatch]:
        """The watches that go on, of the last 30 days. Of one whose beginning or last look is forged nothing is told, but that it is."""
        folder = watches_folder(self.prefix)
        found: dict[str, dict[str, StoredObject]] = {}
        for one in self.store.list(folder):
            release_id, _, name = one.key.removeprefix(folder).partition("/")
            if name.endswith(".json"):
                found.setdefault(release_id, {})[name.removesuffix(".json")] = one
        settings = self.environment.watch or Watch()
        for names in found.values():
            if START not in names or ENDED in names or names[START].modified <= self.now - LOOKED_BACK:
                continue
            wanted = [START, *sorted(name for name in names if name.startswith(TICK))[-1:]]
            wanted += [name for name in names if name.startswith(MARKS)]
            records = self.kept.read_all(self.store, [names[name] for name in wanted], self._watch_record)
            bad = sum(one is DISTRUSTED for one in records)
            self._distrust("watch", bad)
            if bad:
                continue
            start = next(one for one in records if isinstance(one, WatchStart))
            tick = next((one for one in records if isinstance(one, WatchTick)), None)
            marks = [one for one in records if isinstance(one, WatchMark)]
            lag = scraped_by(settings.scrape_seconds)
            stands = standing_of(start, tick, marks, settings, lag, self.now)
            yield OpenWatch(start.first, stands.looked, stands.states, stands.blind_since)

    def _watch_record(self, stored: bytes, key: str) -> WatchStart | WatchTick | WatchMark:
        release_id, name = key.removesuffix(".json").split("/")[-2:]
        whose = self.environment.name, release_id
        if name == START:
            return opened(stored, self.keys, name, WatchStart, whose=whose, on=key)
        if name.startswith(TICK):
            return opened(stored, self.keys, name, WatchTick, whose=whose, on=key)
        return opened(stored, self.keys, name, WatchMark, whose=whose, on=key)

    def _head(self) -> int:
        """The chain's last number by its head; 0 without one that can be trusted."""
        key = evidence_head_key(self.prefix)
        try:
            stored = self.store.get(key)
        except ObjectMissingError:
            return 0
        try:
            head = read_record(open_sealed(stored, self.keys, what="the head", on=key), Head, what="the head", on=key)
        except IntegrityError:
            # Counted as missing.
            return 0
        return head.sequence if head.environment == self.environment.name else 0

    def _run(self, stored: bytes, key: str) -> Run:
        what = "the report"
        report = read_record(open_sealed(stored, self.keys, what=what, on=key), Report, what=what, on=key)
        _require_place(
            (report.environment, report.sequence), (self.environment.name, sequence_of(key, self.prefix)), key
        )
        return run_of(report, sha256_hex(stored))

    def _closed(self, stored: bytes, key: str) -> ClosedFacts:
        what = "the release's end"
        closed = read_record(open_sealed(stored, self.keys, what=what, on=key), ClosedRelease, what=what, on=key)
        _require_place((closed.environment, closed.release_id), (self.environment.name, key.split("/")[-2]), key)
        entries = closed.journal.entries
        began = entries[0].at if entries else None
        return ClosedFacts(closed.release_id, closed.journal.kind, closed.outcome, began, closed.at)

    def _ended(self, stored: bytes, key: str) -> WatchEnd:
        what = "the watch's end"
        ended = read_record(open_sealed(stored, self.keys, what=what, on=key), WatchEnd, what=what, on=key)
        _require_place((ended.environment, ended.release_id), (self.environment.name, key.split("/")[-2]), key)
        return ended

    def _distrust(self, kind: Kind, count: int) -> None:
        self.distrusted[kind] = self.distrusted.get(kind, 0) + count


def _newest(manifest: Manifest) -> NewestBackup:
    counted = [table.rows for table in manifest.tables if table.rows is not None]
    return NewestBackup(
        stored_bytes=manifest.stored_bytes,
        plain_bytes=manifest.plain_bytes,
        rows=sum(counted) if counted or not manifest.tables else None,
        duration=manifest.finished - manifest.started,
    )


def _require_place(said: tuple[object, ...], place: tuple[object, ...], key: str) -> None:
    if said != place:
        raise IntegrityError("read what was signed", key, f"it is {said}, and lies in the place of {place}")
