"""What a backup is worth once its signed objects were read: retention leans on few backups, and on none that it did not verify."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

from core.catalogue import USABLE, Catalogue, CatalogueEntry, State, data_problem
from core.compared_tables import ComparedTables, compared_tables
from core.environment import Environment, Retention
from core.errors import PermanentError
from core.keys import DECODED, PROVEN
from core.manifest import Manifest
from core.retention import protect
from core.signature import SigningKey
from tasks.catalogue import read_manifest, read_state
from tasks.object_store import ObjectStore

# More forged or damaged ones than this is not for a program to sort out; it also bounds the requests.
MOST_DISTRUSTED = 20
_GAPS_NAMED = 5


@dataclass
class Trust:
    """What was found: `worth` by id of each backup that was looked at, and a sentence for each that is worth less than it claims."""

    worth: dict[str, State] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        """Whether too many were forged or damaged to go on."""
        return len(self.problems) > MOST_DISTRUSTED


def verify_protection(
    entries: Sequence[CatalogueEntry], policy: Retention, zone: ZoneInfo, look: Callable[[CatalogueEntry, Trust], None]
) -> Trust:
    """Given backups, policy and zone, look at those that the protection leans on, newest first, until all that it leans on are what they claim to be.

    `look` notes in the trust what an entry is worth. The number of looks depends on the policy and on how many are found bad, not on how many there are.
    """
    trust = Trust()
    while not trust.exhausted:
        leans_on = protect(entries, policy, zone, trust.worth).leans_on
        unseen = [backup_id for backup_id in leans_on if backup_id not in trust.worth]
        if not unseen:
            break
        _look_until_bad(_entries_of(entries, unseen), trust, look)
    return trust


def gap_sentence(backup_id: str, gaps: Sequence[str]) -> str:
    """Given a backup and what its dump lacks, return the sentence that tells it; "" for one without gaps."""
    if not gaps:
        return ""
    more = f" and {len(gaps) - _GAPS_NAMED} more" if len(gaps) > _GAPS_NAMED else ""
    return f"{backup_id} does not count: its dump lacks {', '.join(gaps[:_GAPS_NAMED])}{more}, which the database had"


def _entries_of(entries: Iterable[CatalogueEntry], backup_ids: Sequence[str]) -> Iterator[CatalogueEntry]:
    """The entries of these ids, in their order."""
    wanted = frozenset(backup_ids)
    found = {entry.backup_id: entry for entry in entries if entry.backup_id in wanted}
    return (found[backup_id] for backup_id in backup_ids)


def _look_until_bad(
    entries: Iterable[CatalogueEntry], trust: Trust, look: Callable[[CatalogueEntry, Trust], None]
) -> None:
    """Look at one after the other until one is bad: then another takes its place, and the choice is made anew."""
    bad = len(trust.problems)
    for entry in entries:
        look(entry, trust)
        if len(trust.problems) > bad:
            return


@dataclass(frozen=True)
class Examined:
    """A backup as its signed objects tell: what it is worth, its manifest (None: forged or damaged), and what is wrong ("": nothing)."""

    worth: State
    manifest: Manifest | None
    problem: str = ""

    @property
    def compared(self) -> ComparedTables:
        """By what its tables are compared after a restore, as its manifest tells: so it is known of proofs that do not say so themselves."""
        return compared_tables(self.manifest.tables if self.manifest else ())

    @property
    def gaps(self) -> tuple[str, ...]:
        """What its dump lacks although the database had it, by name."""
        return self.manifest.coverage.missing if self.manifest is not None else ()


class Examiner:
    """Reads the signed objects of a database's backups, each backup once: its manifest and its state, two requests, three when its proof is bad.

    Every method raises TemporaryError when S3 does not answer: then nothing is known, and nothing may be deleted.
    """

    def __init__(self, store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey]) -> None:
        self._store, self._environment, self._database, self._keys = store, environment, database, keys
        self.examined: dict[str, Examined] = {}

    def examine(self, entry: CatalogueEntry) -> Examined:
        """Return what a backup is worth."""
        if entry.backup_id not in self.examined:
            self.examined[entry.backup_id] = self._examine(entry)
        return self.examined[entry.backup_id]

    def look(self, entry: CatalogueEntry, trust: Trust) -> None:
        """Note in the trust what a backup is worth (see verify_protection)."""
        examined = self.examine(entry)
        trust.worth[entry.backup_id] = examined.worth
        if examined.problem:
            trust.problems[entry.backup_id] = examined.problem

    @property
    def reservations(self) -> dict[str, str]:
        """Of each examined backup some of whose tables are not compared in full: how many, by id. A proof of it is not to be shown without this."""
        return {name: one.compared.short for name, one in self.examined.items() if one.compared.short}

    def verified(self, catalogue: Catalogue, *, without_gaps: bool = False) -> Catalogue:
        """Given a catalogue, return it with what was examined counted as what it is worth, and whose two points, decoded and proven, were examined.

        `without_gaps` is for telling ages: a backup whose dump lacks an object of its database counts as uploaded. Where more than 20 are forged or
        damaged, what was not examined counts as uploaded: no age is told that nobody looked at.
        """
        while True:
            bad = sum(1 for examined in self.examined.values() if examined.problem)
            known = replace(
                catalogue,
                entries=tuple(self._as_known(e, bad > MOST_DISTRUSTED, without_gaps) for e in catalogue.entries),
            )
            points = {point.backup_id for point in (known.recovery_point, known.newest_proven) if point is not None}
            unseen = points - self.examined.keys()
            if not unseen:
                return known
            for entry in _entries_of(catalogue.entries, sorted(unseen)):
                self.examine(entry)

    def _as_known(self, entry: CatalogueEntry, exhausted: bool, without_gaps: bool) -> CatalogueEntry:
        examined = self.examined.get(entry.backup_id)
        if examined is not None and examined.gaps and examined.worth in USABLE and without_gaps:
            return replace(entry, state="uploaded")
        if examined is not None:
            return entry if examined.worth == entry.state else replace(entry, state=examined.worth)
        return replace(entry, state="uploaded") if exhausted and entry.state in USABLE else entry

    def _examine(self, entry: CatalogueEntry) -> Examined:
        try:
            manifest, sha256 = read_manifest(
                self._store, self._environment, self._database, entry.backup_id, self._keys
            )
        except PermanentError as forged:
            return Examined("incomplete", None, str(forged))
        if lost := data_problem(entry, manifest):
            where = f"s3://{self._store.bucket}/{self._environment.prefix}/{self._database}/{entry.backup_id}/"
            error = PermanentError(
                "rely on a backup", where, lost, "It cannot be restored; find out who touched the bucket"
            )
            return Examined("incomplete", manifest, str(error))
        problem = ""
        claims: tuple[tuple[State, str], ...] = (("proven", PROVEN), ("decoded", DECODED))
        for state, key in claims:
            if key in entry.suffixes:
                found = self._state_problem(key, entry.backup_id, sha256)
                if not found:
                    return Examined(state, manifest, problem)
                problem = problem or found
        return Examined("uploaded", manifest, problem)

    def _state_problem(self, key: str, backup_id: str, manifest_sha256: str) -> str:
        try:
            document = read_state(self._store, self._environment, self._database, backup_id, self._keys, state=key)
        except PermanentError as error:
            return str(error)
        if document is None or document.get("manifest_sha256") != manifest_sha256:
            return (
                f"could not verify the state of {backup_id}: {key} was made of another manifest than the one beside it"
            )
        return ""
