"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable

# For how long a test waits for an answer of Prefect's server: one on SQLite may itself wait a minute for a lock (`PRAGMA busy_timeout`, its database/configurations.py).
PREFECT_SECONDS = 150.0


def wait_until(what: Callable[[], object], name: str, *, seconds: float = 60) -> None:
    """Wait until something is so; fail, naming it, when it does not come about."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {name}"
        time.sleep(0.05)
