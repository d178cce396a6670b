"""The health of PostgreSQL and Redis: what a look finds on real servers and on ill ones, and what is told of it over a day."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.canonical import canonical_bytes
from core.environment_watch_health import WatchHealth
from core.watch_health import HealthLook, HealthSeen, ServerLook, health_after, health_findings, servers_away
from tasks.watch_health import look_at_health
from tests.fix_postgres import PostgresServer
from tests.fix_raw_server import RawServer, dripping
from tests.fix_redis import RedisServer
from tests.waiting import wait_until

APP = ServerLook(name="database app", state="well", connections=10, connections_max=100, idle_in_transaction_seconds=0, statement_seconds=0)  # fmt: skip
AWAY = ServerLook(name="database app", state="away", why="connection refused")


def after(*servers: ServerLook) -> HealthSeen:
    seen = None
    for bucket, one in enumerate(servers):
        seen = health_after(seen, HealthLook(servers=(one,)), bucket=bucket)
    assert seen is not None
    return seen


def told(seen: HealthSeen) -> list[str]:
    return [f"{one.severity}: {one.text}" for one in health_findings(seen)]


def look(*databases: Any, redis_url: str | None = None, seconds: float = 10.0, **more: Any) -> HealthLook:
    named = {f"db{number}": one for number, one in enumerate(databases)}
    watched = WatchHealth(databases=bool(databases), redis_url=redis_url, **more)
    return look_at_health(SimpleNamespace(databases=named), watched, seconds=seconds)  # type: ignore[arg-type]


def test_a_database_that_is_well_is_not_told_of() -> None:
    assert told(after(APP, APP)) == []


def test_one_look_at_a_server_that_is_away_is_told_while_it_is_and_then_noted() -> None:
    (said,) = told(after(APP, AWAY))
    assert said.startswith("warning: database app did not answer or let nobody in, in 1 of 2 looks: first in bucket 1,")
    assert said.endswith(" 0:10 h after the release, last in bucket 1: connection refused")
    assert told(after(APP, AWAY, APP))[0].startswith("note: ")
    assert told(after(APP, AWAY, AWAY, APP))[0].startswith(
        "warning: database app did not answer or let nobody in, in 2 of 4"
    )


def test_who_is_away_now_is_a_cause_outside_and_who_refuses_is_none() -> None:
    assert servers_away(after(APP, AWAY), bucket=1) == ("database app",)
    assert servers_away(after(APP, AWAY), bucket=2) == ()
    assert servers_away(after(AWAY, APP), bucket=1) == ()
    assert servers_away(after(APP, AWAY.model_copy(update={"state": "refused"})), bucket=1) == ()
    assert servers_away(None, bucket=0) == ()


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"connections": 80}, "up to 80 percent of its connections (told from 80)"),
        ({"idle_in_transaction_seconds": 60}, "up to 60 seconds in an idle transaction (told from 60)"),
        ({"statement_seconds": 300}, "up to 300 seconds for a statement (told from 300)"),
        ({"replication_lag_seconds": 61}, "up to 61 seconds of replication lag (told from 60)"),
    ],
)
def test_a_figure_past_its_limit_is_noted_once_and_warned_of_from_the_second_look_on(
    figures: dict[str, int], words: str
) -> None:
    ill = APP.model_copy(update=figures)
    below = APP.model_copy(update={name: value - 2 for name, value in figures.items()})
    assert told(after(below, below)) == []
    assert told(after(APP, ill))[0].startswith(f"note: database app: {words}, in 1 of 2 looks")
    assert told(after(APP, ill, APP, ill))[0].startswith(
        f"warning: database app: {words}, in 2 of 4 looks since bucket 1,"
    )


def test_counters_count_from_the_first_look_on_and_go_on_after_a_reset() -> None:
    def counted(value: int) -> ServerLook:
        return APP.model_copy(update={"counters": {"deadlocks": value}})

    assert told(after(counted(7), counted(7))) == []
    assert told(after(counted(7), counted(9), counted(1))) == [
        "warning: database app: 3 deadlocks since the watch began"
    ]


def test_what_nobody_could_tell_is_said_to_be_unknown() -> None:
    blind = APP.model_copy(update={"idle_in_transaction_seconds": None, "statement_seconds": None})
    assert told(after(blind)) == [
        "note: database app: not known, which is not 0: seconds for a statement, seconds in an idle transaction"
    ]


def test_without_a_bound_redis_is_never_full_and_with_an_unknown_one_nobody_knows() -> None:
    store = ServerLook(name="Redis", state="well", kind="redis", connections=1, connections_max=9, memory_bytes=5)
    assert told(after(store.model_copy(update={"memory_max_bytes": 0}))) == []
    assert told(after(store)) == ["note: Redis: not known, which is not 0: percent of its memory"]


def test_a_server_that_began_anew_and_a_replica_that_is_cut_off_are_told() -> None:
    first, second = (APP.model_copy(update={"epoch": one, "cut_off": True}) for one in "ab")
    assert told(after(first, first, second)) == [
        "warning: database app began anew 1 times since the watch began",
        "warning: database app is a replica and received nothing from its primary, in 3 looks since bucket 0, 0:05 h after the release",
    ]


looks = st.builds(
    ServerLook,
    name=st.sampled_from(["database a", "Redis", *(f"database {n}" for n in range(30))]),
    state=st.sampled_from(["well", "away", "refused"]),
    kind=st.sampled_from(["postgresql", "redis"]),
    why=st.text(max_size=300),
    connections=st.none() | st.integers(0, 10**6),
    connections_max=st.none() | st.integers(0, 10**6),
    memory_bytes=st.none() | st.integers(0, 10**12),
    memory_max_bytes=st.none() | st.integers(0, 10**12),
    statement_seconds=st.none() | st.integers(0, 10**6),
    counters=st.dictionaries(st.sampled_from(["deadlocks", "evicted keys"]), st.integers(0, 10**9)),
    epoch=st.sampled_from(["", "a", "b"]),
)


@given(st.lists(st.lists(looks, max_size=3), min_size=1, max_size=8))
@settings(max_examples=15)
def test_whatever_is_found_it_is_bounded_and_the_same_look_twice_changes_nothing(days: list[list[ServerLook]]) -> None:
    seen = None
    for bucket, servers in enumerate(days):
        seen = health_after(seen, HealthLook(servers=tuple(servers)), bucket=bucket)
    assert seen is not None
    assert health_after(seen, HealthLook(servers=tuple(days[-1])), bucket=seen.bucket) == seen
    assert health_after(seen, HealthLook(), bucket=seen.bucket - 1) == seen
    assert len(canonical_bytes(seen.model_dump(mode="json"))) <= 20_000
    assert HealthSeen.model_validate_json(seen.model_dump_json()) == seen
    assert len(health_findings(seen)) <= 20
    assert all(one.severity in {"note", "warning"} and len(one.text) < 500 for one in health_findings(seen))


# PostgreSQL itself


def test_a_real_servers_figures_are_found_and_our_own_sessions_are_none_of_them(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(postgres_18)
    with (
        postgres_18.connect(name, autocommit=False) as ours,
        postgres_18.connect(name, autocommit=False) as idle,
        postgres_18.connect(name) as busy,
    ):
        ours.execute("SET application_name = 'nightshift dump'")
        time.sleep(2.1)
        begun = time.monotonic()
        idle.execute("SELECT 1")
        running = threading.Thread(target=_sleeping, args=(busy,))
        running.start()
        with postgres_18.connect() as beside:
            asked = "SELECT state FROM pg_stat_activity WHERE pid = %s"
            wait_until(lambda: beside.execute(asked, [busy.info.backend_pid]).fetchone() == ("active",), "it runs")
        time.sleep(1.1)
        (found,) = look(postgres_18.database(name)).servers
        passed = time.monotonic() - begun
        busy.cancel_safe()
        running.join()
    assert (found.state, found.why, found.connections_max) == ("well", "", 60)
    assert found.connections is not None
    assert found.connections >= 4
    assert found.idle_in_transaction_seconds is not None
    assert found.statement_seconds is not None
    # Ours began two seconds earlier; a busy machine may be longer at it.
    assert 1 <= found.idle_in_transaction_seconds <= passed
    assert 1 <= found.statement_seconds <= passed
    assert (found.replication_lag_seconds, found.cut_off, found.counters) == (None, False, {"deadlocks": 0})
    assert found.epoch


def _sleeping(session: psycopg.Connection[Any]) -> None:
    """Run a statement until it is cancelled."""
    with suppress(psycopg.errors.QueryCanceled):
        session.execute("SELECT pg_sleep(600)")


def test_to_a_plain_role_the_times_of_others_are_unknown(
    postgres_18: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(postgres_18)
    (found,) = look(postgres_18.database(fresh_database(postgres_18), user=role, password=password)).servers
    assert (found.state, found.statement_seconds, found.idle_in_transaction_seconds) == ("well", None, None)
    assert found.connections is not None
    postgres_18.execute("postgres", f"GRANT pg_monitor TO {role}")
    (found,) = look(postgres_18.database("postgres", user=role, password=password)).servers
    assert (found.statement_seconds, found.idle_in_transaction_seconds) == (0, 0)


@pytest.mark.parametrize(
    ("change", "state", "why"),
    [
        ({"port": 1}, "away", "refused"),
        ({"host": "no-such-host.invalid"}, "away", ""),
        ({"user": "nobody_here"}, "refused", "authentication failed"),
        ({"name": "no_such_database"}, "refused", "does not exist"),
    ],
)
def test_who_is_away_is_told_from_who_refuses(
    postgres_18: PostgresServer, change: dict[str, Any], state: str, why: str
) -> None:
    database = postgres_18.database("postgres").model_copy(update=change)
    (found,) = look(database).servers
    assert (found.state, why in found.why) == (state, True), found.why


def test_a_server_whose_connections_are_all_taken_refuses(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(postgres_18)
    postgres_18.execute("postgres", f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    role = "limited_role"
    postgres_18.execute("postgres", f"CREATE ROLE {role} LOGIN PASSWORD 'pw-of-limited'")
    try:
        (found,) = look(postgres_18.database(name, user=role, password="pw-of-limited")).servers
    finally:
        postgres_18.execute("postgres", f"DROP ROLE {role}")
    assert (found.state, "too many connections" in found.why) == ("refused", True), found.why


def test_a_password_that_cannot_be_had_is_no_server_that_is_away(postgres_18: PostgresServer) -> None:
    found = look(postgres_18.database("postgres").model_copy(update={"password": "env:NIGHTSHIFT_NO_SUCH"}))
    assert found.servers == ()
    assert "database db0: could not resolve a secret" in " ".join(found.unread)
    assert any("not looked at: database db0" in one for one in told(health_after(None, found, bucket=0)))


@pytest.mark.services
def test_a_replica_is_told_by_its_lag(
    standby: tuple[PostgresServer, str], monkeypatch: pytest.MonkeyPatch, postgres_18: PostgresServer
) -> None:
    server, name = standby
    monkeypatch.setenv(server.password_variable, server.password)
    (found,) = look(server.database(name)).servers
    assert (found.state, found.cut_off) == ("well", False)
    assert found.replication_lag_seconds is not None
    assert found.replication_lag_seconds < 30


RUBBISH: dict[str, Callable[[], Iterable[bytes | float]]] = {
    "nothing": lambda: (),
    "another protocol": lambda: (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
    "silence": lambda: (30.0,),
    "drops": lambda: dripping(b"+", b"x"),
    "an endless bulk": lambda: dripping(b"$999999999\r\n", b"x" * 1000, every=0.001),
    "no utf-8": lambda: (b"-ERR \xff\xfe\r\n",),
    "a list": lambda: (b"*2\r\n:1\r\n:2\r\n",),
    "deep": lambda: (b"*1\r\n" * 5000,),
    "no length": lambda: (b"$abc\r\n",),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_whatever_is_answered_a_server_is_found_ill_in_time(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, postgres_18: PostgresServer, kind: str
) -> None:
    raw_server.answers = lambda _asked: RUBBISH[kind]()
    monkeypatch.setenv("RUBBISH_REDIS", f"redis://:secret-of-redis@127.0.0.1:{raw_server.port}/0")
    database = postgres_18.database("postgres").model_copy(update={"port": raw_server.port, "host": "127.0.0.1"})
    began = time.monotonic()
    found = look(database, redis_url="env:RUBBISH_REDIS", seconds=0.5)
    assert time.monotonic() - began < 15
    assert [one.state in {"away", "refused"} for one in found.servers] == [True, True]
    assert "secret-of-redis" not in str(found)
    assert all(0 < len(one.why) <= 200 for one in found.servers)


# Redis, scripted


def info(**figures: Any) -> bytes:
    text = "# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in figures.items())
    return f"${len(text.encode())}\r\n{text}\r\n".encode()


@pytest.fixture
def scripted(raw_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ServerLook]]:
    monkeypatch.setenv("SCRIPTED_REDIS", f"redis://:p%40ss-of-redis@127.0.0.1:{raw_server.port}/0")
    raw_server.keep = True

    def looked(*, ping: bytes = b"+PONG\r\n", auth: bytes = b"+OK\r\n", **figures: Any) -> ServerLook:
        def answers(asked: bytes) -> list[bytes | float]:
            # A client may send several commands at once.
            return [
                {b"AUTH": auth, b"PING": ping, b"INFO": info(**figures)}.get(word.upper(), b"+OK\r\n")
                for word in asked.split(b"\r\n")
                if word.upper() in {b"AUTH", b"PING", b"INFO", b"CLIENT", b"SELECT"}
            ]

        raw_server.answers = answers
        (found,) = look(redis_url="env:SCRIPTED_REDIS").servers
        return found

    yield looked


def test_the_figures_of_redis_are_found_and_those_it_does_not_say_are_unknown(
    scripted: Callable[..., ServerLook],
) -> None:
    found = scripted(connected_clients=3, maxclients=10000, used_memory=950, maxmemory=1000, evicted_keys=4, rejected_connections=0, run_id="x")  # fmt: skip
    assert (found.state, found.kind, found.memory_bytes, found.memory_max_bytes) == ("well", "redis", 950, 1000)
    assert found.counters == {"evicted keys": 4, "rejected connections": 0}
    assert any(
        "up to 95 percent of its memory (told from 90), in 2 of 2 looks" in one for one in told(after(found, found))
    )
    little = scripted(used_memory="much", maxmemory=0)
    assert (little.memory_bytes, little.connections, little.counters) == (None, None, {})
    assert told(after(little)) == ["note: Redis: not known, which is not 0: percent of its connections"]


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ({"auth": b"-WRONGPASS invalid username-password pair\r\n"}, "refused"),
        ({"ping": b"-NOPERM no permission to run ping\r\n"}, "refused"),
        ({"ping": b"-LOADING Redis is loading the dataset in memory\r\n"}, "away"),
        ({"ping": b"-ERR max number of clients reached\r\n"}, "refused"),
    ],
)
def test_a_redis_that_refuses_is_told_from_one_that_is_away(
    scripted: Callable[..., ServerLook], answers: Any, state: str
) -> None:
    found = scripted(**answers)
    assert (found.state, "p@ss" in found.why) == (state, False), found.why


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "redis://u:secret-in-url@[::1", "nonsense", "redis://:p@h:port/x"]
)
def test_an_address_that_is_none_is_our_mistake_and_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BAD_REDIS", url)
    found = look(redis_url="env:BAD_REDIS")
    assert found.servers == ()
    assert "Redis: watch.health.redis_url is no address of Redis" in " ".join(found.unread)
    assert "secret-in-url" not in str(found)


def test_what_is_not_configured_is_not_looked_at_and_said_so() -> None:
    found = look()
    assert found.servers == ()
    assert told(health_after(None, found, bucket=0)) == [
        "note: not looked at: databases: watch.health.databases is false",
        "note: not looked at: Redis: watch.health.redis_url is empty",
    ]


# Redis itself


@pytest.mark.services
def test_a_real_redis_that_is_full_evicts_and_refuses_is_told(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REAL_REDIS", redis_server.url)
    first = look(redis_url="env:REAL_REDIS")
    assert [one.state for one in first.servers] == ["well"]
    with redis_server.client() as client:
        for n in range(3000):
            client.set(f"k{n}", "x" * 1000)
    seen = health_after(health_after(None, first, bucket=0), look(redis_url="env:REAL_REDIS"), bucket=1)
    assert any("evicted keys since the watch began" in one for one in told(seen)), told(seen)
    sessions = [redis_server.client() for _ in range(20)]
    for one in sessions:
        one.ping()
    full = look(redis_url="env:REAL_REDIS").servers[0]
    for one in sessions:
        one.close()
    assert full.state == "refused", full.why
    redis_server.stop()
    assert [one.state for one in look(redis_url="env:REAL_REDIS").servers] == ["away"]
    redis_server.start()
    seen = health_after(seen, look(redis_url="env:REAL_REDIS"), bucket=2)
    assert any("Redis began anew 1 times" in one for one in told(seen)), told(seen)
