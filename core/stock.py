"""Backups that were there and are gone: each backup run writes down which there are (its stock), and what is missed since the stock before it.

The rule, chosen so that it cannot be silent: what a stock holds and the folder no longer has is missed, unless that stock's own run deleted it (it is taken
after the retention). A missed backup is told by every run and by the catalogue for MISSED_FOR after it was first missed, or until it is back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.backup_id import is_backup_id, snapshot_time_of
from core.catalogue import Catalogue
from core.evidence import Report

STEP = "take stock"
# Long enough for somebody to come back from a holiday.
MISSED_FOR = timedelta(days=14)
_NAMED = 5


@dataclass(frozen=True)
class Stock:
    """A database's backups as a run left them, by id, and the missed ones with when they were first missed (aware)."""

    backups: tuple[str, ...] = ()
    missed: Mapping[str, datetime] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What a report's step keeps of it."""
        missed = {backup_id: when.isoformat() for backup_id, when in self.missed.items()}
        return {"backups": list(self.backups), "missed": missed}


def stock_in(report: Report, database: str) -> Stock | None:
    """Given a verified report, return the stock that it took of a database; None when it took none, as older versions did."""
    for step in report.steps:
        if (step.name, step.subject) != (STEP, database):
            continue
        backups, missed = step.facts.get("backups"), step.facts.get("missed")
        if isinstance(backups, list) and isinstance(missed, dict):
            first = {name: datetime.fromisoformat(when) for name, when in missed.items() if is_backup_id(name)}
            return Stock(tuple(name for name in backups if is_backup_id(str(name))), first)
    return None


def made_backup_of(report: Report, database: str) -> bool:
    """Whether a report says that it committed a backup of a database."""
    return any(
        (step.name, step.subject) == ("commit the manifest", database) and step.state != "failed"
        for step in report.steps
    )


def take_stock(before: Stock | None, catalogue: Catalogue, deleted: Iterable[str], now: datetime) -> Stock:
    """Given the stock before (None: never taken), the folder, what this run itself deleted, and the time (aware), return the stock now.

    A backup of which only the manifest was removed is told of elsewhere; it is missed once the rest of it is gone, too.
    """
    there = {entry.backup_id for entry in catalogue.entries if entry.state != "incomplete" or entry.manifest_removed}
    known = {**dict.fromkeys(before.backups, now), **before.missed} if before else {}
    gone = known.keys() - there - set(deleted)
    return Stock(tuple(sorted(there)), {name: known[name] for name in sorted(gone) if now - known[name] < MISSED_FOR})


def missed_sentence(stock: Stock, now: datetime, days: int) -> str:
    """Given a stock, the time (aware) and the retention's days, say which backups are missed; "" when none is."""
    if not stock.missed:
        return ""
    names = sorted(stock.missed, reverse=True)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    told = "a backup that was there is gone" if len(names) == 1 else f"{len(names)} backups that were there are gone"
    sentence = f"{told}, and no report says that nightshift deleted {'it' if len(names) == 1 else 'them'}: {', '.join(names[:_NAMED])}{more}"
    if all(now - snapshot_time_of(name) >= timedelta(days=days) for name in names):
        return f"{sentence}. Old enough for the retention: a run that has not reported yet, or was killed after it deleted, may be why"
    return f"{sentence}. Look at the bucket's access log; in a versioned bucket they can be brought back"
