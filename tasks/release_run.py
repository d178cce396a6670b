"""A release (or what brings one to its end) while it runs: its plan, its right to write, its journal and its record; and how each of its steps is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from core.environment import Environment
from core.environment_release import Release
from core.errors import ConfigurationError, NightshiftError
from core.evidence import Finding
from core.fence import Fence, FencedError
from core.release_journal import Event
from core.release_plan import ReleasePlan
from core.signature import SigningKey
from tasks.kubernetes_client import KubernetesClient
from tasks.recording import Notes, Record
from tasks.release_journal import KeptJournal
from tasks.release_lease import HeldLease, Lease
from tasks.retrying import step

logger = logging.getLogger(__name__)
Facts = dict[str, str | int]
# What a step does: idempotent, reads the world first, and returns what the journal is to keep.
Action = Callable[["ReleaseRun", Notes], Facts | None]


class ReleaseRun:
    """Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside."""

    def __init__(  # noqa: PLR0917 - what belongs to a release
        self,
        environment: Environment,
        plan: ReleasePlan,
        journal: KeptJournal,
        lease: HeldLease,
        record: Record,
        keys: Sequence[SigningKey],
    ) -> None:
        self.environment, self.plan, self.journal, self.record = environment, plan, journal, record
        self.release, self.keys = release_of(environment), tuple(keys)
        self._lease = lease

    @property
    def fence(self) -> Fence:
        """The right to write."""
        return self._lease.fence

    def still_ours(self) -> None:
        """Raise FencedError when another took over."""
        self._lease.still_ours()

    def surely_ours(self) -> None:
        """Right before a change of something that knows no numbers: ask the lease itself. Raise FencedError when another took over."""
        self.still_ours()
        with self.client() as client:
            Lease(client, self.release, self.environment.name).require_ours(self.fence)

    def client(self) -> KubernetesClient:
        """A fresh client, for one step."""
        return KubernetesClient.open(self.release.context)

    def give_back(self) -> None:
        """Let others have the lease."""
        with self.client() as client:
            Lease(client, self.release, self.environment.name).give_back(self.fence)

    def note(self, event: Event, name: str = "", facts: Facts | None = None) -> None:
        """Add an entry to the journal."""
        with self.client() as client:
            self.journal.append(client, event, name, facts)


def release_of(environment: Environment) -> Release:
    """Given an environment, return its table [release]. Raise ConfigurationError when it has none."""
    if environment.release is None:
        raise ConfigurationError(
            "release", environment.name, "the environment's file has no table [release]", "Add one: docs/release.md"
        )
    return environment.release


def perform(run: ReleaseRun, name: str, action: Action) -> None:
    """Do a step of a release: intent into the journal, the change, its outcome into the journal. A step that is known to be done is not done again.

    Raise what the action raises. After a FencedError nothing is written any more, not even that.
    """
    if run.journal.journal.is_done(name):
        return
    with run.record.step(name) as notes:
        journaled(run, name, action, notes)
        notes.findings += [Finding(severity="warning", text=one) for one in run.journal.noted]
        run.journal.noted.clear()


@step("{name}")
def journaled(run: ReleaseRun, name: str, action: Action, notes: Notes) -> None:
    """One step, with its journal entries. Again after a TemporaryError: it looks at the world before it changes it."""
    run.still_ours()
    run.note("intent", name)
    try:
        facts = action(run, notes)
    except FencedError:
        raise
    except NightshiftError as error:
        run.note("failed", name, {"why": str(error)[:1000], **getattr(error, "facts", {})})
        raise
    run.note("done", name, facts)
