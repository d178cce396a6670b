"""Waiting for a person. The run is suspended: its process ends, its place is free for other runs, and the answer begins it again from the top in a new process.

A question's key holds the run's count: Prefect counts a Retry, and not the going on after an answer. What was answered before a run failed approves nothing
when somebody presses Retry.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, create_flow_run_input, read_flow_run_input
from prefect.runtime import flow_run
from pydantic import Field

from core.errors import ConfigurationError
from core.report_text import escape_markdown
from core.swap_plan import LIVE_NAME

ATTEMPTS = 3
_BLANK = r"\S"
Form = TypeVar("Form", bound=RunInput)


class Approval(RunInput):
    """What is asked before a live database is replaced. Every field is required, and none has a default: an empty form approves nothing."""

    database_name: str = Field(
        title="Live database's name",
        pattern=_BLANK,
        description="Type it as it stands above: a check that you mean this one.",
    )
    approver: str = Field(title="Approved by", pattern=_BLANK, description="Your name. It stands in the signed report.")
    reason: str = Field(
        title="Reason",
        pattern=_BLANK,
        description="Why, in a sentence or an incident's number. It stands in the signed report.",
    )


class ReleaseApproval(RunInput):
    """What is asked before a release changes anything. Every field is required, and none has a default: an empty form approves nothing."""

    plan: str = Field(
        title="Plan",
        pattern=_BLANK,
        description="Type the first eight characters of the plan's hash, as they stand above: a check that you mean this one.",
    )
    approver: str = Field(title="Approved by", pattern=_BLANK, description="Your name. It stands in the signed report.")
    reason: str = Field(
        title="Reason",
        pattern=_BLANK,
        description="Why now, in a sentence or a ticket's number. It stands in the signed report.",
    )


def ask(form: type[Form], question: str, text: str, *, hours: int) -> Form:
    """Suspend the run until a person has filled in the form, and return the answer. `question` names this one place of the flow; `text` is Markdown.

    Nobody answers within the hours: the server marks the run Failed, and no line of ours runs again.
    """
    shown = form.with_initial_data(description=text)
    return suspend_flow_run(wait_for_input=shown, key=_key(question), timeout=hours * 3600)


def ask_for_approval(question: str, text: str, live: str, about: Mapping[str, str], *, hours: int) -> Approval:
    """Ask until the live database's name was typed. Raise ConfigurationError when it was another one three times.

    `about`: which databases the text speaks of. An answer given while these were others approves nothing: names stay, and another swap may have come between.
    """
    return ask_until(Approval, question, text, about, lambda answer: what_is_wrong(answer, live), on=live, hours=hours)


def ask_until(
    form: type[Form],
    question: str,
    text: str,
    about: Mapping[str, str],
    wrong: Callable[[Form], str],
    *,
    on: str,
    hours: int,
) -> Form:
    """Ask until an answer approves: `wrong` finds nothing wrong with it, and what the text was about (`about`, by name) is still the same.

    Raise ConfigurationError when it does not in three times.
    """
    told = ""
    for attempt in range(1, ATTEMPTS + 1):
        shown = remember(f"{question}-{attempt}", about)
        answer = ask(form, f"{question}-{attempt}", told + text, hours=hours)
        if not (found := wrong(answer) or what_is_other(shown, about)):
            return answer
        told = f"**Nothing was done: {escape_markdown(found)}. Please read again and fill in the form anew.**\n\n"
    raise ConfigurationError(
        "get the approval", on, f"asked {ATTEMPTS} times; {found}", "Nothing was done; press Retry to be asked again"
    )


def what_is_wrong(answer: Approval, live: str) -> str:
    """Given an answer and the live database's name, say why it approves nothing; "" when it does."""
    if answer.database_name.strip() != live:
        return f"“{answer.database_name.strip()[:63]}” was typed, and the live database is “{live}”"
    return "" if answer.approver.strip() and answer.reason.strip() else "a field was left empty"


def what_is_other(shown: Mapping[str, str], about: Mapping[str, str]) -> str:
    """Given which databases a form was about, and which they are now, say why its answer holds no more; "" when it does."""
    # What was asked by an older nightshift did not keep the name.
    if (before := shown.get(LIVE_NAME, about.get(LIVE_NAME))) != (name := about.get(LIVE_NAME)):
        return f"since you were asked, {LIVE_NAME} in the environment's file became “{name}”; it was “{before}”"
    others = [what for what, identity in about.items() if what != LIVE_NAME and shown.get(what) != identity]
    return f"since you were asked, {' and '.join(others)} became another one, which has the same name" if others else ""


def remember(question: str, found: Mapping[str, str]) -> dict[str, str]:
    """Given a question and what its form is about to show, keep that with the run, and return what was kept the first time: what the person saw who answered."""
    key = f"{_key(question)}-shown"
    before = read_flow_run_input(key)
    if isinstance(before, dict):
        return before
    create_flow_run_input(key, dict(found))
    return dict(found)


def was_asked(question: str) -> bool:
    """Whether this run showed that question already: before it was suspended."""
    return read_flow_run_input(f"{_key(f'{question}-1')}-shown") is not None


def _key(question: str) -> str:
    return f"{question}-run-{flow_run.run_count}"


def what_is_wrong_with_plan(answer: ReleaseApproval, plan_sha256: str) -> str:
    """Given an answer and the hash of the plan that is about to be carried out, say why it approves nothing; "" when it does."""
    if answer.plan.strip().lower() != plan_sha256[:8]:
        return f"“{answer.plan.strip()[:63]}” was typed, and the plan's hash begins with {plan_sha256[:8]}"
    return "" if answer.approver.strip() and answer.reason.strip() else "a field was left empty"
