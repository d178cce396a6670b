"""Retention carried out: the plan is a pure function (core.retention); this verifies what it leans on, deletes, and says what became of each object.

Requests: one LIST per 1,000 objects of the database's folder, one DELETE per 1,000 objects deleted, and a number that depends on the policy only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.backup_id import snapshot_time_of
from core.catalogue import USABLE, Catalogue, CatalogueEntry, split_own_key, state_of
from core.environment import Environment
from core.errors import PermanentError
from core.evidence import Finding
from core.keys import MANIFEST, database_folder
from core.retention import CLOCK_TOLERANCE, Plan, RetentionOutcome, plan_retention
from core.signature import SigningKey
from core.units import counted
from tasks.catalogue import read_catalogue, read_owner, require_owner
from tasks.object_store import Deletion, ObjectStore, Upload
from tasks.trust import MOST_DISTRUSTED, Examiner, Trust, verify_protection

__all__ = ["RetentionOutcome", "apply_retention"]

_EXAMPLES = 3


def apply_retention(
    store: ObjectStore,
    environment: Environment,
    database: str,
    keys: Sequence[SigningKey],
    now: datetime,
    *,
    dry_run: bool,
    current_backup_id: str | None,
) -> RetentionOutcome:
    """Delete what the environment's retention no longer keeps of a database, sweep what unfinished backups left, and say what was done.

    To be called after a success only: `current_backup_id` (None: not part of a backup run) must be decoded, else nothing is deleted. `now` is the
    worker's clock (aware); when it differs from S3's by more than five minutes nothing is deleted. `dry_run` changes nothing and tells the same plan.
    Raise PermanentError when the folder is another environment's or nobody's, TemporaryError when S3 does not answer.
    """
    pruning = _Pruning(store, environment, database, keys, now, current_backup_id)
    return pruning.carry_out(read_catalogue(store, environment, database), dry_run=dry_run)


@dataclass(frozen=True)
class _Sweep:
    """What is left of unfinished backups: folders without a manifest, and uploads that nobody completes any more."""

    orphans: tuple[CatalogueEntry, ...] = ()
    uploads: tuple[Upload, ...] = ()


@dataclass(frozen=True)
class _Pruning:
    """One application of the retention to one database's folder."""

    store: ObjectStore
    environment: Environment
    database: str
    keys: Sequence[SigningKey]
    now: datetime
    current_backup_id: str | None

    @property
    def folder(self) -> str:
        return database_folder(self.environment.prefix, self.database)

    def carry_out(self, catalogue: Catalogue, *, dry_run: bool) -> RetentionOutcome:
        self.require_ownership(catalogue)
        plan, trust = self.make_plan(catalogue)
        robbed = self.robbed(catalogue, trust)
        sweep = _Sweep() if plan.refusal else self.find_remains(catalogue, robbed)
        # Both ascend by id, one decision for each backup.
        doomed = [e for e, d in zip(catalogue.backups, plan.decisions, strict=True) if not d.keep]
        outcome = Deletion()
        if not dry_run:
            doomed = self.delete_backups(doomed, outcome)
            _add(outcome, self.store.delete(self.keys_of(sweep.orphans)))
            for upload in sweep.uploads:
                self.store.abort_upload(upload)
        return RetentionOutcome(
            plan=plan,
            dry_run=dry_run,
            deleted=tuple(entry.backup_id for entry in doomed),
            deleted_objects=outcome.deleted,
            locked=outcome.locked,
            failed=outcome.failed,
            orphans=tuple(entry.backup_id for entry in sweep.orphans),
            aborted_uploads=len(sweep.uploads),
            foreign_objects=catalogue.foreign,
            findings=(*self.removals(robbed), *_findings(self.environment, plan, trust, catalogue, outcome)),
        )

    def removals(self, robbed: Sequence[CatalogueEntry]) -> Iterator[Finding]:
        for entry in robbed:
            text = f"{entry.backup_id} was decoded once and has no manifest any more: somebody removed it. Its data is kept; find out why"
            yield Finding(severity="error", text=text)

    def require_ownership(self, catalogue: Catalogue) -> None:
        owner = read_owner(self.store, self.environment, self.database, self.keys) if catalogue.owned else None
        if owner is not None:
            require_owner(owner, self.store, self.environment, self.database)
        elif catalogue.entries:
            raise PermanentError(
                "apply the retention",
                f"s3://{self.store.bucket}/{self.folder}",
                "there are backups, but no owner.json that says whose they are",
                f"If they are environment {self.environment.name!r}'s, its next backup run claims the folder",
            )

    def make_plan(self, catalogue: Catalogue) -> tuple[Plan, Trust]:
        policy, zone = self.environment.retention, self.environment.zone
        refusal = self.clock_refusal() or self.success_refusal(catalogue) or self.lock_refusal()
        examiner = Examiner(self.store, self.environment, self.database, self.keys)
        trust = verify_protection(catalogue.backups, policy, zone, examiner.look)
        if trust.exhausted:
            refusal = (
                f"more than {MOST_DISTRUSTED} backups have a forged or damaged manifest or state; look at them first"
            )
        plan = plan_retention(
            self.known(catalogue, trust),
            policy,
            self.now,
            zone,
            worth=trust.worth,
            reservations=examiner.reservations,
            refusal=refusal,
        )
        return plan, trust

    def clock_refusal(self) -> str:
        theirs = self.store.server_time()
        if abs(theirs - self.now) <= CLOCK_TOLERANCE:
            return ""
        mine = f"{self.now:%Y-%m-%d %H:%M:%S%z}"
        return f"this worker's clock says {mine}, S3's {theirs:%Y-%m-%d %H:%M:%S%z}; set the wrong one right"

    def success_refusal(self, catalogue: Catalogue) -> str:
        mine = self.current_backup_id
        if mine is None:
            return ""
        state = next((entry.state for entry in catalogue.entries if entry.backup_id == mine), "not there")
        return "" if state in USABLE else f"this run's own backup {mine} is {state}, not decoded"

    def lock_refusal(self) -> str:
        """With an object lock, this run's own manifest was just locked.

        S3 tells no lock to credentials without s3:GetObjectRetention (Amazon S3 API Reference, HeadObject).
        """
        days = self.environment.store.object_lock_days
        if self.current_backup_id is None or not days:
            return ""
        if self.store.lock_of(f"{self.folder}{self.current_backup_id}/{MANIFEST}"):
            return ""
        return (
            f"the manifest of this run's own backup {self.current_backup_id} shows no lock, though store.object_lock_days = {days}: allow s3:GetObjectRetention"
            " to these credentials, or use a service that locks; a locked object would be hidden behind a delete marker"
        )

    def find_remains(self, catalogue: Catalogue, robbed: Sequence[CatalogueEntry]) -> _Sweep:
        """What unfinished backups left.

        A database is backed up by one run at a time (an advisory lock), so an upload of a snapshot before the current one's is nobody's; a later one
        may be a run that has just begun, and is left until it is as old as an orphan.
        """
        old = self.now - timedelta(hours=self.environment.retention.orphan_hours)
        current = snapshot_time_of(self.current_backup_id) if self.current_backup_id else None
        uploads, alive = [], {self.current_backup_id, *self.environment.retention.pins}
        for upload in self.store.list_uploads(self.folder):
            own = split_own_key(upload.key, self.folder)
            if own is None or own[0] == self.current_backup_id:
                continue
            taken = snapshot_time_of(own[0])
            if (current is not None and taken < current) or max(taken, upload.initiated) < old:
                uploads.append(upload)
            else:
                alive.add(own[0])
        orphans = tuple(
            entry
            for entry in catalogue.incomplete
            if entry.backup_id not in alive
            and max(entry.newest_modified, entry.snapshot_time) < old
            and entry not in robbed
        )
        return _Sweep(orphans, tuple(uploads))

    def robbed(self, catalogue: Catalogue, trust: Trust) -> list[CatalogueEntry]:
        """Backups whose manifest is gone though they were decoded once and would be kept if it were there: not for us to sweep.

        One that would not be is what a retention that was killed left: it deletes the manifest first.
        """
        if not (removed := [entry for entry in catalogue.incomplete if entry.manifest_removed]):
            return []
        as_they_were = (replace(entry, state=state_of((*entry.suffixes, MANIFEST))) for entry in removed)
        plan = plan_retention(
            (*self.known(catalogue, trust), *as_they_were),
            self.environment.retention,
            self.now,
            self.environment.zone,
            worth=trust.worth,
        )
        kept = frozenset(plan.kept)
        return [entry for entry in removed if entry.backup_id in kept]

    def known(self, catalogue: Catalogue, trust: Trust) -> tuple[CatalogueEntry, ...]:
        """The backups. With nothing wrong with their states, those with gaps are not kept for somebody to look at."""
        return tuple(
            replace(entry, state="uploaded") if entry.backup_id in trust.gapped else entry
            for entry in catalogue.backups
        )

    def delete_backups(self, entries: Sequence[CatalogueEntry], outcome: Deletion) -> list[CatalogueEntry]:
        """Delete the manifests, then the data of those whose manifest is gone: there is never a manifest without its data. Return those."""
        manifests = self.store.delete(self.manifest_of(entry) for entry in entries)
        _add(outcome, manifests)
        stayed = manifests.locked.keys() | manifests.failed.keys()
        gone = [entry for entry in entries if self.manifest_of(entry) not in stayed]
        _add(outcome, self.store.delete(self.keys_of(gone)))
        return gone

    def manifest_of(self, entry: CatalogueEntry) -> str:
        return f"{self.folder}{entry.backup_id}/{MANIFEST}"

    def keys_of(self, entries: Sequence[CatalogueEntry]) -> Iterator[str]:
        """All keys of these folders but their manifests'."""
        return (
            f"{self.folder}{entry.backup_id}/{suffix}"
            for entry in entries
            for suffix in entry.suffixes
            if suffix != MANIFEST
        )


def _add(outcome: Deletion, part: Deletion) -> None:
    outcome.deleted += part.deleted
    outcome.locked |= part.locked
    outcome.failed |= part.failed


def _findings(
    environment: Environment, plan: Plan, trust: Trust, catalogue: Catalogue, outcome: Deletion
) -> Iterator[Finding]:
    if plan.refusal:
        yield Finding(severity="error", text=f"nothing was deleted: {plan.refusal}")
    for problem in trust.problems.values():
        yield Finding(severity="error", text=f"a backup does not count: {problem}")
    for told in (*trust.marks.values(), *trust.gapped.values()):
        yield Finding(severity="warning", text=told)
    if outcome.failed:
        yield Finding(severity="error", text=_told("could not be deleted", "could not be deleted", outcome.failed))
    if outcome.locked:
        one, many = "is locked and stays until the lock ends", "are locked and stay until the lock ends"
        yield Finding(severity="warning", text=_told(one, many, outcome.locked))
    for pin in environment.retention.pins:
        if not any(entry.backup_id == pin for entry in catalogue.entries):
            yield Finding(severity="note", text=f"retention.pins: {pin} is no backup of this database")
    if catalogue.foreign:
        examples = ", ".join(catalogue.foreign_examples[:_EXAMPLES])
        yield Finding(
            severity="note",
            text=f"left alone: {counted(catalogue.foreign, 'object')} in the folder that nightshift did not write ({examples})",
        )


def _told(one: str, many: str, objects: Mapping[str, str]) -> str:
    examples = "; ".join(f"{key}: {why}" for key, why in list(objects.items())[:_EXAMPLES])
    return f"{counted(len(objects), 'object')} {one if len(objects) == 1 else many}: {examples}{' …' if len(objects) > _EXAMPLES else ''}"
