"""Evidence: one signed JSON report a run, chained by hash, so that an edit, a gap or a lost end of the chain is found.

Reports of an environment are numbered from 1; each holds the SHA-256 of the bytes of the one before. A small signed head says how far the chain went.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from core.manifest import Record, Sha256

Verdict = Literal["passed", "passed with warnings", "failed"]
StepState = Literal["passed", "warning", "failed", "skipped"]


class Finding(Record):
    """Something worth an operator's eye."""

    severity: Literal["note", "warning", "error"]
    text: str


class Step(Record):
    """One step of a run: when, how long (milliseconds), how it ended, what was found, and its figures."""

    name: str
    subject: str
    state: StepState
    started: AwareDatetime
    duration_ms: int = Field(ge=0)
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)


class Report(Record):
    """What a run did and found."""

    format: Literal["nightshift-report/1"] = "nightshift-report/1"
    sequence: int = Field(ge=1)
    previous_sha256: Sha256 | None
    flow: str
    environment: str
    run_id: str
    run_name: str
    inputs: dict[str, Any]
    tools: dict[str, str]
    started: AwareDatetime
    finished: AwareDatetime
    steps: tuple[Step, ...]
    verdict: Verdict


class Head(Record):
    """How far the chain went when it was last written to; may lag behind by a report that was written just before a crash."""

    format: Literal["nightshift-evidence-head/1"] = "nightshift-evidence-head/1"
    environment: str
    sequence: int = Field(ge=1)
    sha256: Sha256


def verdict_of(steps: Sequence[Step]) -> Verdict:
    """Given a run's steps, return its verdict: failed when one failed or there is none, with warnings when one warned, else passed."""
    states = {step.state for step in steps}
    if not steps or "failed" in states:
        return "failed"
    return "passed with warnings" if "warning" in states or "skipped" in states else "passed"
