"""A run on the terminal while it goes on: its steps, a bar for each progress artifact. In a pipe: a line at each change."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from core.redaction import redact
from deployments.command.follow import RunView, StepView
from deployments.command.terminal import console, error_console

_MARKS = {
    "waiting": ("·", "dim"),
    "running": ("▸", "cyan"),
    "passed": ("✔", "green"),
    "failed": ("✘", "red"),
    "waived": ("!", "yellow"),
    # It says that nobody looked.
    "not-configured": ("·", "dim"),
}
_STEPS_SHOWN = 12
_PATIENCE_SECONDS = 30
_NOBODY = "no worker has picked it up yet: does one run? (prefect worker start --pool nightshift)"


def show_run(views: Iterator[RunView], *, quiet: bool = False) -> RunView:
    """Given a run's views, show them as they come and return the last. `quiet` shows nothing but a hint on stderr when no worker picks the run up."""
    if quiet or not console.is_terminal:
        return _in_lines(views, quiet=quiet)
    spinner = Spinner("dots")
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        view = next(views)
        live.update(_screen(view, spinner), refresh=True)
        for view in views:
            live.update(_screen(view, spinner), refresh=True)
    return view


def _screen(view: RunView, spinner: Spinner) -> RenderableType:
    head = f"{view.name} · {view.state_name} · {view.seconds:.0f} s"
    if view.finished:
        lines: list[RenderableType] = [Text.assemble(("✔ ", "green") if view.well else ("✘ ", "red"), (head, "bold"))]
    else:
        spinner.update(text=Text(f" {head}", "bold"))
        lines = [spinner]
    if _nobody_comes(view):
        lines.append(Text(f"  {_NOBODY}", "yellow"))
    hidden = max(0, len(view.steps) - _STEPS_SHOWN)
    if hidden:
        lines.append(Text(f"  … {hidden} earlier steps", "dim"))
    lines += [_step_line(step) for step in view.steps[hidden:]]
    if view.progress:
        lines.append(_bars(view))
    return Group(*lines)


def _nobody_comes(view: RunView) -> bool:
    """Whether a run waits for a worker in vain, rather than for the run before it or for its own process to start."""
    waits = view.state_type == "SCHEDULED" and view.state_name != "AwaitingConcurrencySlot"
    return waits and view.waited_seconds > _PATIENCE_SECONDS


def _step_line(step: StepView) -> Text:
    mark, style = _MARKS[step.state]
    return Text.assemble(
        "  ", (mark, style), f" {step.name}", (f"  {step.seconds:.1f} s" if step.seconds else "", "dim")
    )


def _bars(view: RunView) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(width=24)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    for progress in view.progress:
        bar = ProgressBar(total=100, completed=progress.percent, width=24)
        table.add_row(f"  {progress.key}", bar, f"{progress.percent:.0f} %", Text(redact(progress.sentence), "dim"))
    return table


def _in_lines(views: Iterator[RunView], *, quiet: bool) -> RunView:
    said: dict[str, str] = {}
    hinted = False

    def say(what: str, state: str, sentence: str) -> None:
        if said.get(what) != state:
            said[what] = state
            if not quiet:
                console.print(redact(sentence), soft_wrap=True)

    view = next(views)
    while True:
        say("run", view.state_name, f"{view.name}: {view.state_name}")
        for step in view.steps:
            if step.state not in {"waiting", "running"}:
                say(f"step {step.name}", step.state, f"  {_MARKS[step.state][0]} {step.name}  {step.seconds:.1f} s")
        if _nobody_comes(view) and not hinted:
            hinted = True
            error_console.print(_NOBODY)
        if view.finished or view.waits:
            return view
        view = next(views)
