"""`nightshift judge COUNTS.csv`: a recorded day after a release, replayed to the verdict that the watch gives."""

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from core.counts_csv import RecordedDay, read_recorded_day
from core.detectable_effect import rounded_up
from core.errors import ConfigurationError
from core.sequential_test import ALPHA
from core.watch_counts import BUCKET_MINUTES, BUCKETS, BUCKETS_AN_HOUR
from core.watch_verdict import Demands, Judgement, MetricVerdict, judge
from deployments.command.terminal import EXIT_NOT_WELL, EXIT_WAITS, console, print_json

_COLOURS = {"healthy": "green", "degraded": "red"}
_EXITS = {"healthy": 0, "degraded": EXIT_NOT_WELL}


def judge_command(  # noqa: PLR0917 - typer reads the options from the signature
    counts: Annotated[Path, typer.Argument(help="The table (docs/watch.md); - reads standard input.", allow_dash=True)],
    coverage: Annotated[float, typer.Option(help="Share of the buckets that must have been seen.", min=0, max=1)] = 0.9,
    factor: Annotated[float, typer.Option(help="A trouble of this factor must have been detectable.", min=1.5)] = 3.0,
    alpha: Annotated[
        float, typer.Option(help="False alarms of all metrics together, as a share of days.", min=0.0001, max=0.5)
    ] = ALPHA,
    path: Annotated[bool, typer.Option("--path", help="Show the evidence after each hour.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document instead of text, with the evidence after each bucket.")
    ] = False,
) -> None:
    """Replay a recorded day to its verdict. Exit code 0: healthy, 1: degraded, 3: insufficient or blind, so that a person decides."""
    day = _read(counts)
    found = judge(day.metrics, demands=Demands(coverage, factor), alpha=alpha)
    if as_json:
        print_json(_document(day, found))
    else:
        _show(day, found)
        if path:
            console.print(_path_table(day, found))
    raise typer.Exit(_EXITS.get(found.verdict, EXIT_WAITS))


def _read(file: Path) -> RecordedDay:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
        return read_recorded_day(text.splitlines())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "read the recorded day", str(file), str(error), "The columns are in docs/watch.md"
        ) from error


def _show(day: RecordedDay, found: Judgement) -> None:
    console.print(Text(found.verdict, style=f"bold {_COLOURS.get(found.verdict, 'yellow')}"))
    for reason in found.reasons:
        console.print(Text(f"  {reason}"), soft_wrap=True)
    table = Table("metric", "days", "seen", "φ̂", "largest E", "alarm at E", "alarm", "would have found")
    for one in found.metrics:
        alarm = f"{_end_of(day, one.alarm):%d %H:%M}" if one.alarm is not None else "none"
        table.add_row(
            one.metric,
            str(one.days),
            f"{one.coverage:.0%}",
            f"{one.dispersion:.2f}",
            f"{one.largest:.3g}",
            f"{one.threshold:g}",
            alarm,
            f"× {rounded_up(one.detectable_factor) or '∞'}",
        )
    console.print(table)


def _path_table(day: RecordedDay, found: Judgement) -> Table:
    table = Table("until", *(one.metric for one in found.metrics), title="E after each hour")
    for bucket in range(BUCKETS_AN_HOUR - 1, BUCKETS, BUCKETS_AN_HOUR):
        cells = [f"{one.process[bucket]:.3g}" if one.process else "" for one in found.metrics]
        table.add_row(f"{_end_of(day, bucket):%d %H:%M}", *cells)
    return table


def _end_of(day: RecordedDay, bucket: int) -> datetime:
    return day.begin + timedelta(minutes=BUCKET_MINUTES * (bucket + 1))


def _document(day: RecordedDay, found: Judgement) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "reasons": found.reasons,
        "begin": day.begin,
        "metrics": [_metric(day, one) for one in found.metrics],
    }


def _metric(day: RecordedDay, one: MetricVerdict) -> dict[str, Any]:
    return {
        "metric": one.metric,
        "baseline_days": one.days,
        "coverage": one.coverage,
        "dispersion": one.dispersion if one.process else None,
        "threshold": one.threshold,
        "alarm": _end_of(day, one.alarm) if one.alarm is not None else None,
        "acts": one.acts,
        "why_not": one.why_not,
        # JSON knows no infinity: None, and nothing would have been found.
        "detectable_factor": one.detectable_factor if one.detectable_factor < float("inf") else None,
        "process": one.process,
    }
