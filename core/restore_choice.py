"""Which backup a restore or a drill takes. There is no silent default: a restore says what it wants, in one of four ways, and is told what that loses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.backup_id import is_backup_id
from core.catalogue import USABLE, Catalogue, CatalogueEntry
from core.errors import ConfigurationError
from core.manifest import Record
from core.retention import CLOCK_TOLERANCE
from core.units import human_age

NEWEST_PROVEN, NEWEST_DECODED, BEFORE = "newest-proven", "newest-decoded", "before:"
ALLOWED = f"a backup id, {NEWEST_PROVEN}, {NEWEST_DECODED}, or {BEFORE}TIME (such as {BEFORE}2026-03-01T12:00:00Z)"


class Option(Record):
    """One backup that could be restored: how it would be asked for, its id and state, and what would be lost with it. `reservation`: what its proof leaves out."""

    choice: str
    backup_id: str
    state: str
    snapshot_time: datetime
    loses: str
    reservation: str = ""

    @property
    def shown_state(self) -> str:
        """The state as it is to be shown: a proof with its reservation."""
        return f"{self.state}, {self.reservation}" if self.reservation else self.state


def options(catalogue: Catalogue, now: datetime, reservations: Mapping[str, str] | None = None) -> tuple[Option, ...]:
    """Given a database's catalogue (verified), the time, and what proofs of backups leave out by their ids, return what a person chooses between: the newest proven and
    the newest decoded backup."""
    found = ((NEWEST_PROVEN, catalogue.newest_proven), (NEWEST_DECODED, catalogue.recovery_point))
    return tuple(
        Option(
            choice=choice,
            backup_id=entry.backup_id,
            state=entry.state,
            snapshot_time=entry.snapshot_time,
            loses=f"everything written in the last {human_age(now - entry.snapshot_time)}",
            reservation=(reservations or {}).get(entry.backup_id, "") if entry.state == "proven" else "",
        )
        for choice, entry in found
        if entry is not None
    )


def options_text(choices: Sequence[Option], database: str) -> str:
    """Given the options, return them as a Markdown table for a form."""
    if not choices:
        return f"No backup of {database} is decoded: there is nothing to restore."
    lines = ["| choice | backup | state | what would be lost |", "|---|---|---|---|"]
    lines += [f"| `{one.choice}` | {one.backup_id} | {one.shown_state} | {one.loses} |" for one in choices]
    return "\n".join([*lines, "", f"Allowed: {ALLOWED}."])


def choose(catalogue: Catalogue, wanted: str, now: datetime) -> CatalogueEntry:
    """Given a database's catalogue (verified) and what was asked for, return that backup.

    Raise ConfigurationError when it is none of the four ways, when there is no such backup, when it was never decoded, or when the time has no zone.
    """
    entry = _find(catalogue, wanted.strip(), now)
    if entry.state not in USABLE:
        found = {
            "uploaded": "it was never decoded: nobody has read it back to its end",
            "incomplete": "it has no valid manifest or lacks data: it is no backup",
            "damaged": "a drill or a restore found it damaged",
        }[entry.state]
        raise ConfigurationError("restore a backup", entry.backup_id, found, _others(catalogue, now))
    return entry


def without_future(catalogue: Catalogue, now: datetime) -> tuple[Catalogue, tuple[CatalogueEntry, ...]]:
    """Given a catalogue and the time (aware), return it without backups whose snapshot lies in the future by more than clocks may differ, and those."""
    future = tuple(entry for entry in catalogue.entries if entry.snapshot_time > now + CLOCK_TOLERANCE)
    there = tuple(entry for entry in catalogue.entries if entry.snapshot_time <= now + CLOCK_TOLERANCE)
    return replace(catalogue, entries=there), future


def future_sentence(entry: CatalogueEntry, now: datetime) -> str:
    """Given a backup whose snapshot lies in the future, return the sentence that tells it."""
    return (
        f"the snapshot of {entry.backup_id} lies in the future of {now:%Y-%m-%d %H:%M:%S} UTC: this machine's clock is wrong, or that of the machine that took it was; "
        "it can be asked for by its id"
    )


def choose_for_drill(catalogue: Catalogue) -> CatalogueEntry | None:
    """Given a database's catalogue (verified), return the newest decoded backup that no drill has proven yet, else the newest one; None when none is decoded."""
    usable = [entry for entry in catalogue.entries if entry.state in USABLE]
    unproven = [entry for entry in usable if entry.state == "decoded"]
    candidates = unproven or usable
    return candidates[-1] if candidates else None


def _find(catalogue: Catalogue, wanted: str, now: datetime) -> CatalogueEntry:
    if wanted == NEWEST_PROVEN:
        return _require(catalogue.newest_proven, "no backup is proven yet", wanted, catalogue, now)
    if wanted == NEWEST_DECODED:
        return _require(catalogue.recovery_point, "no backup is decoded yet", wanted, catalogue, now)
    if wanted.startswith(BEFORE):
        limit = parse_time(wanted.removeprefix(BEFORE))
        older = [e for e in catalogue.entries if e.state in USABLE and e.snapshot_time < limit]
        return _require(older[-1] if older else None, "no decoded backup is older than this", wanted, catalogue, now)
    if not is_backup_id(wanted):
        raise ConfigurationError("choose a backup", repr(wanted[:60]), "it is no choice", f"Allowed: {ALLOWED}")
    same = [entry for entry in catalogue.entries if entry.backup_id == wanted]
    return _require(same[0] if same else None, "there is no such backup", wanted, catalogue, now)


def parse_time(text: str) -> datetime:
    """Given an ISO 8601 time with a zone, return it in UTC. Raise ConfigurationError when it is none: a time without a zone could mean two backups."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            "choose a backup", repr(text[:60]), "it is no ISO 8601 time", f"Allowed: {ALLOWED}"
        ) from error
    if moment.tzinfo is None:
        raise ConfigurationError(
            "choose a backup", text, "the time has no zone", f"Say {text}Z for UTC, or {text}+02:00"
        )
    return moment.astimezone(UTC)


def _require(
    entry: CatalogueEntry | None, why: str, wanted: str, catalogue: Catalogue, now: datetime
) -> CatalogueEntry:
    if entry is None:
        raise ConfigurationError("choose a backup", wanted, why, _others(catalogue, now))
    return entry


def _others(catalogue: Catalogue, now: datetime) -> str:
    there = options(catalogue, now)
    if not there:
        return "There is no decoded backup at all; `nightshift catalog` shows what there is"
    return "There are " + " and ".join(
        f"{one.choice} ({one.backup_id}, {human_age(now - one.snapshot_time)} old)" for one in there
    )


def lost_since(entry: CatalogueEntry, now: datetime) -> timedelta:
    """How much time's writes a restore of this backup loses, when the live database is given up."""
    return now - entry.snapshot_time
