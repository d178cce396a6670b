"""The beginning of a release: the lease, the stamps, the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prefect import get_run_logger

from core.environment import Environment
from core.errors import NightshiftError, PermanentError
from core.fence import Document
from core.release_journal import Journal
from core.release_lease import Holder
from core.release_plan import ReleasePlan
from tasks.colours import managed_paths
from tasks.environments import load_environment
from tasks.fenced import stamp
from tasks.kubernetes_client import KubernetesClient
from tasks.open_traffic import open_traffic
from tasks.recording import Record
from tasks.release_journal import Journals, KeptJournal
from tasks.release_lease import Lease, renewal, renewed
from tasks.release_records import keep_plan, read_closed
from tasks.release_run import ReleaseRun, release_of
from tasks.release_sides import read_live_sides
from tasks.release_world import workload_path
from tasks.retrying import step
from tasks.secrets import signing_keys


@step("look for an earlier attempt of {release_id}")
def find_earlier(environment_name: str, release_id: str) -> tuple[Journal | None, str]:
    """The journal of this release from an earlier attempt of its run (None: there is none), and its outcome ("" while it is open).

    Raise IntegrityError when somebody edited it.
    """
    environment = load_environment(environment_name)
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        journal = Journals(client, release, environment.name, signing_keys(environment)).read(release_id)
    if journal is not None:
        return journal, journal.outcome
    closed = read_closed(environment, release_id)
    return (closed.journal, closed.outcome) if closed is not None else (None, "")


def managed_objects(client: KubernetesClient, environment: Environment, plan: ReleasePlan) -> dict[str, Document]:
    """Path → object, of everything that a plan may change and that is there."""
    release = release_of(environment)
    if plan.sides is None:
        paths = [workload_path(client, release, one.kind, one.name) for one in plan.targets]
    else:
        planned = plan.sides
        sides = read_live_sides(client, release, plan.environment, planned.workload, planned.live_name)
        others = [one for one in plan.targets if one not in plan.deployments("api")]
        traffic = open_traffic(client, release, plan.environment, planned.live, planned.following)
        paths = [workload_path(client, release, one.kind, one.name) for one in others]
        paths += [*managed_paths(client, sides), *traffic.managed_paths()]
    return {path: client.get(path) for path in dict.fromkeys(paths)}


@contextmanager
def begun(
    environment: Environment,
    plan: ReleasePlan,
    record: Record,
    journal: Journal,
    run_id: str,
    *,
    instead_of: Holder | None = None,
    earlier: bool = False,
    look_again: Callable[[], None] | None = None,
) -> Iterator[ReleaseRun]:
    """Take the lease, look again, open the journal, stamp what is managed, and yield the run; the lease is renewed meanwhile.

    Args:
        instead_of: the dead holder whom a recovery replaces.
        earlier: the journal is open already.
        look_again: raises what keeps the release from beginning; then the lease is given back, and nothing was changed.

    Raise HeldError naming the holder.
    """
    release, keys = release_of(environment), signing_keys(environment)
    # A step of its own: who else is at work must stand in the run's message.
    with record.step("take the lease") as notes, KubernetesClient.open(release.context) as client:
        keep_plan(environment, plan, run_id)
        managed = managed_objects(client, environment, plan)
        if not earlier:
            require_none_open(client, environment, journal)
        lease = Lease(client, release, environment.name)
        fence = lease.take(journal.release_id, run_id, tuple(managed.values()), instead_of=instead_of)
        notes.add(facts={"fence": fence.number, "holder": fence.holder})
    with renewed(renewal(release, environment.name, fence, run_id), fence) as held:
        run = ReleaseRun(
            environment, plan, KeptJournal(release, journal, keys, fence, stored=earlier), held, record, keys
        )
        if look_again is not None:
            with given_back_on_error(run):
                look_again()
        with record.step("take over") as notes:
            open_and_stamp(run, tuple(managed), earlier=earlier)
            notes.add(facts={"objects": len(managed)})
        yield run


@contextmanager
def given_back_on_error(run: ReleaseRun) -> Iterator[None]:
    """Give the lease back when the block raises: nothing was changed under it."""
    try:
        yield
    except NightshiftError:
        run.give_back()
        raise


@step("take over what {run.journal.journal.release_id} manages")
def open_and_stamp(run: ReleaseRun, paths: Sequence[str], *, earlier: bool) -> None:
    """Open the journal, then put our number on each managed object: from then on no earlier holder can write."""
    run.still_ours()
    if not earlier and not run.journal.journal.entries:
        run.note("opened", facts={"plan": run.plan.sha256, "requested_by": run.plan.requested_by})
    with run.client() as client:
        for path in paths:
            stamp(client, path, run.fence)
    get_run_logger().info("holding %s under number %s", run.environment.name, run.fence.number)


def require_none_open(client: KubernetesClient, environment: Environment, journal: Journal) -> None:
    """Raise PermanentError when another release was left open: recovery goes first."""
    release = release_of(environment)
    found = Journals(client, release, environment.name, signing_keys(environment)).open_documents()
    others = [one["metadata"]["name"] for one in found if not one["metadata"]["name"].endswith(journal.release_id)]
    if others:
        raise PermanentError(
            f"begin the {journal.kind}",
            environment.name,
            f"{', '.join(others)} in namespace {release.control_namespace} is open: a release goes on, or was left in the middle",
            f"Wait for its end, or bring it to its end: nightshift release-recovery {environment.name}",
        )


def first_journal(plan: ReleasePlan, release_id: str, flow_run_id: str, *, rollback: bool = False) -> Journal:
    """A journal without entries."""
    return Journal(
        environment=plan.environment,
        release_id=release_id,
        kind="rollback" if rollback else "release",
        plan_id=plan.release_id,
        plan_sha256=plan.sha256,
        flow_run_id=flow_run_id,
    )
