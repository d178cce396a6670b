"""What `nightshift check` looks at of the backups that are there: whose the folders are, whether what lies in them counts, and how old it is."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial

from core.checks import Check
from core.environment import Environment
from core.errors import PermanentError
from core.objectives import check_objectives
from deployments.command.probe import LONG_SECONDS, SHORT_SECONDS, Probe
from tasks.backup_source import check_backup_source
from tasks.catalogue import read_catalogue, require_own_folder
from tasks.left_databases import left_databases
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tasks.stock import missed_backups
from tasks.trust import Examiner, gap_sentence


def backup_probes(environment: Environment, bucket: "Future[bool]") -> list[Probe]:
    """Given an environment, and the future that says whether its bucket is worth reading, return what is tried of its databases' backups."""
    return [
        Probe("left databases", partial(_look_at_the_rest, environment, bucket), LONG_SECONDS),
        *(
            probe
            for key in environment.databases
            for probe in (
                Probe(f"{key}: source", partial(_look_at_source, environment, key, bucket), LONG_SECONDS),
                Probe(f"{key}: objectives", partial(_look_once_reached, environment, key, bucket), LONG_SECONDS),
            )
        ),
    ]


def _is_known(bucket: "Future[bool]") -> bool:
    """Whether the bucket can be read. Where it cannot, its own line says what is wrong with it."""
    try:
        return bucket.result(timeout=SHORT_SECONDS)
    except TimeoutError:
        return False


def _look_at_source(environment: Environment, key: str, bucket: "Future[bool]") -> Iterable[Check]:
    if not _is_known(bucket):
        return []
    return [check_backup_source(ObjectStore.open(environment), environment, key, signing_keys(environment))]


def _look_once_reached(environment: Environment, key: str, bucket: "Future[bool]") -> Iterable[Check]:
    if _is_known(bucket):
        return _look_at_backups(environment, key)
    return [Check(name=f"{key}: objectives", state="warning", found="not known while the bucket cannot be read")]


def _look_at_the_rest(environment: Environment, bucket: "Future[bool]") -> Iterator[Check]:
    """What no database of the file tells of: backups of one that left it, and pins that name no backup."""
    if not _is_known(bucket):
        return
    store = ObjectStore.open(environment)
    for sentence in left_databases(store, environment, signing_keys(environment)):
        mend = "Put it back into the file; if it was retired, see docs/backup.md"
        yield Check(name="left databases", state="warning", found=sentence, next_step=mend)
    pins = set(environment.retention.pins)
    for key in environment.databases if pins else ():
        pins -= {entry.backup_id for entry in read_catalogue(store, environment, key).backups}
    for pin in sorted(pins):
        found = f"retention.pins: {pin} is no backup of any database of this environment"
        yield Check(name="pins", state="warning", found=found, next_step="Correct or remove it; it protects nothing")


def _look_at_backups(environment: Environment, key: str) -> Iterator[Check]:
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    try:
        require_own_folder(store, environment, key, keys)
    except PermanentError as error:
        # The next backup would refuse to write there.
        found = f"{error.on}: {error.found}"
        yield Check(name=f"{key}: folder", state="failed", found=found, next_step=error.next_step)
    # As the catalogue does: an age is told only of a backup whose signatures and data were looked at.
    examiner = Examiner(store, environment, key, keys)
    catalogue, now = read_catalogue(store, environment, key), datetime.now(UTC)
    if missed := missed_backups(store, environment, key, keys, catalogue=catalogue, now=now):
        yield Check(name=f"{key}: missed backups", state="warning", found=missed)
    verified = examiner.verified(catalogue, without_gaps=True)
    bad = [examined.told for examined in examiner.examined.values() if examined.told]
    gaps = [gap_sentence(backup_id, one.gaps) for backup_id, one in examiner.examined.items() if one.gaps]
    yield from (Check(name=f"{key}: backups", state="failed", found=problem) for problem in (*bad[:3], *gaps[:3]))
    yield from check_objectives(
        environment.name,
        key,
        verified,
        environment.objectives,
        now,
        reservations=examiner.reservations,
    )
