"""The metrics as prometheus_client takes them, and the rule by which a process that is scraped reads the bucket: at most once a minute, never twice at once."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from core.errors import NightshiftError
from core.own_metrics import EnvironmentFacts, Unread, families

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 60
# Prometheus gives up a scrape after ten seconds, and then knows nothing of the environments that did answer.
PATIENCE_SECONDS = 7
# While a slow bucket is read anew, what was read before is told for so long; when it was read stands beside it.
KEPT_SECONDS = 300

Found = EnvironmentFacts | Unread


class OwnMetrics(Collector):
    """Collects what `look` finds."""

    def __init__(self, look: Callable[[], Iterable[Found]]) -> None:
        self._look = look

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Each metric that has a sample."""
        for family in families(self._look(), version("nightshift"), datetime.now(UTC)):
            gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for labels, value in family.samples:
                gauge.add_metric(labels, value)
            if family.samples:
                yield gauge

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: to register is not to read."""
        return ()


def registry_of(look: Callable[[], Iterable[Found]]) -> CollectorRegistry:
    """A registry with nightshift's metrics and nothing else."""
    registry = CollectorRegistry()
    registry.register(OwnMetrics(look))
    return registry


class Refreshed:
    """One environment, read when somebody asks and a minute has passed, by a thread of its own that a slow bucket may keep for as long as it likes."""

    def __init__(
        self, name: str, read: Callable[[], EnvironmentFacts], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Given its name and what reads it, prepare; nothing is read before somebody asks."""
        self.name, self._read, self._clock = name, read, clock
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._running = False
        self._found: Found = Unread(name)
        self._ended = float("-inf")

    def begin(self) -> None:
        """Read it, unless it is being read, or was within the last minute."""
        with self._lock:
            if self._running or self._clock() - self._ended < REFRESH_SECONDS:
                return
            self._running = True
            self._done.clear()
        # A daemon: a bucket that does not answer must not keep the process from ending.
        threading.Thread(target=self._refresh, name=f"read {self.name}", daemon=True).start()

    def found(self, patience: float) -> Found:
        """What is known, after waiting so long (seconds) for what is being read. A look that failed leaves nothing of the one before."""
        self._done.wait(max(0.0, patience))
        with self._lock:
            stale = self._running and self._clock() - self._ended > KEPT_SECONDS
            return Unread(self.name) if stale else self._found

    def _refresh(self) -> None:
        found: Found = Unread(self.name)
        try:
            found = self._read()
        except NightshiftError as error:
            logger.warning("%s: %s", self.name, error)
        finally:
            with self._lock:
                self._found, self._ended, self._running = found, self._clock(), False
            self._done.set()


def look_at_all(environments: Sequence[Refreshed], patience: float = PATIENCE_SECONDS) -> list[Found]:
    """Read all of them side by side, and return what is known after so long (seconds)."""
    for one in environments:
        one.begin()
    deadline = time.monotonic() + patience
    return [one.found(deadline - time.monotonic()) for one in environments]
