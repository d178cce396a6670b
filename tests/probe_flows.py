"""Flows that tests of the platform and of the command run through a real server: quick stand-ins that carry the nightly backup's name and parameters."""

import os
import signal
import subprocess
import sys
import time
from typing import Literal

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.states import Completed, State

from core.errors import PermanentError


@task(task_run_name="dump {database}")
def pretend_dump(database: str) -> None:
    """Show some progress."""
    artifact = create_progress_artifact(0.0, key=f"backup-{database}", description="starting")
    for percent in (40.0, 100.0):
        time.sleep(1.2)
        update_progress_artifact(artifact, progress=percent, description=f"{percent:.0f} MiB · table public.users")


@flow(name="nightly-backup")
def pretend_backup(
    environment: Literal["probe-well", "probe-fails", "probe-crashes", "probe-sleeps"],
    databases: list[str] = [],  # noqa: B006 - never changed
    retention: Literal["apply", "dry-run", "skip"] = "apply",
) -> State[None]:
    """Do what the environment's name says."""
    if environment == "probe-fails":
        raise PermanentError("back up every database", environment, "one of them did not answer", "Look at its log")
    if environment == "probe-crashes":
        os.kill(os.getpid(), signal.SIGKILL)
    if environment == "probe-sleeps":
        # As any program of the flow's might, in a session of its own.
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, check=False)
    pretend_dump("app")
    seen = ", ".join(sorted(name for name in os.environ if name.startswith(("PREFECT_HOME", "NIGHTSHIFT_LOCAL__"))))
    create_markdown_artifact("the report", key=f"nightly-backup-{environment}")
    return Completed(message=f"backed up {databases} with retention {retention}; variables: {seen}")
