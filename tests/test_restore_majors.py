"""The whole sample database restored into every major that can take it, from both formats."""

import secrets
from contextlib import closing
from typing import Any

import pytest

from core.digest_comparison import differences
from core.digest_sql import PINNED_SETTINGS
from deployments.local.sample_database import BACKUP_ROLE, load_sample
from tasks.digests import digest_large_objects, digest_table
from tasks.postgres import connect, pin_session
from tasks.restore_backup import restore_backup
from tasks.restored_copy import drop_copy
from tests.fix_object_store import S3Server
from tests.fix_restore import databases, take

# Restores go into the same and newer majors; an older one is refused.
PAIRS = [(15, 15), (15, 16), (15, 18), (16, 16), (16, 18), (18, 18)]


@pytest.mark.services
@pytest.mark.parametrize("archive_jobs", [1, 2])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_whole_sample_comes_back(
    request: pytest.FixtureRequest, s3_server: S3Server, source: int, target: int, archive_jobs: int
) -> None:
    servers: list[Any] = [request.getfixturevalue(f"postgres_{major}") for major in (source, target)]
    name = f"majors_{secrets.token_hex(4)}"
    load_sample(
        servers[0].conninfo(), rows=60, backup_password="sample-password-1", database=name, portable=source != target
    )
    try:
        login = {"user": BACKUP_ROLE, "password": "sample-password-1", "jobs": archive_jobs}
        taken = take(servers[0], name, s3_server, f"majors-{secrets.token_hex(4)}", **login)
        with restore_backup(taken.order(servers[1], purpose="drill")) as copy:
            with closing(connect(copy.database, application_name="test")) as session:
                pin_session(session, PINNED_SETTINGS)
                session.execute("BEGIN")
                found = {table.oid: digest_table(session, table) for table in taken.manifest.tables}
                large_objects = digest_large_objects(session, digest=True)
            drop_copy(copy)
        assert differences(taken.manifest.tables, found) == ()
        assert large_objects == taken.manifest.large_objects
        assert copy.restored.skipped == ()
        assert databases(servers[1]) == set()
        taken.store.client.close()
    finally:
        servers[0].execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
