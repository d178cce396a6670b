"""A person signs the day after a release off; then the old side is let go. Runbook: docs/watch.md.

What was signed is kept first, in the evidence and beside the watch: whatever becomes of the old side afterwards takes nothing of it back.
"""

import functools
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from core import run_names
from core.environment_watch import Watch
from core.errors import NightshiftError
from core.evidence import Finding
from core.redaction import redact
from core.watch_decision import SIGNED_OFF
from flows.approval import ask_until
from flows.nightly_backup import EnvironmentName
from flows.run_names import named
from tasks.recording import Record, RunRecord
from tasks.report_steps import begin_run, end_run, write_report
from tasks.retire_old_side import retire_old_side
from tasks.sign_off_steps import (
    OLD_SIDE,
    find_mark,
    how_it_ended,
    keep_mark,
    look_at_watch,
    nothing_retired,
)

WatchedRelease = Annotated[str, Field(pattern=r"^r-[0-9a-f]{12}$")]
CHECKED_CHARACTERS = 6
_LONGEST = 2000
_IN_REPORT = "It stands in the signed report."


class SignOff(RunInput):
    """What is asked at the end of a watch. Every field is required, and none has a default: an empty form signs nothing off."""

    release: str = Field(
        title="Release",
        pattern=r"\S",
        max_length=50,
        description="Type the last six characters of the release's id, as they stand above: a check that you mean this one.",
    )
    user_feedback: str = Field(
        title="User feedback: what was found",
        pattern=r"\S",
        max_length=_LONGEST,
        description=f"Where you looked, and what users said of the new version. {_IN_REPORT}",
    )
    support_tickets: str = Field(
        title="Support tickets: what was found",
        pattern=r"\S",
        max_length=_LONGEST,
        description=f"Which queue you looked at, and what came in since the release. {_IN_REPORT}",
    )
    issues: str = Field(
        title="Issues found, and their resolution",
        pattern=r"\S",
        max_length=_LONGEST,
        description=f"Each with what became of it; or: none. {_IN_REPORT}",
    )
    runbook: str = Field(
        title="Runbook",
        pattern=r"\S",
        max_length=_LONGEST,
        description=f"What was changed in it; or why nothing had to be. {_IN_REPORT}",
    )
    signed_off_by: str = Field(
        title="Signed off by", pattern=r"\S", max_length=200, description=f"Your name. {_IN_REPORT}"
    )


@flow(name="watch-sign-off", flow_run_name=named(run_names.watch_sign_off), persist_result=False)
def watch_sign_off(environment: EnvironmentName, release_id: WatchedRelease) -> State[None]:
    """Ask a person to sign off the day after a release, keep the answer, and retire the old side.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        release_id: Of which release, as its report calls it: r- and twelve characters.
    """
    run = begin_run(environment, flow="watch-sign-off", run_id=str(flow_run.id), run_name=str(flow_run.name))
    asked, old_side = Record(release_id), Record(f"{release_id}, its old side")
    inputs: dict[str, object] = {"release_id": release_id}
    try:
        signed = find_mark(environment, release_id, SIGNED_OFF)
        if signed and find_mark(environment, release_id, OLD_SIDE):
            return Completed(message=f"{release_id} was signed off already, {signed}; nothing was done again")
        by = signed or sign_off(run, asked, release_id, inputs)
        asked.finish(f"signed off {by}")
        let_old_side_go(run, old_side, release_id)
    except NightshiftError:
        # The step that failed is in the record.
        return end_run(run, [asked], inputs)
    return end_run(run, [asked, old_side], inputs)


def sign_off(run: RunRecord, record: Record, release_id: str, inputs: dict[str, object]) -> str:
    """Wait for a person's answer, keep it, and return by whom it is. Raise ConfigurationError when the release's id was typed wrong three times."""
    environment = run.environment
    days = (environment.watch or Watch()).sign_off_days
    with record.step("sign off") as notes:
        seen = look_at_watch(environment.name, release_id)
        answer = ask_until(
            SignOff,
            "sign-off",
            seen.text,
            {"the watch's report": seen.report},
            functools.partial(what_is_wrong_with_sign_off, release_id=release_id),
            on=release_id,
            hours=24 * days,
        )
        facts = {name: redact(text.strip()) for name, text in answer.model_dump().items()}
        notes.add(facts={**facts, "report": seen.report})
    by = f"by {facts['signed_off_by']}"
    record.finish(f"signed off {by}")
    # Who signed what stands in the evidence before anything is changed.
    report = write_report(run, [record], inputs)
    if not keep_mark(environment.name, release_id, SIGNED_OFF, report, facts["signed_off_by"]):
        with record.step("keep it") as notes:
            told = f"it was signed off meanwhile, {find_mark(environment.name, release_id, SIGNED_OFF)}; both answers stand in the evidence"
            notes.findings.append(Finding(severity="warning", text=told))
    return by


def let_old_side_go(run: RunRecord, record: Record, release_id: str) -> None:
    """Retire the old side. What keeps it from being retired is told with what to do, and takes nothing of the signature back."""
    environment = run.environment.name
    with record.step("retire the old side") as notes:
        try:
            how = how_it_ended(environment, release_id)
            told = (
                retire_old_side(environment, release_id, run.run_id)
                if how == "the day is over"
                else nothing_retired(how)
            )
            keep_mark(environment, release_id, OLD_SIDE, told, run.run_id)
        except NightshiftError as error:
            told = f"NOT RETIRED: {error}"
            notes.findings.append(Finding(severity="warning", text=told))
        else:
            notes.findings.append(Finding(severity="note", text=told))
    record.finish(told)


def what_is_wrong_with_sign_off(answer: SignOff, release_id: str) -> str:
    """Given an answer and the release's id, say why it signs nothing off; "" when it does."""
    if answer.release.strip().lower() not in {release_id, release_id[-CHECKED_CHARACTERS:]}:
        return f"“{answer.release.strip()[:50]}” was typed, and the release's id ends with {release_id[-CHECKED_CHARACTERS:]}"
    return "" if all(text.strip() for text in answer.model_dump().values()) else "a field was left empty"
