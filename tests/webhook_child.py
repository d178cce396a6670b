"""The receiver with a stand-in for Prefect, as a process that can be killed: `python -m tests.webhook_child FOLDER PORT [RATE [PROXY…]]`.

The stand-in keeps what Prefect's server keeps: of one key one run. Each run's key is a line of FOLDER/made, what it was given one of FOLDER/given;
while FOLDER/away is there, the server is away.
"""

import json
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import deployments.webhook.server
from core.errors import TemporaryError
from core.webhook_mapping import Start
from core.webhook_report import Told, told_of
from deployments.command.endings import unwinding_signals
from deployments.webhook.reporter import Reporter
from deployments.webhook.server import Service


class FileRuns:
    """See deployments.webhook.prefect_runs.Runs."""

    def __init__(self, folder: Path) -> None:
        self._made, self._away, self._told = folder / "made", folder / "away", folder / "told"
        self._known = set(self._made.read_text().splitlines()) if self._made.exists() else set()

    def make(self, start: Start) -> str:
        """A line, once for each key."""
        if self._away.exists():
            raise TemporaryError("reach the Prefect server", "the stand-in", "it is away")
        if start.key not in self._known:
            with self._made.open("a") as file:
                file.write(f"{start.key}\n")
                file.flush()
                os.fsync(file.fileno())
            given = {"flow": start.flow, "environment": start.environment, "parameters": dict(start.parameters)}
            with (self._made.parent / "given").open("a") as file:
                file.write(f"{json.dumps(given)}\n")
            self._known.add(start.key)
        return str(uuid.uuid5(uuid.NAMESPACE_URL, start.key))

    def ask(self) -> None:
        """It is there unless FOLDER/away says otherwise."""
        if self._away.exists():
            raise TemporaryError("reach the Prefect server", "the stand-in", "it is away")

    def look(self, runs: Sequence[tuple[str, Start]]) -> dict[str, Told]:
        """All go on, or are what FOLDER/told says: a state as Prefect tells it, its name, and its message."""
        told = Told("in_progress", "running")
        if self._told.exists():
            told = told_of(*self._told.read_text().split("\n"))
        return {run_id: told for run_id, _ in runs}

    def page(self, start: Start, run_id: str) -> str:
        """A page that is not there."""
        return f"http://ui.invalid/runs/flow-run/{run_id}?{start.flow}"


def main() -> None:
    """Serve until SIGTERM."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    # A minute is long for a test.
    deployments.webhook.server.SETTINGS_SECONDS = 0.2
    Reporter.__init__.__kwdefaults__["round_seconds"] = 0.3
    rate = int(sys.argv[3]) if len(sys.argv) > 3 else 100_000
    service = Service((), folder / "inbox", audit="", a_minute=rate, runs=FileRuns(folder))
    with unwinding_signals():
        service.serve("127.0.0.1", port, sys.argv[4:])


if __name__ == "__main__":
    main()
