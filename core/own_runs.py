"""What the reports of an environment say of its runs, for its metrics: little of each, so that a hundred of them take no room."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.drill_trend import DrillPoint, points_of
from core.evidence import Report, Verdict

# Of these flows a database's own steps tell whether it went well for that database; of all others the verdict tells.
BY_DATABASE = frozenset({"nightly-backup", "dr-drill"})
FLOWS = BY_DATABASE | {
    "app-state-backup",
    "post-deploy-watch",
    "release",
    "release-recovery",
    "restore",
    "rollback",
    "undo-swap",
}
# The step with which a release begins to change something (tasks.release_start).
TAKE_OVER = "take over"
_RELEASING = frozenset({"release", "release-recovery"})


@dataclass(frozen=True)
class Run:
    """One report: its number and hashes, its flow (`other` for one that is not known), when, how it ended, and each subject with whether a step of it failed.

    `began`: the releases that it began to change, or found begun. `drills`: the points of the trend.
    """

    sequence: int
    sha256: str
    previous_sha256: str | None
    flow: str
    started: datetime
    finished: datetime
    verdict: Verdict
    dry_run: bool
    failed: Mapping[str, bool]
    began: frozenset[str]
    drills: tuple[DrillPoint, ...]


def run_of(report: Report, sha256: str) -> Run:
    """Given a report and the SHA-256 of its bytes, return what the metrics need of it. Raise ValueError when a drill's figures are not what they should be."""
    failed: dict[str, bool] = {}
    for step in report.steps:
        failed[step.subject] = failed.get(step.subject, False) or step.state == "failed"
    if report.verdict == "failed" and not any(failed.values()):
        # It did not come to its end, and no step says why.
        failed = dict.fromkeys(failed, True)
    began = {
        step.subject
        for step in report.steps
        if (report.flow == "release" and step.name == TAKE_OVER) or report.flow == "release-recovery"
    }
    return Run(
        sequence=report.sequence,
        sha256=sha256,
        previous_sha256=report.previous_sha256,
        flow=report.flow if report.flow in FLOWS else "other",
        started=report.started,
        finished=report.finished,
        verdict=report.verdict,
        dry_run=bool(report.inputs.get("dry_run")),
        failed=failed,
        began=frozenset(began),
        drills=points_of(report),
    )


def last_runs(runs: Iterable[Run]) -> dict[str, Run]:
    """Given runs, return the newest of each flow, by its number. A dry run did nothing, so it is none."""
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda one: one.sequence):
        if not run.dry_run:
            found[run.flow] = run
    return found


def last_successes(runs: Iterable[Run], databases: Iterable[str]) -> dict[tuple[str, str], datetime]:
    """Given runs and the environment's databases, return (flow, database) → when it last went well: the end of that run.

    The database is "" for flows that are not about one. A backup of one database is no success for another, whatever the run's verdict.
    """
    known, found = frozenset(databases), dict[tuple[str, str], datetime]()
    for run in sorted(runs, key=lambda one: one.sequence):
        if run.dry_run:
            continue
        if run.flow in BY_DATABASE:
            found.update(
                {(run.flow, name): run.finished for name, bad in run.failed.items() if name in known and not bad}
            )
        elif run.verdict != "failed":
            found[run.flow, ""] = run.finished
    return found


def last_drills(runs: Iterable[Run], databases: Iterable[str]) -> dict[str, DrillPoint]:
    """Given runs and the environment's databases, return of each database the newest drill that restored it."""
    known = frozenset(databases)
    points = [one for run in sorted(runs, key=lambda one: one.sequence) for one in run.drills]
    return {one.database: one for one in points if one.database in known}


def open_since(runs: Sequence[Run], release_id: str, planned: datetime) -> datetime | None:
    """Given runs, a release without an end and when its plan was last written, return since when it is open; None when it was refused before it changed anything: a run
    tells of it, and none that it began.

    Each try to bring it to its end writes its plan anew, so the first run that tells of it may be older.
    """
    about = [run for run in runs if run.flow in _RELEASING and release_id in run.failed]
    if about and not any(release_id in run.began for run in about):
        return None
    return min((planned, *(run.started for run in about)))


def chain_problems(runs: Iterable[Run], unreadable: int, first: int, last: int) -> int:
    """Given the runs that could be read, how many reports could not, the number that the look began at, and the chain's last one by its head (0: no head), return how
    many places are wrong: not readable, missing, or not fitting together. `nightshift evidence verify` names them."""
    by_number = {run.sequence: run for run in runs}
    end = max((last, *by_number))
    missing = max(0, end - first + 1 - len(by_number) - unreadable)
    broken = sum(
        1
        for number, run in by_number.items()
        if (before := by_number.get(number - 1)) is not None and run.previous_sha256 != before.sha256
    )
    return unreadable + missing + broken
