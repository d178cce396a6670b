"""Flows in processes of their own, killed or held up at a point of their code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fix_nightly import Night
from tests.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parent.parent
SECONDS = 120


@dataclass
class FlowChild:
    """A process in which a flow of the environment `night` runs. Its folder is not the environment's."""

    process: subprocess.Popen[bytes]
    folder: Path

    def wait_for_point(self) -> None:
        """Wait until it is held up."""
        wait_until(
            lambda: (self.folder / "reached").exists() or self.process.poll() is not None, "point", seconds=SECONDS
        )
        assert self.process.poll() is None, self.log

    def go_on(self) -> tuple[str, str]:
        """Let it go on to its end; return the type of the flow's final state and its message."""
        (self.folder / "go").touch()
        assert self.process.wait(SECONDS) == 0, self.log
        state = json.loads((self.folder / "state").read_text())
        return state["type"], state["message"]

    def wait_for_kill(self) -> None:
        """Wait until it was killed at its point."""
        assert self.process.wait(SECONDS) == -signal.SIGKILL, self.log

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()[-3000:]


def processes_in(folder: Path) -> set[str]:
    """The programs that run with a path below this folder on their command line."""
    found = set()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            line = (process / "cmdline").read_bytes().decode(errors="replace")
            if process.name.isdigit() and str(folder) in line and int(process.name) != os.getpid():
                found.add(line.split("\0")[0])
    return found


StartFlow = Callable[..., FlowChild]


@pytest.fixture
def start_flow(night: Night, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartFlow]:
    """A factory: given a flow's name, a point, and `kill` or `hold`, start it in a process of its own with further parameters.

    `run_id`: an existing run, as a worker starts it.
    """
    children: list[FlowChild] = []

    def start(flow: str, point: str, how: str, run_id: str = "", **parameters: Any) -> FlowChild:
        night.write()
        folder = tmp_path_factory.mktemp("flow")
        given = {"folder": str(folder), "flow": flow, "point": point, "how": how, "run_id": run_id}
        settings = {
            "PREFECT_API_URL": prefect_server,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PYTHONPATH": str(CHECKOUT),
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.flow_child"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                env={**os.environ, **settings},
            )
        assert process.stdin is not None
        process.stdin.write(json.dumps({**given, "parameters": {"environment": "night", **parameters}}).encode())
        process.stdin.close()
        children.append(FlowChild(process, folder))
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        child.process.wait(20)
