"""A flow in a process of its own that is killed, or held up, when it comes to a point of its code. Run by fix_flow_child.py; what to do comes by stdin, as JSON.

A point is `MODULE:NAME:before` or `MODULE:NAME:after` a call of a function there, or `phase:NAME`, the beginning of a phase of a restore.
"""

import functools
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from core.restore_record import PhaseName


def main() -> None:
    """Do what stdin says; leave the flow's final state beside what is said there."""
    given = json.load(sys.stdin)
    folder = Path(given["folder"])

    def come_to_it() -> None:
        if given["how"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "reached").touch()
        while not (folder / "go").exists():
            time.sleep(0.05)

    _watch(given["point"], come_to_it)
    flow = getattr(importlib.import_module(f"flows.{given['flow']}"), given["flow"])
    if run_id := given.get("run_id"):
        # As a worker starts a run, and starts it again for a Retry.
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(run_id)
        state = run_flow(flow, flow_run=run, parameters=given["parameters"], return_type="state")
    else:
        state = flow(**given["parameters"], return_state=True)
    (folder / "state").write_text(json.dumps({"type": state.type.value, "message": state.message}))


def _watch(point: str, come_to_it: Callable[[], None]) -> None:
    if point.startswith("phase:"):
        _watch_phase(point.removeprefix("phase:"), come_to_it)
        return
    module, name, when = point.split(":")
    owner: Any = importlib.import_module(module)
    *classes, name = name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    seen = getattr(owner, name)

    @functools.wraps(seen)
    def watched(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            come_to_it()
        result = seen(*arguments, **named)
        if when == "after":
            come_to_it()
        return result

    setattr(owner, name, watched)


def _watch_phase(name: str, come_to_it: Callable[[], None]) -> None:
    from tasks import restore_backup

    class Watched(restore_backup._Phases):
        @contextmanager
        def __call__(self, phase: PhaseName) -> Iterator[None]:
            if phase == name:
                come_to_it()
            with super().__call__(phase):
                yield

    restore_backup._Phases = Watched  # type: ignore[misc]


if __name__ == "__main__":
    main()
