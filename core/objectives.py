"""Two ages against two objectives: how old the newest decoded backup is (recovery point), and how old the newest proven one (proof)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from core.catalogue import Catalogue, CatalogueEntry
from core.checks import Check
from core.environment import Objectives
from core.units import human_age

_CLOCKS = (
    "One clock is or was wrong: this machine's (compare `date -u`, and set it), or that of the machine that took the backup. "
    "Then make a new backup, and pin or remove that one by hand"
)


def check_objectives(
    environment: str,
    database: str,
    catalogue: Catalogue,
    objectives: Objectives,
    now: datetime,
    *,
    reservations: Mapping[str, str] | None = None,
) -> tuple[Check, Check]:
    """Given a database's catalogue, its environment's objectives and the time (aware), return how both ages stand. Too old or absent is a warning.

    `reservations` says of backups what a proof of them leaves out, by id: such a proof counts, and is told with it.
    """
    return (
        _compare(
            f"{database}: recovery point",
            catalogue.recovery_point,
            "decoded",
            timedelta(hours=objectives.recovery_point_hours),
            now=now,
            next_step=f"nightshift backup {environment} --database {database}",
            reservations={},
        ),
        _compare(
            f"{database}: proof",
            catalogue.newest_proven,
            "proven",
            timedelta(hours=objectives.proof_age_hours),
            now=now,
            next_step=f"nightshift drill {environment} --database {database}",
            reservations=reservations or {},
        ),
    )


def _compare(
    name: str,
    entry: CatalogueEntry | None,
    state: str,
    objective: timedelta,
    *,
    now: datetime,
    next_step: str,
    reservations: Mapping[str, str],
) -> Check:
    if not objective:
        return Check(name=name, state="passed", found="not asked for: objectives.proof_age_hours is 0")
    asked = f"the objective is {objective // timedelta(hours=1)} h"
    if entry is None:
        return Check(name=name, state="warning", found=f"no backup is {state} yet; {asked}", next_step=next_step)
    age = now - entry.snapshot_time
    but = f" ({reservations[entry.backup_id]})" if entry.backup_id in reservations else ""
    found = f"the newest {state} backup, {entry.backup_id}{but}, is {human_age(age)} old; {asked}"
    if age > objective:
        return Check(name=name, state="warning", found=found, next_step=next_step)
    if age < timedelta(0):
        return Check(name=name, state="warning", found=f"{found}: a time to come", next_step=_CLOCKS)
    return Check(name=name, state="passed", found=found)
