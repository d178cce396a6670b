"""What a backup is worth once its signed objects were read: retention leans on few backups, and on none that it did not verify."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from core.catalogue import CatalogueEntry, State
from core.environment import Environment, Retention
from core.errors import PermanentError
from core.keys import DECODED, PROVEN
from core.retention import protect
from core.signature import SigningKey
from tasks.catalogue import read_manifest, read_state
from tasks.object_store import ObjectStore

# More forged or damaged ones than this is not for a program to sort out; it also bounds the requests.
MOST_DISTRUSTED = 20


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


def look_at_entry(
    store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey]
) -> Callable[[CatalogueEntry, Trust], None]:
    """Return a function that reads a backup's manifest and state (two requests, three when its proof is bad) and notes what it is worth.

    It raises TemporaryError when S3 does not answer: then nothing is known, and nothing may be deleted.
    """

    def look(entry: CatalogueEntry, trust: Trust) -> None:
        try:
            _, manifest_sha256 = read_manifest(store, environment, database, entry.backup_id, keys)
        except PermanentError as error:
            trust.worth[entry.backup_id] = "incomplete"
            trust.problems[entry.backup_id] = str(error)
            return
        worth: State = "uploaded"
        for state, key in (("proven", PROVEN), ("decoded", DECODED)):
            if key not in entry.suffixes:
                continue
            problem = state_problem(key, entry.backup_id, manifest_sha256)
            if not problem:
                worth = "proven" if state == "proven" else "decoded"
                break
            trust.problems[entry.backup_id] = problem
        trust.worth[entry.backup_id] = worth

    def state_problem(key: str, backup_id: str, manifest_sha256: str) -> str:
        try:
            document = read_state(store, environment, database, backup_id, keys, state=key)
        except PermanentError as error:
            return str(error)
        if document is None or document.get("manifest_sha256") != manifest_sha256:
            return (
                f"could not verify the state of {backup_id}: {key} was made of another manifest than the one beside it"
            )
        return ""

    return look
