"""What was left open: releases whose journal, lease or stamps say that they did not come to their end, and whether their holder lives."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from core.colour_pair import sides_of
from core.environment import Environment
from core.errors import IntegrityError
from core.fence import Document, fence_holder
from core.release_journal import RELEASE_LABEL, Journal
from core.release_lease import LEASE_SECONDS, RENEW_SECONDS, Holder, holder_of
from core.release_plan import release_id_of
from core.release_recovery import Liveness, liveness
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.recording import utc_now
from tasks.release_journal import Journals
from tasks.release_lease import Lease, seconds_since
from tasks.release_records import read_closed
from tasks.release_run import release_of
from tasks.release_world import workload_path
from tasks.secrets import signing_keys


class LeftOpen:
    """A release that did not come to its end, as far as the cluster tells. `journal` is None when it is gone or edited: `problem` says so.

    `began`: its journal or its stamps are there, so it had a plan.

    Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside.
    """

    def __init__(
        self, release_id: str, journal: Journal | None, holder: Holder | None, problem: str = "", *, began: bool = True
    ) -> None:
        self.release_id, self.journal, self.holder, self.problem = release_id, journal, holder, problem
        self.began = began

    @property
    def run_id(self) -> str:
        """The flow run that should be at work on it; "" when nothing tells."""
        return (
            self.holder.run_id
            if self.holder is not None
            else self.journal.flow_run_id
            if self.journal is not None
            else ""
        )


def find_left_open(client: KubernetesClient, environment: Environment) -> tuple[LeftOpen, ...]:
    """Everything that is open: by journal, by lease, and, where a journal or the lease was deleted, by the stamps on the workloads and what the bucket has of them."""
    release, keys = release_of(environment), signing_keys(environment)
    journals = Journals(client, release, environment.name, keys)
    holder = holder_of(Lease(client, release, environment.name).read())
    found: dict[str, LeftOpen] = {}
    for document in journals.open_documents():
        release_id = str(document["metadata"]["labels"].get(RELEASE_LABEL, ""))
        held_by = holder if holder is not None and holder.name == release_id else None
        found[release_id] = _parsed(journals, document, release_id, held_by)
    stamped = {name for one in _workloads(client, environment) if (name := fence_holder(one))}
    others = stamped | ({holder.name} if holder is not None else set())
    for release_id in sorted(others - found.keys()):
        held_by = holder if holder is not None and holder.name == release_id else None
        left = _not_labelled_open(journals, environment, release_id, held_by, began=release_id in stamped)
        if left is not None:
            found[release_id] = left
    return tuple(found.values())


def holder_lives(
    client: KubernetesClient,
    environment: Environment,
    left: LeftOpen,
    run_id: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Liveness:
    """Whether somebody is at work on it, by Prefect's word and by the lease, which is watched for the time of a renewal and a half."""
    if left.run_id == run_id:
        # We are that run, begun again.
        return "ended"
    lease = Lease(client, release_of(environment), environment.name)
    age = seconds_since(left.holder.renewed, utc_now()) if left.holder is not None else float("inf")
    lives = liveness(state_of_run(left.run_id), age, LEASE_SECONDS)
    if lives == "living":
        return lives
    # What ended by Prefect's word may live all the same (a state that was forced, a silence that was taken for death): a holder that lives renews.
    longest = RENEW_SECONDS * 1.5
    sleep(min(longest, max(0.0, longest - age)) if lives == "ended" else longest)
    again = holder_of(lease.read())
    return "living" if again is not None and again != left.holder else "ended"


def state_of_run(run_id: str) -> str | None:
    """The type of a flow run's state; None when there is no such run (any more)."""
    if not run_id:
        return None
    with get_client(sync_client=True) as prefect:
        try:
            state = prefect.read_flow_run(run_id).state  # type: ignore[arg-type]
        except (ObjectNotFound, ValueError):
            return None
    return None if state is None else state.type.value


def who_is_at_work(client: KubernetesClient, environment: Environment, left: LeftOpen) -> str:
    """Who holds the lease of a release that is not left alone, in a sentence."""
    holder = holder_of(Lease(client, release_of(environment), environment.name).read())
    run_id = holder.run_id if holder is not None else left.run_id
    # A rollback's id has the same digits of its run as a release's.
    own = release_id_of(run_id)[2:] == left.release_id[2:]
    return "its run lives" if own else f"another run is at work on it, which lives: flow run {run_id}"


def _not_labelled_open(
    journals: Journals, environment: Environment, release_id: str, holder: Holder | None, *, began: bool
) -> LeftOpen | None:
    """A release that lease or stamps name, without an open journal; None when it came to its end in every respect."""
    problem, closed = "", read_closed(environment, release_id)
    try:
        journal = journals.read(release_id)
    except IntegrityError as error:
        journal, problem = None, error.found
    if journal is None and closed is None:
        return LeftOpen(release_id, None, holder, problem or "its journal is gone", began=began or bool(problem))
    # Killed between closing the journal, keeping that in the bucket, and giving the lease back.
    finished = closed is not None and holder is None
    return None if finished else LeftOpen(release_id, journal or (closed.journal if closed else None), holder)


def _parsed(journals: Journals, document: Document, release_id: str, holder: Holder | None) -> LeftOpen:
    try:
        return LeftOpen(release_id, journals.parse(document), holder)
    except IntegrityError as error:
        return LeftOpen(release_id, None, holder, error.found)


def _workloads(client: KubernetesClient, environment: Environment) -> list[Document]:
    """The workloads that are there, each side of a blue-green one among them."""
    release, found = release_of(environment), []
    for one in release.workloads:
        names = sides_of(one.name) if one in release.deployments("api") else (one.name,)
        for name in names:
            with suppress(MissingError):
                found.append(client.get(workload_path(client, release, one.kind, name)))
    return found
