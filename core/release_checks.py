"""The checklist before a release: how each item stands, which of them a person may waive, and what stops."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field, JsonValue

from core.errors import ConfigurationError
from core.manifest import Record

CheckState = Literal["passed", "failed", "waived", "not-configured"]
# Without these a release cannot know what it does, or may not do it: which image, the only right to write, the rights in the cluster.
NEVER_WAIVED = frozenset({"image", "lease", "rights"})

# Looked at again right before Pods are made: their names are what a waiver is given for.
MIGRATION_ITEM, SIDES_ITEM = "migration", "sides"
# Looked at again once the front end was promoted, unless it was waived.
API_CACHE_ITEM = "api-cache"

# What the task run that looked at an item is called when it ends: its task is done, and the item need not be well.
STATE_NAMES: dict[CheckState, str] = {
    "passed": "Completed",
    "failed": "NotWell",
    "waived": "Waived",
    "not-configured": "NotConfigured",
}


class ReleaseCheck(Record):
    """One item of the checklist. `by` and `why` are of a waiver; `evidence` are the facts that were seen, for the report; never a secret.

    `not-configured` is no pass: it says that nobody looked. An item that could not be asked is `failed`.
    """

    item: str
    state: CheckState
    found: str
    next_step: str = ""
    by: str = ""
    why: str = ""
    evidence: dict[str, JsonValue] = Field(default_factory=dict)


def passed(item: str, found: str, **evidence: JsonValue) -> ReleaseCheck:
    """An item that is well, and what was seen."""
    return ReleaseCheck(item=item, state="passed", found=found, evidence=evidence)


def failed(item: str, found: str, next_step: str = "", **evidence: JsonValue) -> ReleaseCheck:
    """An item that is not well, or that could not be asked."""
    return ReleaseCheck(item=item, state="failed", found=found, next_step=next_step, evidence=evidence)


def not_configured(item: str, found: str, next_step: str = "") -> ReleaseCheck:
    """An item that nobody looked at, and why."""
    return ReleaseCheck(item=item, state="not-configured", found=found, next_step=next_step)


def verdict(item: str, problems: Sequence[str], good: str, next_step: str, **evidence: JsonValue) -> ReleaseCheck:
    """Given what is wrong (nothing: it is well, and `good` says what was seen), return the item."""
    if problems:
        return failed(item, "; ".join(problems), next_step, **evidence)
    return passed(item, good, **evidence)


def waive(checks: Sequence[ReleaseCheck], skips: Mapping[str, str], by: str) -> tuple[ReleaseCheck, ...]:
    """Given the checklist, the items to skip with a reason each, and who asked, return it with the failed ones among them waived.

    What passed stays passed, and what is not configured stays so: there is nothing to waive. Raise ConfigurationError, naming them, for items that do not
    exist or that cannot be waived, and for a skip without a reason or without a person.
    """
    check_skips(skips, [check.item for check in checks], by)
    return tuple(
        check.model_copy(update={"state": "waived", "by": by.strip(), "why": skips[check.item].strip()})
        if check.item in skips and check.state == "failed"
        else check
        for check in checks
    )


def check_skips(skips: Mapping[str, str], items: Iterable[str], by: str) -> None:
    """Given the items to skip, those that there are, and who asked, raise ConfigurationError unless each may be skipped. Nothing needs to have been looked at yet."""
    known = tuple(items)
    if unknown := sorted(set(skips) - set(known) - NEVER_WAIVED):
        raise _refused(unknown, "there is no such item", f"The items are {', '.join(known)}")
    if never := sorted(set(skips) & NEVER_WAIVED):
        raise _refused(never, "this cannot be waived", "A release cannot do without it; mend what it found")
    if blank := sorted(item for item, reason in skips.items() if not reason.strip()):
        raise _refused(blank, "no reason is given", "Say why: the report keeps it")
    if skips and not by.strip():
        raise _refused(sorted(skips), "nobody is named who asks for it", "Give requested_by")


def stops(checks: Iterable[ReleaseCheck]) -> tuple[ReleaseCheck, ...]:
    """Given the checklist, return the items that stop the release, in order: those that failed and were not waived."""
    return tuple(check for check in checks if check.state == "failed")


def worst_state(checks: Iterable[ReleaseCheck]) -> CheckState:
    """Given items that were looked at together, return how they stand as one: failed, else waived, else passed. Not configured only when nobody looked at any."""
    order: tuple[CheckState, ...] = ("failed", "waived", "passed")
    there = {check.state for check in checks}
    return next((state for state in order if state in there), "not-configured")


def _refused(items: Sequence[str], found: str, next_step: str) -> ConfigurationError:
    return ConfigurationError("skip checks", f"skip_checks: {', '.join(items)}", found, next_step)
