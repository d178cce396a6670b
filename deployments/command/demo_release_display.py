"""How the demo of releases shows what the cluster is like, a release's report, and how all of them ended."""

from collections.abc import Sequence
from typing import Protocol

from rich.table import Table
from rich.text import Text

from core.evidence import Report
from core.redaction import redact
from core.release_journal import Journal
from core.release_lease import Holder
from core.units import human_duration
from deployments.command.terminal import console
from deployments.local.demo_application import SideSeen
from deployments.local.demo_cluster import DemoImages

_MARKS = {"passed": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✘", "red"), "skipped": ("–", "dim")}


class Ended(Protocol):
    """How a release was to end, and how it did."""

    @property
    def title(self) -> str: ...
    @property
    def wanted(self) -> str: ...
    @property
    def came(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def wrong(self) -> tuple[str, ...]: ...


def show_cluster(
    when: str, sides: Sequence[SideSeen], images: DemoImages, holder: Holder | None, journals: Sequence[Journal]
) -> None:
    """Print the application's Deployments, who holds the lease, and what the journals say."""
    table = Table(title=f"the cluster {when}", title_justify="left", box=None, pad_edge=False)
    for name in ("deployment", "runs", "Pods ready", "traffic"):
        table.add_column(name)
    for one in sides:
        table.add_row(
            one.name,
            images.label(one.image),
            f"{one.ready} of {one.replicas}",
            "100 %" if one.serves else Text("–", "dim"),
        )
    console.print(table)
    said = ", ".join(f"{one.release_id} {one.outcome or 'open'}" for one in journals) or "none yet"
    console.print(
        f"journals: {said}; lease: {f'held by {holder.name}' if holder else 'free'}", style="dim", soft_wrap=True
    )


def show_report(report: Report, run_url: str) -> None:
    """Print a report's steps with their times, and what it found."""
    table = Table(
        title=f"report {report.sequence}, signed: {report.verdict}", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("")
    table.add_column("step")
    table.add_column("took", justify="right")
    for step in report.steps:
        mark, style = _MARKS[step.state]
        table.add_row(Text(mark, style), step.name, human_duration(step.duration_ms))
    console.print(table)
    for step in report.steps:
        if "decision" in step.facts:
            console.print(f"{step.name}: {step.facts['decision']}, since {step.facts['why']}", soft_wrap=True)
        for finding in step.findings:
            if finding.severity != "note":
                console.print(redact(f"{step.name}: {finding.text}"), soft_wrap=True)
    console.print(f"its page: {run_url}", style="dim", soft_wrap=True)


def show_ends(ends: Sequence[Ended]) -> None:
    """Print what was to come of each release, and what did."""
    console.rule("what came of them", align="left")
    for end in ends:
        mark = ("✘", "red") if end.wrong else ("✔", "green")
        head = f" {end.title} · to be {end.wanted} · {human_duration(int(end.seconds * 1000))}"
        console.print(Text.assemble(mark, (head, "bold")), soft_wrap=True)
        console.print(f"  {redact(end.came)}", soft_wrap=True)
