"""What is known of an environment's releases: their journals in the cluster, the plans that those name, and who holds the lease."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.environment import Environment
from core.errors import IntegrityError, PermanentError
from core.fence import Document
from core.release_journal import RELEASE_LABEL, Entry, Journal
from core.release_lease import LEASE_SECONDS, Holder, holder_of
from core.release_plan import ReleasePlan
from tasks.kubernetes_client import KubernetesClient
from tasks.release_journal import Journals
from tasks.release_lease import Lease, seconds_since
from tasks.release_records import read_plan
from tasks.release_run import release_of
from tasks.secrets import signing_keys


@dataclass(frozen=True)
class ListedRelease:
    """A release or rollback. `journal` is None when somebody edited it, `plan` when it cannot be read; `problem` says why. `closed`: its label says that it ended."""

    release_id: str
    created: datetime
    journal: Journal | None
    plan: ReleasePlan | None
    problem: str = ""
    closed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it did not come to its end, as far as is known."""
        return not self.closed if self.journal is None else self.journal.is_open

    @property
    def lacks_plan(self) -> bool:
        """Whether it is open and there is no plan to go by: recovery touches nothing."""
        return self.journal is not None and self.is_open and self.plan is None

    @property
    def last(self) -> Entry | None:
        """The journal's last entry."""
        return self.journal.entries[-1] if self.journal is not None and self.journal.entries else None


@dataclass(frozen=True)
class ReleaseList:
    """An environment's releases, newest first, and the holder of its lease with the age of the last renewal in seconds."""

    releases: tuple[ListedRelease, ...]
    holder: Holder | None
    renewed_seconds: float

    @property
    def holder_lives(self) -> bool:
        """Whether the holder renewed its lease within the time that the lease runs for."""
        return self.holder is not None and self.renewed_seconds <= LEASE_SECONDS

    def is_left(self, release: ListedRelease) -> bool:
        """Whether a release was left in the middle: it is open and nobody who lives is at work on it."""
        held = self.holder is not None and self.holder.name == release.release_id and self.holder_lives
        return release.is_open and not held

    @property
    def well(self) -> bool:
        """Whether nothing was left in the middle, no dead holder has the lease, and no journal was edited."""
        dead = self.holder is not None and not self.holder_lives
        return not dead and not any(self.is_left(one) or one.problem for one in self.releases)


def list_releases(client: KubernetesClient, environment: Environment, limit: int, now: datetime) -> ReleaseList:
    """Read the newest releases of an environment, all open ones among them, and its lease; nothing is changed. `now` is aware."""
    release, keys = release_of(environment), signing_keys(environment)
    journals = Journals(client, release, environment.name, keys)
    opened = journals.open_documents()
    closed = _newest(journals.closed_documents(), max(0, limit - len(opened)))
    found = [_listed(journals, environment, one, closed=False) for one in opened]
    found += [_listed(journals, environment, one, closed=True) for one in closed]
    found.sort(key=lambda one: one.created)
    holder = holder_of(Lease(client, release, environment.name).read())
    age = seconds_since(holder.renewed, now) if holder is not None else float("inf")
    return ReleaseList(tuple(reversed(found)), holder, age)


def _newest(documents: Sequence[Document], number: int) -> Sequence[Document]:
    return documents[len(documents) - number :] if number < len(documents) else documents


def _listed(journals: Journals, environment: Environment, document: Document, *, closed: bool) -> ListedRelease:
    metadata = document["metadata"]
    release_id = str(metadata["labels"].get(RELEASE_LABEL, ""))
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    try:
        journal = journals.parse(document)
    except IntegrityError as error:
        return ListedRelease(release_id, created, None, None, f"its journal was edited: {error.found}", closed)
    try:
        plan = read_plan(environment, journal.plan_id, journal.plan_sha256)
    except PermanentError as error:
        return ListedRelease(release_id, created, journal, None, f"its plan cannot be read: {error.found}", closed)
    return ListedRelease(release_id, created, journal, plan, closed=closed)
