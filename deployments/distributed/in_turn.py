"""`python -m deployments.distributed.in_turn COMMAND…`: run a command that no two may run at once on Prefect's database.

Pods that begin together all bring the database to the form that their image wants, and `prefect server database upgrade` takes no lock of its own
(Prefect 3.8.8, server/database/_migrations/env.py): of two, one was seen to fail in the middle. Who has to wait finds the work done.
"""

import asyncio
import subprocess
import sys
from collections.abc import Sequence

from prefect.server.database import provide_database_interface
from sqlalchemy import text

# PostgreSQL's manual, 13.3.5 Advisory Locks: a number that means something to those who agree on it. It is let go of with the session, however that ends.
LOCK = int.from_bytes(b"nightshf", "big")
_WAIT_SECONDS = 1


async def run_in_turn(command: Sequence[str]) -> int:
    """Given a command, run it while nobody else does; return its exit code. Prefect's settings name the database, SQLite needs no turn."""
    engine = await provide_database_interface().engine()
    if engine.dialect.name != "postgresql":
        return await _run(command)
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        # Asked for again and again: Prefect's connections end a statement that lasts (PREFECT_SERVER_DATABASE_TIMEOUT).
        while not (await connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK})).scalar_one():
            await asyncio.sleep(_WAIT_SECONDS)
        return await _run(command)


async def _run(command: Sequence[str]) -> int:
    # In a thread, so that the connection above is kept alive meanwhile.
    done = await asyncio.to_thread(subprocess.run, command, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(asyncio.run(run_in_turn(sys.argv[1:])))
