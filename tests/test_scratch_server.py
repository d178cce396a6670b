"""A scratch server that is given: never one that nightshift backs up, by whatever address, and never one of which that cannot be told."""

from collections.abc import Callable

import pytest

from core.environment import Environment
from core.environment_database import Database
from core.environment_restore import RestoreServer
from core.errors import PermanentError, TemporaryError
from tasks.postgres import connect
from tasks.scratch import open_scratch
from tests.fix_postgres import PostgresServer
from tests.fix_scratch import manifest_of, scratch_environment
from tests.ports import free_port


def environment_of(server: PostgresServer, *sources: Database) -> Environment:
    login = server.database("postgres")
    return scratch_environment(
        databases={f"app-{number}": source for number, source in enumerate(sources)},
        servers={
            "drills": RestoreServer(host="localhost", port=login.port, user=login.user, password=login.password),
        },
        scratch="server",
        server="drills",
    )


def test_another_server_is_used_as_it_is(postgres_15: PostgresServer, postgres_16: PostgresServer) -> None:
    environment = environment_of(postgres_16, postgres_15.database("postgres"))
    with (
        open_scratch(environment, manifest_of(15), run_id="1", work_parent=None) as scratch,
        connect(scratch.login, application_name="test") as connection,
    ):
        row = connection.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone()
    assert row == (16,)
    assert (scratch.kind, scratch.indicative, scratch.settings) == ("server", False, {})
    assert "its owner's business" in scratch.notes[0]


def test_a_configured_source_is_refused_by_another_name_too(postgres_15: PostgresServer) -> None:
    # localhost is not 127.0.0.1 by name: only the system identifier tells.
    environment = environment_of(postgres_15, postgres_15.database("postgres"))
    with (
        pytest.raises(PermanentError, match="it is the server of database app-0"),
        open_scratch(environment, manifest_of(15), run_id="1", work_parent=None),
    ):
        pass


def test_the_backups_own_source_is_refused(postgres_15: PostgresServer, postgres_16: PostgresServer) -> None:
    with postgres_16.connect() as connection:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row is not None
    environment = environment_of(postgres_16, postgres_15.database("postgres"))
    with (
        pytest.raises(PermanentError, match="it is the source of backup"),
        open_scratch(environment, manifest_of(15, system_identifier=row[0]), run_id="1", work_parent=None),
    ):
        pass


def test_a_manifest_that_does_not_tell_is_refused(postgres_15: PostgresServer, postgres_16: PostgresServer) -> None:
    environment = environment_of(postgres_16, postgres_15.database("postgres"))
    with (
        pytest.raises(PermanentError, match=r"cannot tell whether it is the source of backup.*GRANT EXECUTE"),
        open_scratch(environment, manifest_of(15, system_identifier="unknown"), run_id="1", work_parent=None),
    ):
        pass


def test_a_source_that_does_not_tell_is_refused(
    postgres_15: PostgresServer, postgres_16: PostgresServer, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    name, password = fresh_role(postgres_15)
    postgres_15.execute("postgres", "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    try:
        source = postgres_15.database("postgres", user=name, password=password)
        environment = environment_of(postgres_16, source)
        with (
            pytest.raises(PermanentError, match=f"cannot tell whether it is the server of database app-0.*TO {name}"),
            open_scratch(environment, manifest_of(15), run_id="1", work_parent=None),
        ):
            pass
    finally:
        postgres_15.execute("postgres", "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")


def test_a_source_that_does_not_answer_is_a_reason_to_try_again(postgres_16: PostgresServer) -> None:
    silent = Database(host="127.0.0.1", port=free_port(), name="app", user="backup")
    with (
        pytest.raises(TemporaryError, match="cannot tell which server the server of database app-0 is"),
        open_scratch(environment_of(postgres_16, silent), manifest_of(15), run_id="1", work_parent=None),
    ):
        pass
