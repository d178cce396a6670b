"""A release: check, back up, migrate, roll out, shift, verify, or back. Runbook: docs/release.md.

What it changes stands in a signed plan before anything is changed; each change stands in a journal in the cluster before and after it is made. So whoever
finds it killed in the middle (release-recovery) brings it to its end.
"""

import functools
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from pydantic import Field

from core import run_names
from core.errors import NightshiftError, PermanentError
from core.frontend import DEPLOYMENT
from core.release_plan import Compatibility, ReleasePlan
from core.release_plan_text import approval_text, plan_rows
from flows.approval import ATTEMPTS, ReleaseApproval, ask_until, remember, was_asked, what_is_wrong_with_plan
from flows.nightly_backup import EnvironmentName
from flows.release_recovery import recover
from flows.release_runbook import End, forward_or_back
from flows.run_names import named
from tasks.recording import Record, RunRecord
from tasks.release_checklist import check_all, require_serving
from tasks.release_plans import Images, ReleaseRequest, make_plan, resolve_images
from tasks.release_recovery_steps import left_open
from tasks.release_run import release_of
from tasks.release_start import begun, find_earlier, first_journal
from tasks.report_steps import begin_run, end_run
from tasks.watch_start import look_before

# A tag, a digest, or both: the grammar is core.image_reference's.
_DIGEST = r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
ImageName = Annotated[str, Field(pattern=rf"^([A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}(@{_DIGEST})?|{_DIGEST})$")]
FrontendDeployment = Annotated[str, Field(pattern=DEPLOYMENT)]
QUESTION = "approve-release"
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]


class PlanChangedError(PermanentError):
    """The world is not as it was when the plan was made: it is planned, and asked for, anew."""


@flow(name="release", flow_run_name=named(run_names.release), persist_result=False)
def release(  # noqa: PLR0917 - a form has as many fields as it has
    environment: EnvironmentName,
    image: ImageName,
    commit: Commit,
    strategy: Literal["as configured", "rolling", "blue-green"] = "as configured",
    schema_compatibility: Compatibility = "backward",
    migrate: bool = True,
    migrate_command: list[str] = [],  # noqa: B006 - never changed, and the form in the UI shows it
    adopt: bool = False,
    frontend: FrontendDeployment = "",
    skip_checks: dict[str, str] = {},  # noqa: B006 - never changed, and the form in the UI shows it
    dry_run: bool = False,
    requested_by: str = "",
) -> State[None]:
    """Bring a new version out, or back to the old one when anything is not well.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml. It needs a table [release].
        image: The new version's tag, or digest (sha256:… in full), in the environment's repository. A tag is looked up once; what is rolled out is its digest.
        commit: The Git commit that the image was made of, seven to 64 hexadecimal digits.
        strategy: as configured: the environment's own. rolling: the Deployment rolls by itself. blue-green: two of them, and traffic is shifted.
        schema_compatibility: backward: the old version works with the migrated schema. breaking: it does not, and there is no way back by itself.
        migrate: Run the environment's migration first.
        migrate_command: Program and arguments of the migration, instead of the environment's.
        adopt: The workload's plain Deployment may be taken over as the first of two colours (docs/adopting.md).
        frontend: A deployment of Vercel's (dpl_…, or its address) that is promoted once the backend has all of the traffic, and taken back with it. Empty: none.
        skip_checks: Items of the checklist that may fail, each with a reason: {"documentation": "a hotfix, docs follow in #123"}.
        dry_run: Only show the plan, with every object that would change as a difference, and the checklist. Nothing is changed.
        requested_by: Who asked for it. Stands in plan, journal and report.
    """
    run = begin_run(environment, flow="release", run_id=str(flow_run.id), run_name=str(flow_run.name))
    release_of(run.environment)
    request = ReleaseRequest(
        environment=environment,
        flow_run_id=run.run_id,
        image=image,
        commit=commit,
        strategy=None if strategy == "as configured" else strategy,
        schema_compatibility=schema_compatibility,
        migrate=migrate,
        migrate_command=tuple(migrate_command),
        adopt=adopt,
        requested_by=requested_by,
        skip_checks=skip_checks,
        frontend=frontend,
    )
    record = Record(request.release_id)
    inputs = request.model_dump(exclude={"environment", "flow_run_id"}) | {"dry_run": dry_run}
    try:
        return go_through(run, request, record, inputs, asked=was_asked(QUESTION))
    except NightshiftError as error:
        # The step that failed is in the record. Its first error is why it went back; what keeps it from going back is what somebody must know first.
        stopped = "" if str(error) == record.why else f"{error}; before that: "
        return end_run(run, [record], inputs, made=stopped)


def go_through(
    run: RunRecord, request: ReleaseRequest, record: Record, inputs: dict[str, object], *, asked: bool = False
) -> State[None]:
    """Plan, check, ask, and carry out. `asked`: this run waited for an approval before. Raise what stops it before anything was changed."""
    earlier, outcome = find_earlier(request.environment, request.release_id)
    if outcome:
        told = f"ended already: {outcome}; nothing was done again. For another try start a new release"
        return ended(run, record, End("released" if outcome == "released" else "rolled back", told), inputs)
    if earlier is not None:
        # Retry of a run that was killed in the middle: what it left is brought to its end, as release-recovery would.
        left = next(one for one in left_open(request.environment) if one.release_id == request.release_id)
        return ended(run, record, recover(run.environment, record, left, run.run_id), inputs)

    # Approval that somebody turns off while a run waits for it is one of the settings that changed: it is asked for.
    asks = release_of(run.environment).approval or asked
    with record.step("resolve the image") as notes:
        images = resolve_images(request)
        if asks:
            # What was approved is the digest: a tag that moves while the run waits changes nothing.
            images = Images.of_digests(remember("images", images.digests), request.image)
        notes.add(facts={one.repository: one.pinned for one in images.found.values()})
    for attempt in range(1, ATTEMPTS + 1):
        plan = plan_and_check(request, images, record, f"before ({attempt})" if attempt > 1 else "before")
        if plan.is_live_already:
            record.finish(f"{request.image} of commit {request.commit} is live already; nothing was changed")
            return end_run(run, [record], inputs)
        if inputs["dry_run"]:
            record.finish(f"dry run: plan {plan.sha256[:12]} could be carried out; nothing was changed")
            return end_run(run, [record], inputs)
        if asks:
            approve(run, plan, record)
        journal = first_journal(plan, request.release_id, run.run_id)
        look_again = functools.partial(require_same_plan, request, images, record, plan)
        try:
            with begun(run.environment, plan, record, journal, run.run_id, look_again=look_again) as release_run:
                look_before(run.environment, plan.release_id)
                return ended(run, record, forward_or_back(release_run), inputs)
        except PlanChangedError as error:
            changed = error
    raise changed


def require_same_plan(request: ReleaseRequest, images: Images, record: Record, plan: ReleasePlan) -> None:
    """Under the lease, before anything is changed: look again. Raise PlanChangedError when the world is not as it was approved, ChecklistError when it is not well."""
    again = plan_and_check(request, images, record, "under the lease", shown=plan.sha256)
    if again.sha256 != plan.sha256:
        raise PlanChangedError(
            "carry out the plan",
            plan.release_id,
            f"the world changed since it was made: it is {again.sha256[:8]} now, and was {plan.sha256[:8]}",
            "Nothing was changed; press Retry",
        )


def plan_and_check(
    request: ReleaseRequest, images: Images, record: Record, when: str, *, shown: str = ""
) -> ReleasePlan:
    """The plan as the world now is, and the checklist; of a version that is live already, whether it serves. Raise ChecklistError naming every item that stops."""
    with record.step(f"plan {when}") as notes:
        plan = make_plan(request, images, shown)
        notes.add(facts={"plan": plan.sha256, **dict(plan_rows(plan))})
    if plan.is_live_already:
        with record.step("look whether it serves"):
            require_serving(request, plan)
    else:
        with record.step(f"checklist {when}") as notes:
            check_all(request, images, plan, notes)
    return plan


def approve(run: RunRecord, plan: ReleasePlan, record: Record) -> None:
    """Suspend the run until a person has approved this very plan. A plan that changed meanwhile is asked for again."""
    checks = next(one for one in reversed(record.steps) if one.name.startswith("checklist"))
    with record.step("approve") as notes:
        answer = ask_until(
            ReleaseApproval,
            QUESTION,
            approval_text(plan, checks.facts["checks"]),
            {"the plan": plan.sha256},
            lambda given: what_is_wrong_with_plan(given, plan.sha256),
            on=plan.release_id,
            hours=release_of(run.environment).approval_hours,
        )
        notes.add(facts={"approver": answer.approver, "reason": answer.reason, "typed": answer.plan})


def ended(run: RunRecord, record: Record, end: End, inputs: dict[str, object]) -> State[None]:
    """The final state of a release: Completed when the new version is live and nothing else, named RolledBack when the old one serves again."""
    if end.how == "released":
        record.finish(end.told)
        return end_run(run, [record], inputs)
    name = "RolledBack" if end.how == "rolled back" else "Failed"
    return end_run(run, [record], inputs, name=name, made=f"{end.told}: ")
