"""What a backup is worth once its signed objects were read: retention leans on few backups, and on none that it did not verify."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

from core.catalogue import USABLE, Catalogue, CatalogueEntry, State, data_problem
from core.compared_tables import ComparedTables, compared_tables
from core.damage import damage_sentence, worth_with_mark
from core.environment import Environment, Retention
from core.errors import PermanentError
from core.keys import DAMAGED, DECODED, PROVEN
from core.manifest import Manifest
from core.retention import protect
from core.signature import SigningKey
from tasks.catalogue import read_manifest, read_state
from tasks.damage_mark import mark_address, read_mark
from tasks.object_store import ObjectStore

# More forged or damaged ones than this is not for a program to sort out; it also bounds the requests.
MOST_DISTRUSTED = 20
_GAPS_NAMED = 5


@dataclass
class Trust:
    """What was found: `worth` by id of each backup that was looked at, and a sentence for each that is worth less than it claims. `marks`: sentences on marks of
    damage, those that cannot be trusted among them; they are known from elsewhere, and fail no run. `gapped`: a sentence for each whose dump lacks something."""

    worth: dict[str, State] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    gapped: dict[str, str] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """How many are worth less than they claim."""
        return len(self.problems) + sum(1 for worth in self.worth.values() if worth == "damaged")

    @property
    def exhausted(self) -> bool:
        """Whether too many were forged or damaged to go on."""
        return self.bad > MOST_DISTRUSTED


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
    bad = trust.bad
    for entry in entries:
        look(entry, trust)
        if trust.bad > bad:
            return


@dataclass(frozen=True)
class Examined:
    """A backup as its signed objects tell: what it is worth, its manifest (None: forged or damaged), and what is wrong ("": nothing). `doubt`: what is wrong with a
    mark of damage that cannot be trusted, which leaves the backup what it is: who writes junk there can hide nothing."""

    worth: State
    manifest: Manifest | None
    problem: str = ""
    doubt: str = ""

    @property
    def told(self) -> str:
        """All that is to be told of it; "" when nothing is wrong."""
        return "; ".join(filter(None, (self.problem, self.doubt)))

    @property
    def compared(self) -> ComparedTables:
        """By what its tables are compared after a restore, as its manifest tells: so it is known of proofs that do not say so themselves."""
        return compared_tables(self.manifest.tables if self.manifest else ())

    @property
    def gaps(self) -> tuple[str, ...]:
        """What its dump lacks although the database had it, by name."""
        return self.manifest.coverage.missing if self.manifest is not None else ()


class Examiner:
    """Reads the signed objects of a database's backups, each backup once: its manifest and its state, two requests, three when its proof is bad,
    one more when a mark of damage lies there.

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
        if examined.gaps and examined.worth in USABLE:
            # It stands in for no whole one: its age alone keeps it, as one that was never decoded.
            trust.worth[entry.backup_id] = "uploaded"
            if not examined.problem:
                trust.gapped[entry.backup_id] = gap_sentence(entry.backup_id, examined.gaps)
        if examined.problem and examined.worth != "damaged":
            trust.problems[entry.backup_id] = examined.problem
        elif examined.told:
            trust.marks[entry.backup_id] = examined.told

    def examine_marked(self, catalogue: Catalogue) -> None:
        """Examine the backups that have a mark of damage, whatever their age; the newest 20 of them."""
        marked = [entry for entry in reversed(catalogue.backups) if DAMAGED in entry.suffixes]
        for entry in marked[:MOST_DISTRUSTED]:
            self.examine(entry)

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
                    return self._with_mark(entry, Examined(state, manifest, problem), sha256)
                problem = problem or found
        return self._with_mark(entry, Examined("uploaded", manifest, problem), sha256)

    def _with_mark(self, entry: CatalogueEntry, examined: Examined, manifest_sha256: str) -> Examined:
        """What was examined, with the mark of damage that lies beside it, if one does."""
        if DAMAGED not in entry.suffixes:
            return examined
        found, mark = "", None
        try:
            mark = read_mark(self._store, self._environment, self._database, entry.backup_id, self._keys)
        except PermanentError as forged:
            found = str(forged).rstrip(".")
        if mark is not None and mark.manifest_sha256 != manifest_sha256:
            where = mark_address(self._store, self._environment, self._database, entry.backup_id)
            found = f"could not verify the mark ({where}): it was made of another manifest than the one beside it"
        if found:
            doubt = f"{found}. That {entry.backup_id} is damaged is not known by it: drill that backup, and find out who wrote it"
            return replace(examined, doubt=doubt)
        worth = worth_with_mark(examined.worth, mark, manifest_sha256)
        if mark is None or worth != "damaged":
            return examined
        told = damage_sentence(mark, self._environment.name, self._database)
        return replace(examined, worth=worth, problem="; ".join(filter(None, (told, examined.problem))))

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
