"""The way back from a release that is live. Runbook: docs/rollback.md.

Traffic first, then Pods; the database only by a person's decision. Killed in the middle it is brought to its end by release-recovery, as a release is.
"""

import functools
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from pydantic import Field

from core import run_names
from core.errors import NightshiftError, PermanentError
from core.release_plan import ReleasePlan
from core.release_rollback import version_before
from flows.nightly_backup import EnvironmentName
from flows.release_recovery import ReleaseId, recover
from flows.release_runbook import go_back
from flows.run_names import named
from tasks.recording import Record
from tasks.release_recovery_steps import left_open
from tasks.release_start import begun, find_earlier, first_journal
from tasks.report_steps import begin_run, end_run
from tasks.rollback_steps import choose_release, rollback_id_of, way_back
from tasks.secret_versions import tell_changed_secrets

Reason = Annotated[str, Field(pattern=r"\S")]


@flow(name="rollback", flow_run_name=named(run_names.rollback), persist_result=False)
def rollback(
    environment: EnvironmentName,
    reason: Reason,
    release_id: ReleaseId = "",
    dry_run: bool = False,
    requested_by: str = "",
) -> State[None]:
    """Take the newest release that is live back: the version before it serves again. Nothing of the database is changed.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        reason: Why, in a sentence or an incident's number. Stands in the report.
        release_id: Which release you mean, as a check; it must be the newest that is live. Empty: that one; after a rollback it must be named.
        dry_run: Only show what would be changed and what would refuse it.
        requested_by: Who asked for it. Stands in the report.
    """
    run = begin_run(environment, flow="rollback", run_id=str(flow_run.id), run_name=str(flow_run.name))
    own_id = rollback_id_of(run.run_id)
    record = Record(own_id)
    inputs: dict[str, object] = {
        "release_id": release_id,
        "reason": reason,
        "requested_by": requested_by,
        "dry_run": dry_run,
    }
    try:
        earlier, outcome = find_earlier(environment, own_id)
        if outcome:
            record.finish(f"ended already: {outcome}; nothing was done again")
        elif earlier is not None:
            left = next(one for one in left_open(environment) if one.release_id == own_id)
            end = recover(run.environment, record, left, run.run_id)
            if end.how == "rolled back":
                record.finish(end.told)
        else:
            with record.step("choose") as notes:
                plan = choose_release(environment, release_id)
                notes.findings += tell_changed_secrets(environment, plan)
                notes.add(facts={"release": plan.release_id, "image": plan.image, "changes": way_back(plan)})
            if dry_run:
                record.finish(
                    f"dry run: {plan.release_id} would be taken back, and {version_before(plan)} would serve again; nothing was changed"
                )
                return end_run(run, [record], inputs)
            journal = first_journal(plan, own_id, run.run_id, rollback=True)
            look_again = functools.partial(require_still_newest, record, environment, release_id, plan)
            with begun(run.environment, plan, record, journal, run.run_id, look_again=look_again) as release_run:
                go_back(release_run, reason)
            record.finish(
                f"{plan.release_id} ({plan.image}) was taken back, {version_before(plan)} serves again: {reason}"
            )
    except NightshiftError:
        # The step that failed is in the record.
        pass
    return end_run(run, [record], inputs)


def require_still_newest(record: Record, environment: str, release_id: str, plan: ReleasePlan) -> None:
    """Under the lease, before anything is changed: a release that was at its end may have come out since the choice. Raise PermanentError then."""
    with record.step("choose again, under the lease"):
        again = choose_release(environment, release_id)
        if again.release_id != plan.release_id:
            raise PermanentError(
                "roll back",
                environment,
                f"{again.release_id} came out since {plan.release_id} was chosen",
                "Nothing was changed; start the rollback again for what is live now",
            )
