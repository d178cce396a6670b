"""The steps of a recovery, each a Prefect task: what is open, what is to be done with it, by which plan."""

from core.environment import Environment
from core.errors import IntegrityError
from core.keys import release_folder
from core.release_journal import Journal, outcome_of
from core.release_plan import ReleasePlan, template_of
from core.release_recovery import Decision, Situation, decide, instead_of, shift_step
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.migration_stands import migration_stands
from tasks.object_store import ObjectMissingError
from tasks.old_side import held_for
from tasks.open_traffic import open_traffic
from tasks.release_lease import Lease
from tasks.release_left_open import LeftOpen, find_left_open, holder_lives, who_is_at_work
from tasks.release_records import keep_closed, newest_plan, read_closed, read_plan
from tasks.release_run import ReleaseRun, release_of
from tasks.release_world import read_workload
from tasks.retrying import step


@step("look for what was left open in {environment_name}")
def left_open(environment_name: str) -> tuple[LeftOpen, ...]:
    """Every release that did not come to its end."""
    environment = load_environment(environment_name)
    with KubernetesClient.open(release_of(environment).context) as client:
        return find_left_open(client, environment)


@step("decide on {left.release_id}")
def decide_on(environment_name: str, left: LeftOpen, run_id: str, chosen: Decision | None) -> Decision:
    """Look at journal, holder and world, and say what is to be done; `chosen`: a person's decision, which replaces ours where there is one to make."""
    environment = load_environment(environment_name)
    with KubernetesClient.open(release_of(environment).context) as client:
        journal = left.journal
        if journal is not None and not journal.is_open:
            return decide(journal, "backward", Situation("ended", job=False, applied="", all_new=False))
        if journal is not None and journal.is_held and left.holder is None and chosen is None:
            # Nobody is at it, and nobody decided: a sweep need not look at Jobs and databases again.
            return decide(journal, "backward", Situation("ended", job=False, applied="", all_new=False))
        lives = holder_lives(client, environment, left, run_id)
        if lives == "living":
            by = who_is_at_work(client, environment, left)
            return decide(journal, "backward", Situation(lives, job=False, applied="", all_new=False, by=by))
        plan = plan_of.fn(environment_name, left)
        if plan is None:
            return decide(journal, "backward", Situation(lives, job=False, applied="", all_new=False))
        job, applied = migration_stands(client, environment, plan, journal)
        theirs = held_for(client, environment, plan, journal)
        new = _all_new(client, environment, journal, plan)
        situation = Situation(lives, job=job, applied=applied, all_new=new, theirs=theirs)
    return instead_of(decide(journal, plan.schema_compatibility, situation), chosen, journal, left.release_id)


@step("decide on {run.plan.release_id}")
def decide_after_failure(run: ReleaseRun) -> Decision:
    """Going forward was stopped just now: what is to be done, by the same rules as a recovery's."""
    journal = run.journal.journal
    with run.client() as client:
        runs, applied = migration_stands(client, run.environment, run.plan, journal)
        theirs = held_for(client, run.environment, run.plan, journal)
    situation = Situation("ended", job=runs, applied=applied, all_new=False, failed=True, theirs=theirs)
    return decide(journal, run.plan.schema_compatibility, situation)


@step("read the plan of {left.release_id}")
def plan_of(environment_name: str, left: LeftOpen) -> ReleasePlan | None:
    """The signed plan that a release goes by: that of its journal's hash; where there is no journal, the newest one kept for it. None: it had none, and changed nothing.

    Raise IntegrityError when the plan of a release that began is gone, or is another one.
    """
    environment = load_environment(environment_name)
    try:
        if left.journal is not None:
            return read_plan(environment, left.journal.plan_id, left.journal.plan_sha256)
        plan = newest_plan(environment, left.release_id)
    except ObjectMissingError as error:
        raise _plan_is_gone(error.on) from error
    if plan is None and left.began:
        raise _plan_is_gone(release_folder(environment.prefix, left.release_id))
    return plan


def _plan_is_gone(on: str) -> IntegrityError:
    return IntegrityError(
        "read the release's plan",
        on,
        "its plan is not in the bucket",
        "Find out who deleted it; without it nothing is changed: bring the workloads to one version by hand (docs/rollback.md)",
    )


@step("end what {left.release_id} left")
def end_closed(environment_name: str, left: LeftOpen, run_id: str) -> None:
    """Of a release that closed its journal, or had nothing to do: keep its end in the bucket and free its lease. Raise HeldError when that is another's by now."""
    environment = load_environment(environment_name)
    if left.journal is not None and left.journal.outcome and read_closed(environment, left.release_id) is None:
        keep_closed(environment, left.journal, outcome_of(left.journal))
    if left.holder is None:
        return
    with KubernetesClient.open(release_of(environment).context) as client:
        lease = Lease(client, release_of(environment), environment.name)
        lease.give_back(lease.take(left.release_id, run_id, (), instead_of=left.holder))


def _all_new(client: KubernetesClient, environment: Environment, journal: Journal | None, plan: ReleasePlan) -> bool:
    """Whether the journal knows the new version to have all of the traffic, verified, and the world agrees."""
    if journal is None:
        return False
    release, targets = release_of(environment), plan.deployments("api")
    if plan.sides is not None:
        if not journal.is_done(shift_step(plan.sides.shares[-1])):
            return False
        traffic = open_traffic(client, release, environment.name, plan.sides.live, plan.sides.following)
        return traffic.read().of(plan.sides.following.service) == 100
    return all(
        journal.is_done(f"ask the Pods of {one.key}")
        and template_of(read_workload(client, release, one.kind, one.name)) == one.after
        for one in targets
    )
