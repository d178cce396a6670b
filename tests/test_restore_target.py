"""Who is who on the target server, which leftovers are whose, and the locks."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest

from core.database_statements import comment_on_database, marker_of, temporary_name
from core.digest_sql import quoted
from core.environment import Environment
from core.environment_restore import RestoreServer
from core.errors import ConfigurationError, PermanentError
from tasks.postgres import connect
from tasks.restore_locks import hold_locks
from tasks.restore_target import (
    Identity,
    drop_database,
    drop_own_leftover,
    identity_of,
    leftovers,
    login_of,
    refuse_sources,
    sweep_drills,
)
from tests.fix_postgres import PostgresServer
from tests.fix_restore import Taken, databases


@pytest.fixture
def begun(postgres_16: PostgresServer) -> Iterator[Callable[..., str]]:
    """A factory: given a purpose and an environment's name, return the restore id of a copy that nobody works on."""
    made = []

    def begin(purpose: str = "drill", environment: str = "local", *, marked: bool = True, table: bool = False) -> str:
        restore_id = secrets.token_hex(4)
        name = temporary_name(restore_id)
        made.append(name)
        postgres_16.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        if table:
            postgres_16.execute(name, "CREATE TABLE a (id int)")
        if marked:
            marker = marker_of(purpose, environment, restore_id, "b", datetime(2026, 1, 2, tzinfo=UTC))  # type: ignore[arg-type]
            postgres_16.execute("postgres", comment_on_database(name, marker.text))
        return restore_id

    yield begin
    for name in made:
        postgres_16.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_a_sweep_drops_what_dead_drills_of_its_own_environment_left_and_nothing_else(
    postgres_16: PostgresServer, begun: Callable[..., str]
) -> None:
    login = postgres_16.database("postgres")
    own, alive = begun(), begun()
    others = {begun("restore"), begun("drill", "production"), begun(marked=False)}
    with hold_locks(login, alive, None):
        assert sweep_drills(login, "local") == (f"database {temporary_name(own)}",)
        assert databases(postgres_16) == {temporary_name(one) for one in (*others, alive)}
        told = leftovers(login)
    assert {left.name for left in told} == {temporary_name(one) for one in others} & {left.name for left in told}
    assert len(told) == 2
    assert all(left.drop == f"DROP DATABASE {left.name} WITH (FORCE);" for left in told)
    assert sweep_drills(login, "local") == (f"database {temporary_name(alive)}",)


def test_a_comment_that_names_another_database_makes_none_a_leftover(
    postgres_16: PostgresServer, begun: Callable[..., str]
) -> None:
    restore_id = begun(marked=False)
    marker = marker_of("drill", "local", secrets.token_hex(4), "b", datetime(2026, 1, 2, tzinfo=UTC))
    postgres_16.execute("postgres", comment_on_database(temporary_name(restore_id), marker.text))
    assert sweep_drills(postgres_16.database("postgres"), "local") == ()
    assert temporary_name(restore_id) in databases(postgres_16)


def test_an_own_leftover_without_a_marker_is_dropped_only_when_it_is_empty(
    postgres_16: PostgresServer, begun: Callable[..., str]
) -> None:
    login = postgres_16.database("postgres")
    empty, filled = begun(marked=False), begun(marked=False, table=True)
    with closing(connect(login, application_name="test")) as session:
        assert drop_own_leftover(session, login, empty)
        assert not drop_own_leftover(session, login, empty)
        with pytest.raises(PermanentError, match="this restore did not make"):
            drop_own_leftover(session, login, filled)


def test_a_database_with_a_subscription_and_a_session_is_dropped(
    postgres_16: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    login = postgres_16.database("postgres")
    name = fresh_database(postgres_16)
    postgres_16.execute(
        name, "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)"
    )
    with postgres_16.connect(name) as session, closing(connect(login, application_name="test")) as maintenance:
        drop_database(maintenance, login, name)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        assert maintenance.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None


def test_the_same_restore_is_not_run_twice_at_once(
    postgres_16: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.restore_locks._OWN_LOCK_SECONDS", 0.2)
    login = postgres_16.database("postgres")
    with (
        hold_locks(login, "0a1b2c3d", None),
        pytest.raises(Exception, match="restore 0a1b2c3d is running already"),
        hold_locks(login, "0a1b2c3d", None),
    ):
        pass
    with hold_locks(login, "0a1b2c3d", "name"):
        pass


def test_a_source_is_known_by_its_cluster_and_oid_whatever_its_host_is_called(taken: Taken) -> None:
    alias = taken.server.database(taken.database, host="localhost")
    identity = identity_of(alias)
    assert identity.is_same(identity_of(taken.server.database(taken.database)))
    with pytest.raises(PermanentError, match=f"it is the source of the backup, {taken.database}"):
        refuse_sources(identity, alias, taken.environment, taken.manifest)
    server = taken.manifest.server.model_copy(update={"system_identifier": "1"})
    with pytest.raises(PermanentError, match=r"it is \[databases\.app\] of the environment"):
        refuse_sources(identity, alias, taken.environment, taken.manifest.model_copy(update={"server": server}))


def test_a_source_that_is_lost_is_a_note(taken: Taken) -> None:
    lost = taken.environment.databases["app"].model_copy(update={"port": 1})
    environment: Environment = taken.environment.model_copy(update={"databases": {"app": lost}})
    identity = identity_of(taken.server.database("postgres"))
    (note,) = refuse_sources(identity, taken.server.database("postgres"), environment, taken.manifest)
    assert "[databases.app] could not be compared" in note


def test_identities_that_are_not_known_are_never_the_same() -> None:
    unknown = Identity("unknown", 5, 160000)
    assert not unknown.is_same(unknown)
    assert not Identity("1", 5, 160000).is_same(Identity("2", 5, 160000))
    assert not Identity("1", 5, 160000).is_same(Identity("1", 6, 160000))


def test_a_pooler_s_port_is_no_servers() -> None:
    with pytest.raises(ConfigurationError, match="transaction pooler"):
        login_of(RestoreServer(host="h", port=6543, user="u"), "postgres")
    login = login_of(RestoreServer(host="h", user="u", password="env:P", sslmode="require"), quoted("d"))
    assert (login.host, login.port, login.name, login.user, login.sslmode) == ("h", 5432, '"d"', "u", "require")
