"""Looking for the backup that a restore or a drill takes; nothing counts that was not verified by its signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from core.backup_id import is_backup_id
from core.catalogue import USABLE, Catalogue, CatalogueEntry
from core.environment import Environment
from core.errors import ConfigurationError, PermanentError
from core.evidence import Finding
from core.manifest import Manifest, Record
from core.restore_choice import Option, choose, choose_for_drill, future_sentence, options, without_future
from core.signature import SigningKey
from tasks.catalogue import read_catalogue, read_manifest
from tasks.object_store import ObjectStore
from tasks.recording import utc_now
from tasks.trust import Examiner, gap_sentence

_FUTURE_TOLD = 3


class ChosenBackup(Record):
    """A verified backup: its id and state, when its snapshot was taken, and what the choice was between. `reservation`: what its proof leaves out. `passed_over`: what
    is wrong with others that were looked at. `own`: what is to be known of this one."""

    backup_id: str
    state: str
    snapshot_time: datetime
    manifest_sha256: str
    choices: tuple[Option, ...]
    passed_over: tuple[str, ...] = ()
    own: str = ""
    reservation: str = ""

    @property
    def shown_state(self) -> str:
        """The state as it is to be shown: a proof with its reservation."""
        return f"{self.state}, {self.reservation}" if self.reservation else self.state

    @property
    def findings(self) -> tuple[Finding, ...]:
        """For the report: what is to be known of this backup, and of those that were passed over."""
        told = [self.own] if self.own else []
        told += [f"passed over: {one}" for one in self.passed_over]
        return tuple(Finding(severity="warning", text=text) for text in told)


class _Chooser:
    """Reads a catalogue and examines what is about to be chosen, until the choice is one that was examined."""

    def __init__(  # noqa: PLR0917 - what it reads, and at what time
        self,
        store: ObjectStore,
        environment: Environment,
        database: str,
        keys: Sequence[SigningKey],
        now: datetime,
        wanted: str = "",
        *,
        whole: bool = True,
    ) -> None:
        self.store, self.environment, self.database, self.keys = store, environment, database, keys
        self.examiner = Examiner(store, environment, database, keys)
        listed = read_catalogue(store, environment, database)
        kept, future = without_future(listed, now)
        # Who names a backup by its id means that one, whatever a clock says.
        named = is_backup_id(wanted.strip())
        # Nor what its dump lacks; else such a one counts for no age, and is not chosen as the newest.
        self.whole = whole and not named
        self.listed = listed if named else kept
        self.future = (
            () if named else tuple(entry for entry in reversed(future) if entry.state in USABLE)[:_FUTURE_TOLD]
        )
        self.now = now

    @property
    def catalogue(self) -> Catalogue:
        """What was listed, with all that was examined counted as what it is worth."""
        return self.examiner.verified(self.listed, without_gaps=self.whole)

    def examined(self, entry: CatalogueEntry) -> tuple[CatalogueEntry, Manifest] | None:
        """The entry with its manifest when it is worth what it was chosen for; None: choose again, since more is known now."""
        examined = self.examiner.examine(entry)
        if examined.manifest is None or examined.worth != entry.state or (self.whole and examined.gaps):
            return None
        return entry, examined.manifest

    def options(self, now: datetime) -> tuple[Option, ...]:
        """What a person chooses between. The catalogue first: it has examined both when it is there."""
        catalogue = self.catalogue
        return options(catalogue, now, self.examiner.reservations)

    def told(self, entry: CatalogueEntry, now: datetime) -> ChosenBackup:
        _, sha256 = read_manifest(self.store, self.environment, self.database, entry.backup_id, self.keys)
        return ChosenBackup(
            backup_id=entry.backup_id,
            state=entry.state,
            snapshot_time=entry.snapshot_time,
            manifest_sha256=sha256,
            choices=self.options(now),
            reservation=self.examiner.reservations.get(entry.backup_id, "") if entry.state == "proven" else "",
            passed_over=tuple(text for name, text in self.told_of.items() if name != entry.backup_id),
            own=self.told_of.get(entry.backup_id, ""),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with backups that claim more than they are worth, as far as they were examined."""
        return tuple(self.told_of.values())

    @property
    def told_of(self) -> dict[str, str]:
        """The same, by id."""
        found = {
            name: "; ".join(filter(None, (one.told, gap_sentence(name, one.gaps))))
            for name, one in self.examiner.examined.items()
        }
        told = {name: text for name, text in found.items() if text}
        return {**{entry.backup_id: future_sentence(entry, self.now) for entry in self.future}, **told}


def restore_options(
    store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey]
) -> tuple[Option, ...]:
    """Return what a person chooses between: the newest proven and the newest decoded backup, both verified, with what each would lose."""
    now = utc_now()
    return _Chooser(store, environment, database, keys, now).options(now)


def find_backup(
    store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey], wanted: str
) -> tuple[ChosenBackup, Manifest]:
    """Given what was asked for (core.restore_choice), return that backup and its manifest.

    Raise ConfigurationError when there is none such, PermanentError when the one that was named by its id is forged or lacks data. One
    that is marked as damaged is taken when it is named by its id, and that is told.
    """
    now = utc_now()
    chooser = _Chooser(store, environment, database, keys, now, wanted)
    for entry in chooser.listed.entries:
        if entry.backup_id == wanted.strip() and (examined := chooser.examiner.examine(entry)).problem:
            if examined.worth == "damaged" and examined.manifest is not None:
                # Who names it may have put it back; whether it is whole now, only restoring it tells.
                return chooser.told(replace(entry, state="damaged"), now), examined.manifest
            on = f"{environment.name}/{database}/{entry.backup_id}"
            raise PermanentError("restore a backup", on, examined.problem)
    while True:
        try:
            entry = choose(chooser.catalogue, wanted, now)
        except ConfigurationError as error:
            if not chooser.problems:
                raise
            # There may be none only because the one that there was is forged or lost data.
            found_so = f"{error.found}; {'; '.join(chooser.problems)}"
            raise PermanentError(error.attempted, error.on, found_so, error.next_step) from error
        if (found := chooser.examined(entry)) is not None:
            return chooser.told(found[0], now), found[1]


def find_backup_to_drill(
    store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey], *, from_copy: bool = False
) -> tuple[ChosenBackup, Manifest]:
    """Return the newest decoded backup that no drill has proven, else the newest one. Raise PermanentError when none is decoded.

    `from_copy`: the store is the bucket's copy, which another backup would not fill.
    """
    now = utc_now()
    # One with gaps too: what it is worth, the drill finds out.
    chooser = _Chooser(store, environment, database, keys, now, whole=False)
    while (entry := choose_for_drill(chooser.catalogue)) is not None:
        if (found := chooser.examined(entry)) is not None:
            return chooser.told(found[0], now), found[1]
    problems = "; ".join(chooser.problems)
    if from_copy:
        where, next_step = (
            f"in the bucket's copy, {store.bucket}",
            "See whether the bucket is replicated to it, and since when",
        )
    else:
        where, next_step = "yet", f"nightshift backup {environment.name} --database {database}"
    raise PermanentError(
        "choose a backup to drill",
        f"{environment.name}/{database}",
        problems or f"no backup is decoded {where}",
        next_step,
    )
