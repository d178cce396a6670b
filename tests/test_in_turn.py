"""What no two Pods may do at once on Prefect's database."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.distributed.in_turn import LOCK
from tests.fix_postgres import PostgresServer
from tests.waiting import wait_until

pytestmark = pytest.mark.services


def test_a_command_waits_until_nobody_else_is_at_it(postgres_16: PostgresServer, tmp_path: Path) -> None:
    made = tmp_path / "made"
    login = f"{postgres_16.superuser}:{postgres_16.password}"
    address = f"postgresql+asyncpg://{login}@127.0.0.1:{postgres_16.port}/postgres"
    environment = os.environ | {"PREFECT_API_DATABASE_CONNECTION_URL": address, "PREFECT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "deployments.distributed.in_turn", "sh", "-c", f"touch {made}; exit 3"]
    asks = (
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%%pg_try_advisory_lock%%'"
    )
    with postgres_16.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        child = subprocess.Popen(command, env=environment)
        try:
            wait_until(lambda: other.execute(asks, []).fetchone() == (1,), "it asks for its turn", seconds=90)
            assert not made.exists()
            other.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
            # The command's own exit code: Kubernetes begins a Pod's migration anew that failed.
            assert child.wait(60) == 3
        finally:
            child.kill()
    assert made.exists()
