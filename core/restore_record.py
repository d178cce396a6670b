"""What a restore did and what it proves: the records that flows, evidence and the state `proven` are made of. Times are milliseconds (`ms`), sizes bytes."""

from typing import Literal

from pydantic import AwareDatetime

from core.compared_tables import ComparedTables
from core.manifest import Record, Sha256, Size

PhaseName = Literal["prepare", "fetch", "globals", "create", "restore", "analyze", "verify"]


class Phase(Record):
    """A part of a restore and how long it took."""

    name: PhaseName
    ms: Size


class Skipped(Record):
    """An entry of the dump that was not restored, as `pg_restore --list` names it, and why. A copy with one of these is never proven."""

    entry: str
    why: str


def refused_setting(role: str, name: str) -> str:
    """Given a role (empty: all) and a parameter, return how a note begins which says that the server did not take the source's setting of it."""
    return f"the setting {name}{f' for role {role}' if role else ''} was not made: "


class Restored(Record):
    """A database that was made of a backup.

    `name` is what it is called now, `oid` and `system_identifier` say which one it is (`unknown` where the role may not ask). `streamed`: without a copy on disk,
    with one job. `masked`: data was changed on purpose after the digests; never swapped, never proven. `partial`: only chosen tables were restored.
    """

    backup_id: str
    server: str
    name: str
    oid: int
    system_identifier: str
    server_version: str
    server_version_number: int
    pg_restore: str
    phases: tuple[Phase, ...]
    skipped: tuple[Skipped, ...] = ()
    roles_created: tuple[str, ...] = ()
    streamed: bool = False
    masked: bool = False
    partial: bool = False
    notes: tuple[str, ...] = ()

    @property
    def ms(self) -> int:
        """All phases together."""
        return sum(phase.ms for phase in self.phases)

    @property
    def reservations(self) -> str:
        """What keeps this copy from being the whole database as it was, for a sentence; empty when nothing does."""
        told = (
            (self.partial, "only chosen tables"),
            (bool(self.skipped), f"{len(self.skipped)} entries of the dump not restored"),
            (self.masked, "masked after it was verified"),
        )
        return ", ".join(text for holds, text in told if holds)


class Control(Record):
    """A negative control: a damage done on purpose, on what, and whether it was seen. `tried` is false where nothing could be damaged: then nothing is known."""

    name: Literal["value changed", "values exchanged", "row duplicated", "stored byte flipped", "plain byte flipped"]
    on: str
    detected: bool
    how: str
    tried: bool = True


class Proven(Record):
    """The state object of a backup that a drill restored and in which everything matched. `compared` tells by what its tables were compared; None in older ones."""

    format: Literal["nightshift-proven/1"] = "nightshift-proven/1"
    backup_id: str
    manifest_sha256: Sha256
    proven_at: AwareDatetime
    scratch: Literal["embedded", "server", "pod"]
    server_version: str
    tables: Size
    rows: Size
    restore_ms: Size
    indicative: bool
    controls: tuple[Control, ...]
    compared: ComparedTables | None = None


class WaitingCopy(Record):
    """A restored and verified copy as kept in the bucket, so that a run that was suspended for an approval goes on with it.

    `named`: whether it is known to have its name. The record is written before the copy gets it, with False, and again after: a run that is killed in between
    recognises its own copy by the oid and the system identifier.
    """

    format: Literal["nightshift-restore/1"] = "nightshift-restore/1"
    environment: str
    database: str
    restore_id: str
    flow_run_id: str
    restored: Restored
    verified_at: AwareDatetime
    named: bool = True
    swapped_at: AwareDatetime | None = None
    old_name: str | None = None
    old_oid: int | None = None
