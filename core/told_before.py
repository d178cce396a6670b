"""Whether a run found anything that the last report about the same did not tell: a sweep every two minutes must not bury a chain of evidence under one sentence."""

from collections.abc import Iterable

from core.evidence import Report, Step


def tells_news(steps: Iterable[Step], last: Report | None) -> bool:
    """Given the steps of a run and the last report about the same subjects (None: there is none), return whether they say anything else.

    Compared are what was done, how each step ended, and its findings, word by word; not times and figures, such as the number of a lease.
    """
    return last is None or _said(steps) != _said(last.steps)


def is_about(report: Report, flow: str, subjects: Iterable[str]) -> bool:
    """Whether a report is of this flow, and about these subjects and no others."""
    return report.flow == flow and {step.subject for step in report.steps} == set(subjects)


def _said(steps: Iterable[Step]) -> list[tuple[str, ...]]:
    return [
        (step.subject, step.name, step.state, *(f"{one.severity}: {one.text}" for one in step.findings))
        for step in steps
    ]
