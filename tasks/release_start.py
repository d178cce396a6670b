"""The beginning of a release: what it asks for, its plan, the lease, the stamps, the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect import get_run_logger
from pydantic import Field

from core.environment import Environment
from core.errors import PermanentError
from core.fence import Document
from core.manifest import Record as Frozen
from core.release_journal import Journal
from core.release_lease import Holder
from core.release_plan import Compatibility, MigrationPlan, ReleasePlan, release_id_of
from tasks.environments import load_environment
from tasks.fenced import stamp
from tasks.kubernetes_client import KubernetesClient
from tasks.recording import Record
from tasks.release_journal import Journals, KeptJournal
from tasks.release_lease import Lease, renewal, renewed
from tasks.release_records import keep_plan, read_closed
from tasks.release_run import ReleaseRun, release_of
from tasks.release_world import find_target, read_workload, workload_path
from tasks.retrying import step
from tasks.secrets import signing_keys


class ReleaseRequest(Frozen):
    """What was asked for."""

    environment: str
    flow_run_id: str
    image: str
    commit: str
    schema_compatibility: Compatibility
    migrate: bool
    requested_by: str
    skip_checks: dict[str, str] = Field(default_factory=dict)

    @property
    def release_id(self) -> str:
        """The release's id."""
        return release_id_of(self.flow_run_id)


@step("plan {request.release_id}")
def make_plan(request: ReleaseRequest) -> ReleasePlan:
    """Resolve the image to its digest, read the live state, and return what would be changed. Nothing is written but the plan, to S3.

    Raise ConfigurationError when image or workloads are not as the environment's file says.
    """
    environment = load_environment(request.environment)
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        targets = tuple(find_target(client, release, one, request.image) for one in release.workloads)
    migration = release.migration if request.migrate else None
    return ReleasePlan(
        environment=environment.name,
        release_id=request.release_id,
        strategy=release.strategy,
        namespace=release.namespace,
        commit=request.commit,
        image=request.image,
        requested_by=request.requested_by,
        schema_compatibility=request.schema_compatibility,
        targets=targets,
        migration=None if migration is None else MigrationPlan(database=migration.database, image=request.image),
        backup=(migration.database,) if migration is not None and release.backup else (),
        waived=request.skip_checks,
    )


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
    return {
        workload_path(client, release, one.kind, one.name): read_workload(client, release, one.kind, one.name)
        for one in plan.targets
    }


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
    holder: str = "",
) -> Iterator[ReleaseRun]:
    """Take the lease, stamp what is managed, open the journal (`earlier`: it is open already), and yield the run; the lease is renewed meanwhile.

    Raise HeldError naming the holder: then nothing was changed.
    """
    release, keys = release_of(environment), signing_keys(environment)
    name = holder or journal.release_id
    # In a step of its own: who else is at work must stand in the run's message.
    with record.step("take the lease") as notes, KubernetesClient.open(release.context) as client:
        keep_plan(environment, plan, run_id)
        managed = managed_objects(client, environment, plan)
        if not earlier:
            require_none_open(client, environment, plan.release_id)
        fence = Lease(client, release, environment.name).take(
            name, run_id, tuple(managed.values()), instead_of=instead_of
        )
        notes.add(facts={"fence": fence.number, "holder": name})
    with renewed(renewal(release, environment.name, fence, run_id), fence) as lease:
        kept = KeptJournal(release, journal, keys, fence, stored=earlier)
        run = ReleaseRun(environment, plan, kept, lease, record, keys)
        with run.record.step("take over") as notes:
            open_and_stamp(run, tuple(managed), earlier=earlier)
            notes.add(facts={"objects": len(managed)})
        yield run


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


def require_none_open(client: KubernetesClient, environment: Environment, release_id: str) -> None:
    """Raise PermanentError when another release was left open: recovery goes first."""
    release = release_of(environment)
    found = Journals(client, release, environment.name, signing_keys(environment)).open_documents()
    others = [one["metadata"]["name"] for one in found if not one["metadata"]["name"].endswith(release_id)]
    if others:
        raise PermanentError(
            "begin the release",
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
