"""Past drills as a trend: one point a drill, a table for people and the series of a chart."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from core.evidence import Report
from core.manifest import Record
from core.units import human_bytes, human_duration

FACTS = "restored"


class DrillPoint(Record):
    """One drill of one database: when, of which backup, how long each phase took (milliseconds), how much was restored (plain bytes), and how it ended."""

    time: datetime
    database: str
    backup_id: str
    server: str
    phases: dict[str, int]
    plain_bytes: int
    outcome: str
    indicative: bool

    @property
    def ms(self) -> int:
        """From request to first verified query."""
        return sum(self.phases.values())

    @property
    def ms_per_gb(self) -> int | None:
        """Milliseconds for each 10⁹ plain bytes; None of an empty dump."""
        return self.ms * 1_000_000_000 // self.plain_bytes if self.plain_bytes else None


def points_of(report: Report) -> tuple[DrillPoint, ...]:
    """Given a drill's report, return its points, one a database that was restored. Another flow's report has none."""
    if report.flow != "dr-drill":
        return ()
    found = []
    for step in report.steps:
        facts = step.facts.get(FACTS)
        if isinstance(facts, Mapping):
            found.append(DrillPoint.model_validate({**facts, "time": report.started, "database": step.subject}))
    return tuple(found)


def trend_rows(points: Sequence[DrillPoint]) -> list[dict[str, Any]]:
    """Given points, newest first, return a table for people."""
    return [
        {
            "drill": point.time.strftime("%Y-%m-%d %H:%M"),
            "database": point.database,
            "backup": point.backup_id,
            "outcome": point.outcome,
            "recovery time": human_duration(point.ms) + (" (indicative)" if point.indicative else ""),
            **{name: human_duration(ms) for name, ms in point.phases.items()},
            "restored": human_bytes(point.plain_bytes),
            "per GB": "–" if point.ms_per_gb is None else human_duration(point.ms_per_gb),
            "server": point.server,
        }
        for point in points
    ]


def expected_ms(points: Iterable[DrillPoint], database: str, plain_bytes: int) -> int | None:
    """Given past drills, return how long a restore of so many plain bytes should take: the median of the last five's time per byte; None without any."""
    rates = sorted(
        point.ms / point.plain_bytes for point in [p for p in points if p.database == database and p.plain_bytes][:5]
    )
    return round(rates[len(rates) // 2] * plain_bytes) if rates else None
