"""A Prometheus that remembers: made-up weeks of an application's requests, written into its database by promtool, so that a day after a release is there at once.

Every minute a sample. Before the release Pods of the old version, in the week's same day 7, 14, 21 and 28 days before; on its day Pods of the new one.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
        renamed: whether its counters are called otherwise on the new day.
        old_pods, new_pods: names of its Pods before the release, where {lag} becomes the days before, and after it; they share its requests.
    """

    job: str
    requests: Rate = lambda _minute: 60
    errors: Rate = lambda _minute: 0.3
    slow: Rate = lambda _minute: 0.6
    before: tuple[float, float, float] = (60, 0.3, 0.6)
    known: Callable[[int], bool] = lambda _minute: True
    renamed: bool = False
    old_pods: tuple[str, ...] = ("api-old{lag}-a",)
    new_pods: tuple[str, ...] = ("api-new-a",)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def record(self, random: np.random.Generator, released: datetime, every: int) -> None:
        """Write its samples down, by family of metrics."""
        for lag in sorted(LAG_DAYS, reverse=True):
            pods = [one.format(lag=lag) for one in self.old_pods]
            before = (lambda _minute, rate=one: rate for one in self.before)
            self._day(random, released - timedelta(days=lag), pods, every, *before)  # type: ignore[misc]
        self._day(random, released, self.new_pods, every, self.requests, self.errors, self.slow, new=True)

    def _day(
        self,
        random: np.random.Generator,
        begin: datetime,
        pods: Sequence[str],
        every: int,
        *rates: Rate,
        new: bool = False,
    ) -> None:
        totals = np.zeros((len(pods), 3))
        start = begin.timestamp()
        name = "requests" if new and self.renamed else "http_requests"
        # A Pod does not begin with the release, and clocks were changed between the days.
        for minute in range(-BESIDE, MINUTES + BESIDE, every):
            means = [max(0, every * rate(min(max(minute, 0), MINUTES - 1))) / len(pods) for rate in rates]
            made = random.poisson(means, size=totals.shape)
            # A slow request is one of these: no counter ever goes back.
            made[:, 0] = np.maximum(made[:, 0], made[:, 2])
            totals += made
            if new and not self.known(minute):
                continue
            for pod, counts in zip(pods, totals, strict=True):
                self._sample(name, pod, counts, int(start) + 60 * minute)

    def _sample(self, name: str, pod: str, counts: Any, at: int) -> None:
        count, errors, slow = counts
        labels = f'job="{self.job}",pod="{pod}",route="/x"'
        self._add(name, f'{name}_total{{{labels},status="200"}} {count:.0f} {at}')
        if errors:
            self._add(name, f'{name}_total{{{labels},status="500"}} {errors:.0f} {at}')
        buckets = "http_request_duration_seconds"
        self._add(buckets, f'{buckets}_bucket{{{labels},le="1.0"}} {count + errors - slow:.0f} {at}')
        self._add(buckets, f'{buckets}_bucket{{{labels},le="+Inf"}} {count + errors:.0f} {at}')

    def _add(self, family: str, line: str) -> None:
        self.lines.setdefault(family, []).append(line)


def no_outage(_minute: int) -> bool:
    """Prometheus runs all day."""
    return True


def record(
    folder: Path,
    applications: Sequence[Application],
    runs: Callable[[int], bool] = no_outage,
    *,
    released: datetime = RELEASED,
    every: int = 1,
) -> None:
    """Write what these applications did into a Prometheus' database below a folder.

    Args:
        runs: whether Prometheus ran itself in a minute of the new day.
        released: when the new day began.
        every: a sample each so many minutes.
    """
    program = shutil.which("promtool")
    if program is None:
        leave_out("no promtool")
    families: dict[str, list[str]] = {}
    for number, one in enumerate(applications):
        alone = one.known
        one.known = lambda minute, alone=alone: alone(minute) and runs(minute)  # type: ignore[misc]
        one.record(np.random.default_rng([7, number]), released, every)
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
            start = int((released - timedelta(days=lag)).timestamp())
            out.writelines(
                f'up{{job="itself"}} 1 {start + 60 * minute}\n'
                for minute in range(-BESIDE, MINUTES + BESIDE, every)
                if lag or runs(minute)
            )
        out.write("# EOF\n")
    written = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=1000h", file, folder / "data"]
    subprocess.run([program, *written], check=True, capture_output=True, timeout=300)


@contextmanager
def running(folder: Path, port: int = 0) -> Iterator[str]:
    """Run a Prometheus on what was recorded below a folder, and give its address. Port 0: any."""
    with run_prometheus(folder, {"scrape_configs": []}, "--storage.tsdb.retention.time=100y", port=port) as address:
        yield address


@contextmanager
def remembering(
    folder: Path, applications: list[Application], runs: Callable[[int], bool] = no_outage
) -> Iterator[str]:
    """Run a Prometheus that remembers these applications, and give its address."""
    record(folder, applications, runs)
    with running(folder) as address:
        yield address
