"""The progress that a person sees: one Prefect progress artifact a database, updated every three seconds while the dump runs.

Progress is for the eye: when the server does not answer, the backup goes on and says so once in the log.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from core.units import human_bytes

_EVERY_SECONDS = 3.0
# The size of a dump is only estimated beforehand; 100 % is said when it is finished, not when the estimate is reached.
_CEILING_PERCENT = 99.0


@dataclass
class Progress:
    """What the working threads report. Attributes are written by them and read by the reporting thread; each is one value, so no lock is needed."""

    estimated_bytes: int = 0
    plain_bytes: int = 0
    stored_bytes: int = 0
    digest_table: str = ""
    dump_table: Callable[[], str] = field(default=lambda: "")

    def on_bytes(self, plain: int, stored: int) -> None:
        """Called by the stream with its totals so far, in bytes."""
        self.plain_bytes, self.stored_bytes = plain, stored

    def on_digest(self, table: str) -> None:
        """Called when a table's digest begins."""
        self.digest_table = table

    def percent(self) -> float:
        """How far the stream is, against the estimate; at most 99."""
        if self.estimated_bytes <= 0:
            return 0.0
        return min(_CEILING_PERCENT, 100.0 * self.plain_bytes / self.estimated_bytes)

    def sentence(self, rate_bytes: float) -> str:
        """One line for people: bytes, rate (bytes a second), the tables at work."""
        parts = [
            f"{human_bytes(self.plain_bytes)} read at {human_bytes(rate_bytes)}/s, {human_bytes(self.stored_bytes)} stored"
        ]
        if table := self.dump_table():
            parts.append(f"dumping {table}")
        if self.digest_table:
            parts.append(f"digest of {self.digest_table}")
        return " · ".join(parts)


@contextmanager
def shown_progress(
    key: str, progress: Progress, logger: "logging.Logger | logging.LoggerAdapter[Any]"
) -> Iterator[None]:
    """Given an artifact key (`[a-z0-9-]`), show progress as an artifact of the current task run until the block ends; 100 % only when it ends well."""
    reporter = _Reporter(key, progress, logger)
    reporter.tell(0.0, "starting")
    stop = threading.Event()

    def report() -> None:
        last_bytes, last_time = 0, time.monotonic()
        while not stop.wait(_EVERY_SECONDS):
            now = time.monotonic()
            rate = (progress.plain_bytes - last_bytes) / max(now - last_time, 0.001)
            last_bytes, last_time = progress.plain_bytes, now
            reporter.tell(progress.percent(), progress.sentence(max(rate, 0.0)))

    # Artifacts belong to a run by context variables, which a new thread does not inherit.
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(report,), name=f"progress {key}", daemon=True
    )
    started = time.monotonic()
    thread.start()
    try:
        yield
    except BaseException:
        stop.set()
        thread.join(timeout=10)
        reporter.tell(progress.percent(), "stopped: " + progress.sentence(0.0))
        raise
    stop.set()
    thread.join(timeout=10)
    reporter.tell(
        100.0, "finished: " + progress.sentence(progress.plain_bytes / max(time.monotonic() - started, 0.001))
    )


class _Reporter:
    def __init__(self, key: str, progress: Progress, logger: "logging.Logger | logging.LoggerAdapter[Any]") -> None:
        self._key, self._progress, self._logger = key, progress, logger
        self._artifact: UUID | None = None
        self._told_failure = False

    def tell(self, percent: float, sentence: str) -> None:
        try:
            if self._artifact is None:
                self._artifact = cast("UUID", create_progress_artifact(percent, key=self._key, description=sentence))
            else:
                update_progress_artifact(self._artifact, progress=percent, description=sentence)
        except (httpx.HTTPError, PrefectException) as error:
            if not self._told_failure:
                self._logger.warning("progress cannot be shown (%s); the work goes on", type(error).__name__)
                self._told_failure = True
