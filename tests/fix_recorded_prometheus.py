"""A Prometheus that remembers: made-up weeks of an application's requests, written into its database by promtool, so that a day after a release is there at once.

Every minute a sample. Before the release Pods of the old version, in the week's same day 7, 14, 21 and 28 days before; on its day Pods of the new one.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from core.watch_days import LAG_DAYS
from tests.fix_prometheus import run_prometheus
from tests.leave_out import leave_out

RELEASED = datetime(2026, 11, 12, 9, tzinfo=UTC)
MINUTES = 24 * 60
# Minutes before and after each day that are recorded too.
BESIDE = 90
Rate = Callable[[int], float]


@dataclass
class Application:
    """What happens in each minute of the day after the release; the days before are as `before`.

    Args:
        requests, errors, slow: a minute's mean, by minute of the day.
        known: whether Prometheus gets anything of it in that minute.
        name: what its counters are called on the new day.
    """

    job: str
    requests: Rate = lambda _minute: 60
    errors: Rate = lambda _minute: 0.3
    slow: Rate = lambda _minute: 0.6
    before: tuple[float, float, float] = (60, 0.3, 0.6)
    known: Callable[[int], bool] = lambda _minute: True
    renamed: bool = False
    lines: dict[str, list[str]] = field(default_factory=dict)

    def record(self, random: np.random.Generator) -> None:
        """Write its samples down, by family of metrics."""
        for lag in sorted(LAG_DAYS, reverse=True):
            self._day(
                random,
                RELEASED - timedelta(days=lag),
                f"api-old{lag}-a",
                *(lambda _m, rate=one: rate for one in self.before),
            )  # type: ignore[misc]
        self._day(random, RELEASED, "api-new-a", self.requests, self.errors, self.slow, new=True)

    def _day(self, random: np.random.Generator, begin: datetime, pod: str, *rates: Rate, new: bool = False) -> None:
        totals = np.zeros(3)
        start = begin.timestamp()
        # A Pod does not begin with the release, and clocks were changed between the days.
        for minute in range(-BESIDE, MINUTES + BESIDE):
            totals += [random.poisson(max(0, rate(min(max(minute, 0), MINUTES - 1)))) for rate in rates]
            if new and not self.known(minute):
                continue
            count, errors, slow = totals
            at = int(start) + 60 * minute
            labels = f'job="{self.job}",pod="{pod}",route="/x"'
            name = "requests" if new and self.renamed else "http_requests"
            self._add(name, f'{name}_total{{{labels},status="200"}} {count:.0f} {at}')
            if errors:
                self._add(name, f'{name}_total{{{labels},status="500"}} {errors:.0f} {at}')
            buckets = "http_request_duration_seconds"
            self._add(buckets, f'{buckets}_bucket{{{labels},le="1.0"}} {count + errors - min(slow, count):.0f} {at}')
            self._add(buckets, f'{buckets}_bucket{{{labels},le="+Inf"}} {count + errors:.0f} {at}')

    def _add(self, family: str, line: str) -> None:
        self.lines.setdefault(family, []).append(line)


def no_outage(_minute: int) -> bool:
    """Prometheus runs all day."""
    return True


@contextmanager
def remembering(
    folder: Path, applications: list[Application], runs: Callable[[int], bool] = no_outage
) -> Iterator[str]:
    """Run a Prometheus that remembers these applications, and give its address. `runs`: whether it ran itself in a minute of the new day."""
    program = shutil.which("promtool")
    if program is None:
        leave_out("no promtool")
    families: dict[str, list[str]] = {}
    for number, one in enumerate(applications):
        alone = one.known
        one.known = lambda minute, alone=alone: alone(minute) and runs(minute)  # type: ignore[misc]
        one.record(np.random.default_rng([7, number]))
        for name, lines in one.lines.items():
            families.setdefault(name, []).extend(lines)
    file = folder / "recorded.txt"
    with file.open("w") as out:
        for name, lines in families.items():
            out.write(
                f"# TYPE {name} {'histogram' if name.endswith('seconds') else 'counter'}\n" + "\n".join(lines) + "\n"
            )
        out.write("# TYPE up gauge\n")
        for lag in (*sorted(LAG_DAYS, reverse=True), 0):
            start = int((RELEASED - timedelta(days=lag)).timestamp())
            out.writelines(
                f'up{{job="itself"}} 1 {start + 60 * minute}\n'
                for minute in range(-BESIDE, MINUTES + BESIDE)
                if lag or runs(minute)
            )
        out.write("# EOF\n")
    subprocess.run(
        [
            program,
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            "--max-block-duration=1000h",
            str(file),
            str(folder / "data"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with run_prometheus(folder, {"scrape_configs": []}, "--storage.tsdb.retention.time=100y") as address:
        yield address
