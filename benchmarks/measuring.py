"""What every benchmark shares: ratios with their bars, medians of interleaved pairs, and how they are printed."""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Ratio:
    """A measured figure and its bar. `at_most`: the figure must not exceed the bar; else it must reach it."""

    name: str
    value: float
    bar: float
    at_most: bool = True
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the bar is met."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    @property
    def document(self) -> dict[str, Any]:
        """As the last line's JSON tells it."""
        return {"value": round(self.value, 3), "bar": self.bar, "holds": self.holds}


@dataclass(frozen=True)
class Finished:
    """A child process that has ended: wall seconds, CPU seconds (user and system), and peak memory in bytes; its own children's included."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def timed(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, stdout: str = os.devnull) -> Finished:
    """Run a program with its output written to a file and return its figures. Raise SystemExit when it fails."""
    started = time.monotonic()
    pid = os.posix_spawnp(
        argv[0],
        list(argv),
        dict(environment if environment is not None else os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)],
    )
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - started
    if (code := os.waitstatus_to_exitcode(status)) != 0:
        sys.exit(f"{argv[0]} ended with {code}")
    return Finished(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


# Appended to a program: writes its own peak memory, without that of the servers and clients that it started and waited for (getrusage(2), RUSAGE_SELF; KiB).
_TELL_PEAK = "\nimport resource, sys; open(sys.argv[-1], 'w').write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))"


def own_peak_bytes(code: str, environment: Mapping[str, str]) -> int:
    """Run Python code in a process of its own and return that process's peak memory. Raise SystemExit when it fails."""
    with tempfile.NamedTemporaryFile("r") as told:
        timed([sys.executable, "-c", code + _TELL_PEAK, told.name], environment=environment)
        return int(told.read())


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Given the figures of interleaved pairs, return the median of their ratios: pair by pair, so that a machine's drift cancels out."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def finish(title: str, ratios: Sequence[Ratio], context: Mapping[str, Any]) -> None:
    """Print the table and the last line; exit 1 when a bar is missed."""
    table = Table(title=title)
    for column in ("figure", "measured", "bar", ""):
        table.add_column(column, justify="left" if column in {"figure", ""} else "right")
    for ratio in ratios:
        sign = "≤" if ratio.at_most else "≥"
        table.add_row(
            ratio.name,
            f"{ratio.value:.2f} {ratio.unit}",
            f"{sign} {ratio.bar:g} {ratio.unit}",
            "holds" if ratio.holds else "MISSED",
        )
    console = Console()
    console.print(table)
    for key, value in context.items():
        console.print(f"{key}: {value}")
    print(
        json.dumps(
            {"benchmark": title, "ratios": {ratio.name: ratio.document for ratio in ratios}, "context": dict(context)}
        ),
        flush=True,
    )
    if not all(ratio.holds for ratio in ratios):
        sys.exit(1)
