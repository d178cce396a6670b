"""Whether a chain of reports is whole: a pure walk over what was stored, one report at a time, so that any length of chain takes the same memory.

What is found: a changed report (its signature), one signed with a strange key, a missing one (numbers), two exchanged (each says its number), one
replaced by another with a good signature (the next one's hash, for the last one the head's), a cut-off end (the head).
"""

import re
from dataclasses import dataclass, field

from core.evidence import Head, Report
from core.keys import evidence_folder

MOST_PROBLEMS_TOLD = 100
_NUMBER = re.compile(r"\d{8}\.json")


@dataclass(frozen=True)
class ChainResult:
    """How many reports were looked at, and what is wrong with them, a sentence each (after the first hundred only their number)."""

    reports: int
    problems: list[str]


def sequence_of(key: str, prefix: str) -> int | None:
    """Given a key and the environment's prefix, return which report's it is, None when it is not a report's."""
    folder = evidence_folder(prefix)
    name = key.removeprefix(folder)
    return int(name[:8]) if key.startswith(folder) and _NUMBER.fullmatch(name) else None


@dataclass
class ChainWalk:
    """Takes an environment's reports by ascending number, then the head, and gathers what is wrong."""

    environment: str
    reports: int = 0
    _problems: list[str] = field(default_factory=list)
    _more: int = 0
    _last: int = 0
    _last_sha256: str | None = None

    def problem(self, text: str) -> None:
        """Note a sentence that names the key and what is wrong with it."""
        if len(self._problems) < MOST_PROBLEMS_TOLD:
            self._problems.append(text)
        else:
            self._more += 1

    def add(self, key: str, sequence: int, sha256: str, report: Report | str, head: Head | None) -> None:
        """Given a report's key, the number in it, the SHA-256 of its bytes, and the report or what is wrong with its signature, take it in."""
        self.reports += 1
        if sequence != self._last + 1:
            first, last = self._last + 1, sequence - 1
            missing = f"report {first} is" if first == last else f"reports {first} to {last} are"
            self.problem(f"{key}: {missing} missing before it")
        if isinstance(report, str):
            self.problem(f"{key}: {report}")
        else:
            self._look_at(key, sequence, report)
        if head is not None and head.sequence == sequence and head.sha256 != sha256:
            self.problem(f"{key}: it is not the report that the chain's head knows by this number; it was replaced")
        self._last, self._last_sha256 = sequence, sha256

    def _look_at(self, key: str, sequence: int, report: Report) -> None:
        if report.sequence != sequence:
            self.problem(f"{key}: it says that it is report {report.sequence}; it was moved or exchanged")
        if report.environment != self.environment:
            self.problem(f"{key}: it is a report of environment {report.environment!r}")
        if sequence == self._last + 1 and report.previous_sha256 != self._last_sha256:
            before = f"report {self._last}" if self._last else "a report before the first"
            self.problem(
                f"{key}: it holds another SHA-256 of {before} than what is stored; that one was replaced, or this"
            )

    def result(self, head_key: str, head: Head | str | None) -> ChainResult:
        """Given the head's key, and the head, what is wrong with its signature, or None when there is none: return the result."""
        if isinstance(head, str):
            self.problem(f"{head_key}: {head}")
        elif head is None and self._last:
            self.problem(
                f"{head_key}: missing, so a cut-off end of the chain would not be noticed; the next run writes it anew"
            )
        elif head is not None:
            if head.environment != self.environment:
                self.problem(f"{head_key}: it is the head of environment {head.environment!r}")
            if head.sequence > self._last:
                self.problem(
                    f"{head_key}: the chain went to report {head.sequence}, but ends at {self._last}: its end was removed"
                )
        told = [*self._problems, f"and {self._more} more problems"] if self._more else list(self._problems)
        return ChainResult(self.reports, told)
