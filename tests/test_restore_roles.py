"""The roles that a restore makes: gone again with the copy that they were made for, unless somebody else needs them; never another's."""

import secrets
from collections.abc import Callable, Iterator

import psycopg
import pytest

from core.errors import PermanentError
from tasks.restore_backup import restore_backup
from tasks.restore_locks import hold_locks
from tasks.restore_target import sweep_drills
from tasks.restored_copy import drop_copy
from tests.fix_postgres import PostgresServer
from tests.fix_restore import OWNER, READER, Taken, databases, roles_of

BOTH = {OWNER, READER}


@pytest.fixture
def server(postgres_18: PostgresServer) -> Iterator[PostgresServer]:
    """A server without the backup's roles, before and after."""
    assert roles_of(postgres_18) == set()
    yield postgres_18
    with postgres_18.connect() as session:
        for name in roles_of(postgres_18):
            quoted = psycopg.sql.Identifier(name)
            session.execute(psycopg.sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(quoted))


class _FailedError(Exception):
    """What ends a restore in these tests."""


def fail(taken: Taken, server: PostgresServer, during: Callable[[], object] = lambda: None, **more: object) -> None:
    """A restore that fails when all is restored and before anything is said of it."""
    with pytest.raises(_FailedError), restore_backup(taken.order(server, **more)) as copy:
        assert set(copy.restored.roles_created) == BOTH
        during()
        raise _FailedError
    assert databases(server) == set()


def test_a_restore_that_fails_takes_its_roles_with_it_and_one_that_ends_well_leaves_them(
    taken: Taken, server: PostgresServer, restored_names: Callable[..., str]
) -> None:
    fail(taken, server)
    assert roles_of(server) == set()
    name = restored_names(server)
    with restore_backup(taken.order(server, target=name)) as copy:
        copy.finish(name)
    assert roles_of(server) == BOTH
    server.execute("postgres", f'DROP DATABASE "{name}"')


def test_a_restore_that_fails_in_the_middle_takes_its_roles_with_it(taken: Taken, server: PostgresServer) -> None:
    def stop(phase: str) -> None:
        if phase == "analyze":
            raise _FailedError

    with pytest.raises(_FailedError), restore_backup(taken.order(server), on_phase=stop):
        pass
    assert (roles_of(server), databases(server)) == (set(), set())


def test_a_role_that_something_depends_on_by_now_stays(
    taken: Taken, server: PostgresServer, fresh_database: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    other = fresh_database(server)
    fail(taken, server, lambda: server.execute(other, f"CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO {OWNER}"))
    assert roles_of(server) == {OWNER}
    assert f"since something else may need them: {OWNER}" in caplog.text
    server.execute(other, "DROP TABLE theirs")


def test_a_role_that_somebody_was_made_a_member_of_meanwhile_stays(
    taken: Taken, server: PostgresServer, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    theirs, _ = fresh_role(server)
    fail(taken, server, lambda: server.execute("postgres", f"GRANT {OWNER} TO {theirs}"))
    assert roles_of(server) == {OWNER}


def test_while_another_restore_works_its_neighbour_takes_no_role_away(taken: Taken, server: PostgresServer) -> None:
    with pytest.raises(_FailedError), restore_backup(taken.order(server)) as first:
        with restore_backup(taken.order(server)) as second:
            assert second.restored.roles_created == ()
            drop_copy(first)
            # The second restore counts on them.
            assert roles_of(server) == BOTH
        raise _FailedError
    # Nobody made them any more, as far as the second knows: they stay, as those of a server do.
    drop_copy(second)
    assert roles_of(server) == BOTH


def test_a_restoring_role_that_may_not_act_for_an_owner_leaves_no_role(
    taken: Taken, server: PostgresServer, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    user, password = fresh_role(server, "CREATEDB CREATEROLE")
    login = server.database("postgres", user=user, password=password)
    owned = taken.manifest.tables[0].model_copy(update={"owner": "postgres"})
    manifest = taken.manifest.model_copy(update={"tables": (owned, *taken.manifest.tables[1:])})
    with (
        pytest.raises(PermanentError, match="no member of: postgres"),
        restore_backup(taken.order(server, login=login, manifest=manifest)),
    ):
        pass
    assert roles_of(server) == set()


def test_a_sweep_takes_the_roles_of_killed_drills_of_its_environment_and_no_others(
    taken: Taken, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    login, restore_id = server.database("postgres"), secrets.token_hex(4)
    # As a process that is killed: nothing is removed.
    monkeypatch.setattr("tasks.restored_copy.drop_new", lambda *_arguments: None)
    fail_without_a_trace(taken, server, purpose="drill", restore_id=restore_id)
    assert roles_of(server) == BOTH
    server.execute("postgres", f"DROP DATABASE nightshift_{restore_id}")
    assert sweep_drills(login, "another environment") == ()
    with hold_locks(login, restore_id, None):
        assert sweep_drills(login, "local") == ()
    assert roles_of(server) == BOTH
    assert set(sweep_drills(login, "local")) == {f"role {name}" for name in BOTH}
    assert roles_of(server) == set()
    # Those of a restore are for good, and have no mark.
    restore_id = secrets.token_hex(4)
    fail_without_a_trace(taken, server, purpose="restore", restore_id=restore_id)
    server.execute("postgres", f"DROP DATABASE nightshift_{restore_id}")
    assert sweep_drills(login, "local") == ()
    assert roles_of(server) == BOTH


def fail_without_a_trace(taken: Taken, server: PostgresServer, **more: object) -> None:
    """A restore that fails, its removal switched off by the test."""
    with pytest.raises(_FailedError), restore_backup(taken.order(server, **more)):
        raise _FailedError
