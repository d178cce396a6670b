"""nightshift's own metrics: from what the bucket says of an environment to samples. What each means: docs/observability.md.

Times are told as moments (Unix time), never as ages: whoever looks computes the age when he looks, so that nothing that was read a while ago seems fresher than it is.
What is not known has no sample: absent is neither 0 nor good.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

from core.catalogue import State
from core.drill_verdict import Outcome as DrillOutcome
from core.environment import Objectives
from core.evidence import Verdict as RunVerdict
from core.own_metrics_watches import LOOKED_BACK, OpenWatch, Sample, one_of, open_watch_samples, watch_samples
from core.own_metrics_watches import METRICS as WATCH_METRICS
from core.own_runs import Run, last_drills, last_runs, last_successes
from core.release_journal import Outcome

if TYPE_CHECKING:  # it needs numpy
    from core.watch_record import WatchEnd

_HOUR = 3600.0
_KINDS = ("release", "rollback")
Kind = Literal["backup", "evidence", "release", "watch"]


@dataclass(frozen=True)
class NewestBackup:
    """The newest decoded backup: bytes stored and before compression, its rows (None: no table was counted), how long it took."""

    stored_bytes: int
    plain_bytes: int
    rows: int | None
    duration: timedelta


@dataclass(frozen=True)
class DatabaseFacts:
    """What the bucket has of a database: backups by state, the snapshots of the newest decoded and the newest proven one, and what the former is."""

    database: str
    backups: Mapping[State, int]
    recovery_point: datetime | None
    proof: datetime | None
    newest: NewestBackup | None


@dataclass(frozen=True)
class ClosedFacts:
    """A release or rollback that came to its end."""

    release_id: str
    kind: str
    outcome: Outcome
    began: datetime | None
    at: datetime


@dataclass(frozen=True)
class EnvironmentFacts:
    """All that was read of an environment. `head`: the number of the chain's last report; `open_releases`: when each was planned; `distrusted`: objects that are
    forged, damaged or missing, by kind."""

    environment: str
    read_at: datetime
    read_seconds: float
    objectives: Objectives
    databases: tuple[DatabaseFacts, ...]
    head: int = 0
    runs: tuple[Run, ...] = ()
    closed: tuple[ClosedFacts, ...] = ()
    open_releases: tuple[datetime, ...] = ()
    watches: "tuple[WatchEnd, ...]" = ()
    open_watches: tuple[OpenWatch, ...] = ()
    distrusted: Mapping[Kind, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Unread:
    """An environment whose bucket could not be read: nothing is known of it."""

    environment: str


@dataclass(frozen=True)
class Family:
    """A metric: a gauge, its labels, and its samples as (label values, value)."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float], ...]


def families(found: Iterable[EnvironmentFacts | Unread], version: str, now: datetime) -> tuple[Family, ...]:
    """Given what was read of each environment, nightshift's version and the time (aware), return all metrics, those without a sample too."""
    samples: dict[str, list[tuple[tuple[str, ...], float]]] = {name: [] for name in METRICS}
    samples["nightshift_build_info"].append(((version,), 1))
    for one in found:
        samples["nightshift_up"].append(((one.environment,), float(isinstance(one, EnvironmentFacts))))
        if isinstance(one, EnvironmentFacts):
            for name, labels, value in _samples(one, now):
                samples[name].append(((one.environment, *labels), value))
    return tuple(
        Family(
            name,
            told,
            ("version",) if name == "nightshift_build_info" else ("environment", *labels),
            tuple(samples[name]),
        )
        for name, (told, labels) in METRICS.items()
    )


def _samples(facts: EnvironmentFacts, now: datetime) -> Iterator[Sample]:
    yield "nightshift_read_timestamp_seconds", (), facts.read_at.timestamp()
    yield "nightshift_read_duration_seconds", (), facts.read_seconds
    for kind in get_args(Kind):
        yield "nightshift_distrusted_objects", (kind,), facts.distrusted.get(kind, 0)
    for database in facts.databases:
        yield from _of_database(database, facts.objectives)
    yield from _of_runs(facts)
    yield from _of_drills(facts)
    yield from _of_releases(facts, now)
    yield from watch_samples(facts.watches, now)
    yield from open_watch_samples(facts.open_watches)


def _of_database(one: DatabaseFacts, objectives: Objectives) -> Iterator[Sample]:
    labels = (one.database,)
    yield "nightshift_recovery_point_objective_seconds", labels, objectives.recovery_point_hours * _HOUR
    if objectives.proof_age_hours:
        yield "nightshift_proof_objective_seconds", labels, objectives.proof_age_hours * _HOUR
    if one.recovery_point is not None:
        yield "nightshift_recovery_point_timestamp_seconds", labels, one.recovery_point.timestamp()
    if one.proof is not None:
        yield "nightshift_proof_timestamp_seconds", labels, one.proof.timestamp()
    for state in ("uploaded", "decoded", "proven", "damaged"):
        yield "nightshift_backups", (one.database, state), one.backups.get(state, 0)
    if one.newest is not None:
        yield "nightshift_backup_stored_bytes", labels, one.newest.stored_bytes
        yield "nightshift_backup_plain_bytes", labels, one.newest.plain_bytes
        yield "nightshift_backup_duration_seconds", labels, one.newest.duration.total_seconds()
        if one.newest.rows is not None:
            yield "nightshift_backup_rows", labels, one.newest.rows


def _of_runs(facts: EnvironmentFacts) -> Iterator[Sample]:
    yield "nightshift_evidence_reports", (), facts.head
    if facts.runs:
        newest = max(facts.runs, key=lambda one: one.sequence)
        yield "nightshift_evidence_newest_timestamp_seconds", (), newest.finished.timestamp()
    for flow, run in sorted(last_runs(facts.runs).items()):
        yield "nightshift_flow_last_run_timestamp_seconds", (flow,), run.started.timestamp()
        yield "nightshift_flow_last_run_duration_seconds", (flow,), (run.finished - run.started).total_seconds()
        yield from one_of("nightshift_flow_last_run_verdict", (flow,), get_args(RunVerdict), run.verdict)
    names = [one.database for one in facts.databases]
    for (flow, database), at in sorted(last_successes(facts.runs, names).items()):
        yield "nightshift_flow_last_success_timestamp_seconds", (flow, database), at.timestamp()


def _of_drills(facts: EnvironmentFacts) -> Iterator[Sample]:
    if facts.objectives.restore_minutes:
        yield "nightshift_recovery_time_objective_seconds", (), facts.objectives.restore_minutes * 60.0
    for database, point in last_drills(facts.runs, [one.database for one in facts.databases]).items():
        yield "nightshift_drill_timestamp_seconds", (database,), point.time.timestamp()
        yield "nightshift_drill_plain_bytes", (database,), point.plain_bytes
        yield from one_of("nightshift_drill_outcome", (database,), get_args(DrillOutcome), point.outcome)
        for phase, ms in point.phases.items():
            yield "nightshift_drill_recovery_seconds", (database, phase), ms / 1000


def _of_releases(facts: EnvironmentFacts, now: datetime) -> Iterator[Sample]:
    recent = Counter((one.kind, one.outcome) for one in facts.closed if one.at > now - LOOKED_BACK)
    for kind in _KINDS:
        for outcome in get_args(Outcome):
            yield "nightshift_recent_releases", (kind, outcome), recent[kind, outcome]
        last = max((one for one in facts.closed if one.kind == kind), key=lambda one: one.at, default=None)
        if last is not None:
            yield "nightshift_release_last_timestamp_seconds", (kind,), last.at.timestamp()
            yield from one_of("nightshift_release_last_outcome", (kind,), get_args(Outcome), last.outcome)
            if last.began is not None:
                yield "nightshift_release_last_duration_seconds", (kind,), (last.at - last.began).total_seconds()
    yield "nightshift_releases_open", (), len(facts.open_releases)
    if facts.open_releases:
        yield "nightshift_release_open_timestamp_seconds", (), min(facts.open_releases).timestamp()


# Name → what it says, and its labels beside the environment.
METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nightshift_build_info": ("1; the version of nightshift that read the bucket.", ("version",)),
    "nightshift_up": (
        "1 when the environment's bucket could be read, 0 when not; then nothing else is told of it.",
        (),
    ),
    "nightshift_read_timestamp_seconds": ("When the bucket was read (Unix time).", ()),
    "nightshift_read_duration_seconds": ("How long reading it took.", ()),
    "nightshift_distrusted_objects": (
        "Objects of this kind that are forged, damaged or missing, among those looked at: of backups the newest and those marked as damaged.",
        ("kind",),
    ),
    "nightshift_recovery_point_timestamp_seconds": (
        "Snapshot of the newest decoded backup (Unix time).",
        ("database",),
    ),
    "nightshift_recovery_point_objective_seconds": ("How old it may be.", ("database",)),
    "nightshift_proof_timestamp_seconds": ("Snapshot of the newest proven backup (Unix time).", ("database",)),
    "nightshift_proof_objective_seconds": ("How old it may be; absent when proofs are not asked for.", ("database",)),
    "nightshift_backups": ("Backups that are kept, by state.", ("database", "state")),
    "nightshift_backup_stored_bytes": ("The newest decoded backup as stored.", ("database",)),
    "nightshift_backup_plain_bytes": ("The newest decoded backup before compression.", ("database",)),
    "nightshift_backup_rows": ("Rows of the tables that it counted.", ("database",)),
    "nightshift_backup_duration_seconds": ("How long it took to make.", ("database",)),
    "nightshift_evidence_reports": ("The number of the chain's last report.", ()),
    "nightshift_evidence_newest_timestamp_seconds": ("When the newest readable report was written (Unix time).", ()),
    "nightshift_flow_last_run_timestamp_seconds": (
        "Start of the flow's last run that left a report (Unix time).",
        ("flow",),
    ),
    "nightshift_flow_last_run_duration_seconds": ("How long that run took.", ("flow",)),
    "nightshift_flow_last_run_verdict": ("1 for the verdict of that run, 0 for the others.", ("flow", "verdict")),
    "nightshift_flow_last_success_timestamp_seconds": (
        "End of the last run that went well (Unix time); of backups and drills, for this database.",
        ("flow", "database"),
    ),
    "nightshift_drill_timestamp_seconds": (
        "Start of the last drill that restored the database (Unix time).",
        ("database",),
    ),
    "nightshift_drill_outcome": ("1 for the outcome of that drill, 0 for the others.", ("database", "outcome")),
    "nightshift_drill_recovery_seconds": (
        "How long each phase of that restore took; their sum is the recovery time.",
        ("database", "phase"),
    ),
    "nightshift_drill_plain_bytes": ("How much it restored, before compression.", ("database",)),
    "nightshift_recovery_time_objective_seconds": ("How long a restore may take; absent when not asked for.", ()),
    "nightshift_recent_releases": ("Releases and rollbacks that ended in the last 30 days.", ("kind", "outcome")),
    "nightshift_release_last_timestamp_seconds": ("End of the last one (Unix time).", ("kind",)),
    "nightshift_release_last_duration_seconds": ("How long it took, from its first change to its end.", ("kind",)),
    "nightshift_release_last_outcome": ("1 for its outcome, 0 for the others.", ("kind", "outcome")),
    "nightshift_releases_open": (
        "Releases that began and have no end in the bucket: they go on, or were left in the middle.",
        (),
    ),
    "nightshift_release_open_timestamp_seconds": ("When the oldest of these was begun (Unix time).", ()),
    **WATCH_METRICS,
}
