"""A restore's process that is killed at a phase, below the flow: run again with the same id it drops its own leftover and begins anew."""

import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.restore_backup import restore_backup
from tasks.restored_copy import drop_copy
from tests.fix_postgres import PostgresServer
from tests.fix_restore import Taken, databases

# A process of its own for each: make test-services.
pytestmark = pytest.mark.services

_KILLED = """
import os, sys, signal, pickle
import tests.conftest
from tasks.restore_backup import restore_backup
from tasks.restored_copy import RestoreOrder
from tasks.object_store import ObjectStore
from core.environment import Environment
from core.environment_database import Database
from core.manifest import Manifest
import json
given = json.load(sys.stdin)
environment = Environment.model_validate(given["environment"])
order = RestoreOrder(ObjectStore.open(environment), environment, Manifest.model_validate(given["manifest"]), Database.model_validate(given["login"]),
    "pg16", given["restore_id"], given["purpose"], spool_reserve_bytes=0)
def at(phase):
    if phase == given["phase"]:
        os.kill(os.getpid(), signal.SIGKILL)
with restore_backup(order, on_phase=at):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_at(taken: Taken, server: PostgresServer, phase: str, restore_id: str, purpose: str = "restore") -> None:
    """Run a restore in a process of its own, which is killed when a phase begins."""
    given = {
        "environment": taken.environment.model_dump(mode="json"),
        "manifest": taken.manifest.model_dump(mode="json"),
        "login": server.database("postgres").model_dump(mode="json"),
        "restore_id": restore_id,
        "purpose": purpose,
        "phase": phase,
    }
    done = subprocess.run(
        [sys.executable, "-c", _KILLED],
        input=json.dumps(given),
        text=True,
        capture_output=True,
        check=False,
        cwd=Path(__file__).parent.parent,
        env=dict(os.environ),
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("phase", ["create", "restore", "analyze", "yield"])
def test_killed_and_run_again_it_drops_its_own_leftover_and_begins_anew(
    taken: Taken, postgres_16: PostgresServer, phase: str
) -> None:
    restore_id = secrets.token_hex(4)
    kill_at(taken, postgres_16, phase, restore_id)
    left = databases(postgres_16)
    assert left == (set() if phase == "create" else {f"nightshift_{restore_id}"})
    with restore_backup(taken.order(postgres_16, restore_id=restore_id)) as copy:
        drop_copy(copy)
    told = any("left by an earlier attempt of this restore, was dropped" in note for note in copy.restored.notes)
    assert told == bool(left)
