"""What happened, as it happens: a run's record of steps, from which its report is made even when the run fails half-way."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from core.checks import Check
from core.environment import Environment
from core.errors import NightshiftError
from core.evidence import Finding, Step, StepState
from core.redaction import redact
from tasks.log_redaction import redacted_errors

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The worker's clock."""
    return datetime.now(UTC)


class Notes:
    """What a step wants to have told: findings and facts."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.facts: dict[str, Any] = {}

    def add(self, *, facts: Mapping[str, Any], findings: Iterable[Finding] = ()) -> None:
        """Note figures and findings."""
        self.facts.update(facts)
        self.findings.extend(findings)

    def add_checks(self, checks: Iterable[Check]) -> None:
        """Note each check: those that are not well as findings, all of them as a table."""
        checks = tuple(checks)
        severities = {"warning": "warning", "failed": "error"}
        self.findings += [
            Finding.model_validate(
                {
                    "severity": severities[check.state],
                    "text": " → ".join(filter(None, (f"{check.name}: {check.found}", check.next_step))),
                }
            )
            for check in checks
            if check.state in severities
        ]
        self.facts["checks"] = [
            {"check": check.name, "state": check.state, "found": redact(check.found)} for check in checks
        ]

    @property
    def state(self) -> StepState:
        """How a step with these findings ended, when nothing was raised."""
        severities = {finding.severity for finding in self.findings}
        return "failed" if "error" in severities else "warning" if "warning" in severities else "passed"


class Record:
    """The steps done on one subject (a database). Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside."""

    def __init__(self, name: str, clock: Clock = utc_now) -> None:
        self.name = name
        self.steps: list[Step] = []
        self.summary = ""
        self._finished = False
        self._clock = clock

    @contextmanager
    def step(self, name: str) -> Iterator[Notes]:
        """Record a step around a block: its time, what it noted, and, when it raises, why. The error goes on to the caller."""
        notes, started = Notes(), self._clock()
        try:
            with redacted_errors():
                yield notes
        except NightshiftError as error:
            notes.findings.append(Finding(severity="error", text=str(error)))
            self._append(name, notes, started)
            raise
        except BaseException as error:
            notes.findings.append(
                Finding(severity="error", text=redact(f"interrupted: {type(error).__name__}: {error}"))
            )
            self._append(name, notes, started)
            raise
        self._append(name, notes, started)

    def finish(self, summary: str) -> None:
        """Say that the work came to its end, and what it made in a few words."""
        self.summary, self._finished = summary, True

    @property
    def failed_so_far(self) -> bool:
        """Whether a step failed until now."""
        return any(step.state == "failed" for step in self.steps)

    @property
    def failed(self) -> bool:
        """Whether a step failed, or the work did not come to its end."""
        return not self._finished or self.failed_so_far

    @property
    def why(self) -> str:
        """The first error found, for a run's message."""
        errors = (finding.text for step in self.steps for finding in step.findings if finding.severity == "error")
        return next(errors, "did not come to its end")

    def _append(self, name: str, notes: Notes, started: datetime) -> None:
        duration_ms = max(0, int((self._clock() - started).total_seconds() * 1000))
        self.steps.append(
            Step(
                name=name,
                subject=self.name,
                state=notes.state,
                started=started,
                duration_ms=duration_ms,
                findings=tuple(notes.findings),
                facts=notes.facts,
            )
        )


def outcome_sentence(records: Iterable[Record]) -> str:
    """Given the records of a run, return one line: first what failed and why, then what went well."""
    records = tuple(records)
    failed = [f"{record.name}: {record.why}" for record in records if record.failed]
    well = [f"{record.name}: {record.summary}" for record in records if not record.failed]
    # A name may hold a line's end; the sentence is one line.
    return " ".join("; ".join(failed + well).splitlines())


class RunRecord:
    """A run: its environment, its identity in Prefect, and when it began."""

    def __init__(
        self, environment: Environment, *, flow: str, run_id: str, run_name: str, clock: Clock = utc_now
    ) -> None:
        self.environment, self.flow, self.run_id, self.run_name = environment, flow, run_id, run_name
        self.clock = clock
        self.started = clock()
