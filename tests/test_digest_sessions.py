"""The sessions that compute digests: what is shared out, what stops them, and how a failure is told."""

import threading
import time
from collections.abc import Callable

import pytest

from core.errors import PermanentError, TemporaryError
from core.inventory import TableDraft
from tasks.digests import compute_digests, share_out
from tasks.snapshot import hold_snapshot
from tests.fix_postgres import PostgresServer


def draft(oid: int, size_bytes: int) -> TableDraft:
    return TableDraft(
        oid=oid,
        schema_name="s",
        name=f"t{oid}",
        owner="o",
        persistence="permanent",
        columns=(),
        mode="full",
        digest_sql=None,
        size_bytes=size_bytes,
        counters={},
    )


def test_the_largest_tables_come_first_and_sessions_get_alike_much() -> None:
    shares = share_out([draft(1, 10), draft(2, 50), draft(3, 40), draft(4, 5), draft(5, 0)], 2)
    assert [[table.oid for table in share.tables] for share in shares] == [[2, 4], [3, 1, 5]]
    assert sum(share.large_objects for share in shares) == 1
    assert {table.oid for share in shares for table in share.tables} == {1, 2, 3, 4, 5}


def test_no_table_at_all_still_counts_large_objects() -> None:
    shares = share_out([], 4)
    assert len(shares) == 1
    assert shares[0].large_objects


def big_table(server: PostgresServer, fresh_database: Callable[..., str]) -> str:
    """A database with a table whose digest takes some seconds."""
    return fresh_database(
        server,
        "CREATE TABLE big (n numeric, f float8, i interval, s int4range)",
        "INSERT INTO big SELECT g, g / 3.0, g * interval '1 second', int4range(g, g + 2) FROM generate_series(1, 50000) AS g",
        *["INSERT INTO big SELECT * FROM big"] * 5,
        "CREATE TABLE small AS SELECT 1 AS a",
    )


def test_stop_cancels_running_queries_within_a_second_or_so(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = big_table(postgres_18, fresh_database)
    database = postgres_18.database(name, digest_sessions=1)
    stop, began = threading.Event(), threading.Event()
    stopped_at: list[float] = []

    def stop_soon() -> None:
        began.wait(30)
        time.sleep(0.3)
        stopped_at.append(time.monotonic())
        stop.set()

    stopper = threading.Thread(target=stop_soon)
    stopper.start()
    with hold_snapshot(database, backup_key="x") as held:
        with pytest.raises(TemporaryError, match="compute digests"):
            compute_digests(database, held, stop=stop, on_table=lambda _table: began.set())
        ended = time.monotonic()
        with postgres_18.connect() as other:
            left = other.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightshift digest' AND state = 'active'"
            ).fetchone()
    stopper.join()
    assert ended - stopped_at[0] < 6
    assert left == (0,)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("digest")]


def test_a_session_that_is_ended_names_its_table_and_stops_the_others(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = big_table(postgres_18, fresh_database)
    database = postgres_18.database(name)

    def end(table: str) -> None:
        if table != "public.big":
            return

        def later() -> None:
            time.sleep(0.3)
            with postgres_18.connect() as killer:
                killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = %s AND application_name = 'nightshift digest' AND query LIKE '%%\"big\"%%'",
                    (name,),
                )

        killers.append(threading.Thread(target=later))
        killers[-1].start()

    killers: list[threading.Thread] = []
    with (
        hold_snapshot(database, backup_key="x") as held,
        pytest.raises(TemporaryError, match=r"compute the digest of public\.big"),
    ):
        compute_digests(database, held, stop=threading.Event(), on_table=end)
    for killer in killers:
        killer.join()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("digest")]


def test_a_snapshot_that_is_gone_is_a_named_error(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(postgres_18, "CREATE TABLE t (a int)")
    database = postgres_18.database(name)
    with hold_snapshot(database, backup_key="x") as held:
        pass
    with pytest.raises((PermanentError, TemporaryError), match="join the snapshot"):
        compute_digests(database, held, stop=threading.Event(), on_table=lambda _table: None)


def test_an_alter_that_waits_for_the_backup_does_not_make_the_digest_wait(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(
        postgres_18,
        "CREATE TABLE first AS SELECT g AS a FROM generate_series(1, 5000) AS g",
        "CREATE TABLE last AS SELECT 1 AS a",
    )
    database = postgres_18.database(name, digest_sessions=1, lock_timeout_seconds=2)
    waiting: list[threading.Thread] = []

    def alter_last(table: str) -> None:
        if table == "public.first":
            waiting.append(
                threading.Thread(target=postgres_18.execute, args=(name, "ALTER TABLE last ADD COLUMN b int"))
            )
            waiting[0].start()
            with postgres_18.connect(name) as other:
                while other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
                    time.sleep(0.02)

    with hold_snapshot(database, backup_key="x") as held:
        result = compute_digests(database, held, stop=threading.Event(), on_table=alter_last)
    waiting[0].join()
    assert sorted(counted.rows or 0 for counted in result.tables.values()) == [1, 5000]
