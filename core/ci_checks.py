"""What GitHub's checks of a commit amount to.

Two kinds exist side by side: check runs (Actions and other Apps: status, and a conclusion once it is completed) and commit statuses (state). GitHub's own
rule for a protected branch lets skipped and neutral pass as well ("About protected branches", required status checks), so a job whose condition was not
met counts as done. Ours: what is named as required must have succeeded; among the others skipped and neutral are let pass, but at least one check must have succeeded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.units import counted

_HARMLESS = frozenset({"success", "neutral", "skipped"})
_NAMED = 5


@dataclass(frozen=True)
class CommitCheck:
    """One check: its name, and `success`, `neutral`, `skipped`, `pending` or what went wrong; `words` are the check's own."""

    name: str
    outcome: str
    words: str = ""

    @property
    def told(self) -> str:
        """For a message."""
        return f"{self.name}: {self.words or self.outcome}"


def check_run(document: Mapping[str, Any]) -> CommitCheck:
    """Given a check run of the REST API, return it as a check. One that is not completed is pending, whatever its conclusion says."""
    name, status = str(document.get("name")), str(document.get("status"))
    if status != "completed":
        return CommitCheck(name, "pending", f"{status}, not completed")
    conclusion = str(document.get("conclusion"))
    title = str((document.get("output") or {}).get("title") or "")
    return CommitCheck(name, conclusion, f"{conclusion} ({title[:100]})" if title else conclusion)


def commit_status(document: Mapping[str, Any]) -> CommitCheck:
    """Given a commit status of the REST API, return it as a check."""
    state, description = str(document.get("state")), str(document.get("description") or "")
    return CommitCheck(str(document.get("context")), state, f"{state} ({description[:100]})" if description else state)


def ci_problems(checks: Sequence[CommitCheck], required: Sequence[str], ignored: Sequence[str]) -> list[str]:
    """Given all checks of a commit, the names that must have succeeded (none: all checks count) and those that do not count, return what is wrong.

    Of several checks with one name each must be good: they are of different events or suites, and GitHub tells of each suite the latest run only.
    """
    counting = [check for check in checks if check.name not in ignored]
    if required:
        missing = [name for name in required if not any(check.name == name for check in counting)]
        bad = [check for check in counting if check.name in required and check.outcome != "success"]
        return [*(f"{name}: there is no such check" for name in missing), *_told(bad)]
    if not counting:
        return ["the commit has no checks at all"]
    bad = [check for check in counting if check.outcome not in _HARMLESS]
    if not bad and not any(check.outcome == "success" for check in counting):
        return [f"none of its {counted(len(counting), 'check')} succeeded: all were skipped or neutral"]
    return _told(bad)


def _told(bad: Sequence[CommitCheck]) -> list[str]:
    # What failed before what is still going on.
    ordered = sorted(bad, key=lambda check: check.outcome == "pending")
    more = [f"and {len(ordered) - _NAMED} more"] if len(ordered) > _NAMED else []
    return [*(check.told for check in ordered[:_NAMED]), *more]
