"""One thing that was checked before work began, and what it means for the operator."""

from collections.abc import Iterable
from typing import Literal

from core.manifest import Record


class Check(Record):
    """The result of one check: what was looked at, how it stands, what was found, and what to do when it is not well."""

    name: str
    state: Literal["passed", "warning", "failed"]
    found: str
    next_step: str = ""


def failed_checks(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Given checks, return those that failed, in order."""
    return tuple(check for check in checks if check.state == "failed")
