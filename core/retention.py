"""Which backups are kept and which are deleted: a pure function of catalogue, policy, time and time zone, with a reason for each backup.

A backup is deleted when its snapshot is at least `days` old and nothing protects it. Protected are: pins; the newest proven one (while none is proven,
the newest decoded one); the newest `minimum_keep` usable ones; the newest usable one of each of the last N days, weeks and months that have one
(grandfather-father-son, in the environment's time zone). Usable means decoded or proven: a backup that was never read back is kept by its age like any
other, but never stands in for one that was. Where fewer than `minimum_keep` are usable, the newest of the others fill the number up.

Age is a duration between two instants, so daylight saving does not touch it. A snapshot in the future means that a clock jumped: then ages mean nothing,
and nothing is deleted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from core.catalogue import USABLE, CatalogueEntry, State
from core.environment import Retention
from core.evidence import Finding

CLOCK_TOLERANCE = timedelta(minutes=5)
_NEWEST_PROVEN = "newest proven"

_DISTRUST: Mapping[State, str] = {
    "damaged": "a drill or a restore found it damaged: not counted, and left for you to look at",
    "incomplete": "its manifest or its data is forged or damaged: not counted, and left for you to look at",
    "uploaded": "its state object is forged or damaged: not counted, and left for you to look at",
    "decoded": "its proof is forged or damaged: counted as decoded, and left for you to look at",
}


class Decision(NamedTuple):
    """What becomes of one backup, and why."""

    backup_id: str
    keep: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One decision for each backup, ascending by id. `refusal` is empty, or says why nothing is deleted at all."""

    decisions: tuple[Decision, ...]
    refusal: str = ""

    @property
    def kept(self) -> Iterator[str]:
        """The ids that are kept, ascending."""
        return (decision.backup_id for decision in self.decisions if decision.keep)

    @property
    def deleted(self) -> Iterator[str]:
        """The ids that are deleted, ascending."""
        return (decision.backup_id for decision in self.decisions if not decision.keep)


@dataclass(frozen=True, slots=True)
class RetentionOutcome:
    """What carrying out a plan did, or with `dry_run` would do. Backups are named by their ids, objects by their keys.

    `deleted`: backups whose manifest is gone (dry run: would go). `deleted_objects`: objects removed, those of orphans included. `locked`, `failed`: objects
    that stayed, and why. `orphans`: remains of unfinished backups that were swept. `aborted_uploads`: unfinished uploads that were aborted.
    `foreign_objects`: objects in the folder that are not nightshift's; nothing ever touches them.
    """

    plan: Plan
    dry_run: bool
    deleted: tuple[str, ...] = ()
    deleted_objects: int = 0
    locked: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    orphans: tuple[str, ...] = ()
    aborted_uploads: int = 0
    foreign_objects: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def gone(self) -> tuple[str, ...]:
        """The folders that are no longer there because of this; none after a dry run."""
        return () if self.dry_run else (*self.deleted, *self.orphans)

    def facts(self) -> dict[str, Any]:
        """The figures of a report's step."""
        return {
            "dry_run": self.dry_run,
            "kept": len(self.plan.decisions) - len(self.deleted),
            "deleted": len(self.deleted),
            "deleted_objects": self.deleted_objects,
            "locked_objects": len(self.locked),
            "failed_objects": len(self.failed),
            "orphans": len(self.orphans),
            "aborted_uploads": self.aborted_uploads,
            "foreign_objects": self.foreign_objects,
        }


@dataclass(frozen=True, slots=True)
class Protection:
    """Why backups are kept whatever their age: reasons by id, the ids whose states this relies on (newest first), and what was found out about some."""

    reasons: Mapping[str, str]
    leans_on: tuple[str, ...]
    worth: Mapping[str, State]


def protect(
    entries: Iterable[CatalogueEntry], policy: Retention, zone: ZoneInfo, worth: Mapping[str, State] | None = None
) -> Protection:
    """Given backups, policy and time zone, return which of them are protected and why.

    `worth` tells what a backup was found to be worth when it was looked at, by id: it counts as that state instead of the one the listing tells.
    `uploaded` there means a forged or damaged state object, `incomplete` a forged or damaged manifest, `damaged` that a drill or a restore found its data so.
    """
    worth = worth or {}
    newest_first = sorted((e for e in entries if e.state != "incomplete"), key=lambda e: e.backup_id, reverse=True)
    usable = [entry for entry in newest_first if worth.get(entry.backup_id, entry.state) in USABLE]
    reasons: dict[str, str] = {}

    proven = next((entry for entry in usable if worth.get(entry.backup_id, entry.state) == "proven"), None)
    if proven is not None:
        reasons[proven.backup_id] = _NEWEST_PROVEN
    elif usable:
        reasons[usable[0].backup_id] = "newest decoded, while none is proven"
    always = f"one of the {policy.minimum_keep} that are always kept"
    for entry in usable[: policy.minimum_keep]:
        reasons.setdefault(entry.backup_id, always)
    for label, count, period in _generations(policy):
        for name, entry in _newest_of_each(usable, count, period, zone):
            reasons.setdefault(entry.backup_id, f"{label}: newest of {name}")
    leans_on = tuple(sorted(reasons, reverse=True))

    # One whose state object is forged is listed as more than it is worth.
    unread = (e for e in newest_first if e.state == worth.get(e.backup_id, e.state) == "uploaded")
    for entry, _ in zip(unread, range(policy.minimum_keep - len(usable)), strict=False):
        reasons[entry.backup_id] = f"{always} (never decoded; too few others are)"
    return Protection(reasons, leans_on, worth)


def plan_retention(
    entries: Sequence[CatalogueEntry],
    policy: Retention,
    now: datetime,
    zone: ZoneInfo,
    *,
    worth: Mapping[str, State] | None = None,
    reservations: Mapping[str, str] | None = None,
    refusal: str = "",
) -> Plan:
    """Given a catalogue's entries, the policy, the time (aware) and the zone of its days, return one decision for each entry that has a manifest.

    `worth` is explained at `protect`; what is in it as less than it claimed to be is kept for somebody to look at. A `refusal` given keeps everything.
    `reservations` says of backups what a proof of them leaves out, by id: such a proof protects like any other, and is told with it.
    Raise ValueError for a naive time or an id that comes twice.
    """
    if now.tzinfo is None:
        raise ValueError("retention needs a time with a time zone")
    worth = worth or {}
    backups = sorted((entry for entry in entries if entry.state != "incomplete"), key=lambda entry: entry.backup_id)
    if any(one.backup_id == next_one.backup_id for one, next_one in pairwise(backups)):
        raise ValueError("a backup comes twice in the catalogue")
    refusal = refusal or _refusal(backups, now, worth)
    if refusal:
        reason = f"nothing is deleted: {refusal}"
        return Plan(tuple(Decision(entry.backup_id, True, reason) for entry in backups), refusal)
    protection = protect(backups, policy, zone, worth)
    # Thousands of backups have the same few reasons; each text is held once.
    texts: dict[str, str] = {}
    decisions = []
    for entry in backups:
        keep, text = _decide(entry, policy, now, protection)
        if text == _NEWEST_PROVEN and reservations and entry.backup_id in reservations:
            text = f"{text} ({reservations[entry.backup_id]})"
        decisions.append(Decision(entry.backup_id, keep, texts.setdefault(text, text)))
    return Plan(tuple(decisions))


def _refusal(backups: Sequence[CatalogueEntry], now: datetime, worth: Mapping[str, State]) -> str:
    """Why nothing may be deleted at all; empty when nothing speaks against it. Backups ascend by id, so the newest is the last."""
    if backups and backups[-1].snapshot_time > now + CLOCK_TOLERANCE:
        newest = backups[-1]
        return (
            f"the snapshot of {newest.backup_id} lies in the future of {now:%Y-%m-%d %H:%M:%S%z}, so a clock is or was wrong and no age can be relied on; "
            "set the clocks right, and pin or remove that backup by hand"
        )
    if backups and not any(worth.get(entry.backup_id, entry.state) in USABLE for entry in backups):
        return "no backup is decoded or proven, so none is known to be good"
    return ""


def _decide(entry: CatalogueEntry, policy: Retention, now: datetime, protection: Protection) -> tuple[bool, str]:
    if entry.backup_id in policy.pins:
        return True, "pinned"
    found = protection.worth.get(entry.backup_id, entry.state)
    if found != entry.state:
        return True, _DISTRUST[found]
    reason = protection.reasons.get(entry.backup_id, "")
    if reason.startswith("newest "):
        return True, reason
    age = now - entry.snapshot_time
    if age < timedelta(days=policy.days):
        return True, f"younger than {_days(policy.days)} ({_days(max(age.days, 0))})"
    return (True, reason) if reason else (False, f"{_days(age.days)} old and not needed")


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"


def _generations(policy: Retention) -> tuple[tuple[str, int, Callable[[datetime], str]], ...]:
    return (
        ("daily", policy.keep_daily, lambda local: f"{local:%Y-%m-%d}"),
        ("weekly", policy.keep_weekly, lambda local: f"{local:%G-W%V}"),
        ("monthly", policy.keep_monthly, lambda local: f"{local:%Y-%m}"),
    )


def _newest_of_each(
    usable: Iterable[CatalogueEntry], count: int, period: Callable[[datetime], str], zone: ZoneInfo
) -> Iterator[tuple[str, CatalogueEntry]]:
    """Given usable backups, newest first, yield the newest of each of the last `count` periods that have one."""
    # A set, not only the last name: where clocks go back just after midnight (Newfoundland until 2011), a day is left and entered again.
    seen: set[str] = set()
    for entry in usable if count else ():
        name = period(entry.snapshot_time.astimezone(zone))
        if name in seen:
            continue
        if len(seen) == count:
            return
        seen.add(name)
        yield name, entry
