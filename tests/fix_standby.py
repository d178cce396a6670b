"""A hot standby of a real server."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import PostgresServer, as_user, end_server
from tests.ports import free_port


@pytest.fixture
def standby(postgres_18: PostgresServer, fresh_database: Callable[..., str]) -> Iterator[tuple[PostgresServer, str]]:
    """A hot standby of the server of major 18, and the name of a database that it has too."""
    name = fresh_database(
        postgres_18,
        "CREATE TABLE t AS SELECT g AS a, 'v' || g AS v FROM generate_series(1, 100) AS g",
        "CREATE UNLOGGED TABLE loose AS SELECT 1 AS a",
        "CREATE UNLOGGED SEQUENCE loose_counter",
        "CREATE TABLE counted (id int GENERATED ALWAYS AS IDENTITY)",
        "INSERT INTO counted DEFAULT VALUES",
        "SELECT lo_from_bytea(0, 'large')",
    )
    folder = Path(tempfile.mkdtemp(prefix="nightshift-standby-"))
    if postgres_18.os_user is not None:
        shutil.chown(folder, postgres_18.os_user)
    folder.chmod(0o755)
    copy = subprocess.run(
        [postgres_18.bin / "pg_basebackup", "-D", folder / "data", "-R", "-X", "stream", "-c", "fast"],
        env=postgres_18.environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **as_user(postgres_18.os_user),
    )
    assert copy.returncode == 0, copy.stderr
    server = PostgresServer(18, postgres_18.bin, folder, free_port(), postgres_18.password, postgres_18.os_user)
    try:
        server.start()
        yield server, name
    finally:
        end_server(server)
