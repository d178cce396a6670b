"""Swaps and their reverse on real servers: what is looked at before, what changes, who is drained, and how long a client is without its database."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise

import psycopg
import pytest

from core.errors import PermanentError
from core.swap_plan import Session
from tasks.swap import recover_swap, swap_databases, undo_swap
from tasks.swap_plans import plan_swap, plan_undo, preview_swap
from tests.fix_postgres import PostgresServer, end_server, make_server
from tests.fix_swap import COMMENT, Pair, drop_pair, make_pair
from tests.waiting import wait_until

NewPair = Callable[..., Pair]
NewRole = Callable[..., tuple[str, str]]


class Client(threading.Thread):
    """An application that connects anew again and again, and keeps when it last reached which database."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(daemon=True)
        self._conninfo = pair.server.conninfo(pair.live)
        self._stop_asked = threading.Event()
        self.seen: list[tuple[float, str]] = []
        self.errors: set[str] = set()

    def run(self) -> None:
        while not self._stop_asked.wait(0.01):
            try:
                with psycopg.connect(self._conninfo) as connection:
                    row = connection.execute("SELECT who FROM public.identity").fetchone()
                assert row is not None
                self.seen.append((time.monotonic(), row[0]))
            except psycopg.Error as error:
                self.errors.add(str(error).strip().rpartition("FATAL:")[2].strip().partition("\n")[0])

    def wait_for(self, who: str) -> None:
        deadline = time.monotonic() + 20
        while not any(seen == who for _, seen in self.seen[-1:]):
            assert time.monotonic() < deadline, f"{who} was not seen; errors: {self.errors}"
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(20)

    @property
    def longest_gap(self) -> float:
        times = [at for at, _ in self.seen]
        return max(later - earlier for earlier, later in pairwise(times))


@pytest.fixture
def clients() -> Iterator[Callable[[Pair, int], list[Client]]]:
    """A factory: given a pair and a number, start so many clients, which have reached the live database when it returns."""
    running: list[Client] = []

    def start(pair: Pair, number: int) -> list[Client]:
        started = [Client(pair) for _ in range(number)]
        running.extend(started)
        for client in started:
            client.start()
        for client in started:
            client.wait_for("old")
        return started

    yield start
    for client in running:
        client.stop()


def test_a_swap_exchanges_the_names_and_keeps_all_that_belongs_to_each(pair: Pair) -> None:
    plan = pair.plan()
    assert (plan.refusals, plan.unaccepted()) == ((), ())
    assert [difference.topic for difference in plan.differences] == ["comment"]
    acl = pair.catalogue(pair.live)[2]
    outcome = swap_databases(pair.login, plan, drain_seconds=5)
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    assert (outcome.old_name, outcome.live_oid, outcome.old_oid) == (pair.old, plan.copy_oid, plan.live_oid)
    assert pair.catalogue(pair.old) == (True, COMMENT, acl)
    assert pair.catalogue(pair.live) == (True, None, acl)
    assert outcome.outage_ms < 4000
    assert recover_swap(pair.login, pair.live).reopened is False


def test_clients_that_come_back_in_a_loop_are_without_their_database_for_less_than_two_seconds(
    pair: Pair, clients: Callable[[Pair, int], list[Client]]
) -> None:
    plan = pair.plan()
    started = clients(pair, 3)
    outcome = swap_databases(pair.login, plan, drain_seconds=2)
    for client in started:
        client.wait_for("new")
        client.stop()
        order = [who for _, who in client.seen]
        assert order == sorted(order, reverse=True), "no client may see the old database after the new one"
        assert client.longest_gap < 2 + outcome.drain_ms / 1000
        assert all(
            "not currently accepting connections" in error or "does not exist" in error for error in client.errors
        )
    assert outcome.outage_ms < 4000


def test_who_does_not_leave_in_time_is_told_of_and_then_ended(pair: Pair) -> None:
    plan = pair.plan()
    told: list[tuple[Session, ...]] = []
    # Who looked for the plan has left.
    wait_until(lambda: sessions_of(pair) == 0, "nobody is connected")
    leaves, stays = (pair.server.connect(name) for name in (pair.live, pair.live))
    with closing(stays):
        stays.execute("SET application_name = 'worker 7'")
        stays.execute("BEGIN")

        def on_wait(sessions: tuple[Session, ...]) -> None:
            told.append(sessions)
            leaves.close()
            wait_until(lambda: sessions_of(pair) <= 1, "it has left")

        outcome = swap_databases(pair.login, plan, drain_seconds=0.5, on_wait=on_wait)
        assert len(told[0]) == 2
        assert {session.pid for session in told[1]} == {stays.info.backend_pid}
        assert told[-1] == ()
        (ended,) = (session for session in outcome.terminated if session.database == pair.live)
        assert str(ended) == (
            f"pid {stays.info.backend_pid} (user postgres, application worker 7, idle in transaction)"
        )
        assert len(outcome.sessions) == 2
        with pytest.raises(psycopg.OperationalError):
            stays.execute("SELECT 1")
    assert 400 <= outcome.drain_ms < 5000
    assert outcome.outage_ms < 4000
    assert pair.names() == {pair.live: "new", pair.old: "old"}


def sessions_of(pair: Pair) -> int:
    """How many sessions there are on both databases."""
    with pair.server.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datid = ANY (%s)", (list(pair.oids.values()),)
        ).fetchone()
    return row[0] if row else 0


def test_a_copy_that_somebody_is_connected_to_is_not_swapped_in(pair: Pair) -> None:
    """It was verified; what an open transaction there commits until it is ended, nobody compares."""
    plan = pair.plan()
    with closing(pair.server.connect(pair.copied)) as writer:
        writer.execute("BEGIN")
        writer.execute("CREATE TABLE public.written_after_the_verification ()")
        with pytest.raises(PermanentError, match=rf"on the copy, .* there still was pid {writer.info.backend_pid} "):
            swap_databases(pair.login, plan, drain_seconds=1)
        writer.execute("ROLLBACK")
    assert pair.names() == {pair.live: "old", pair.copied: "new"}
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)
    assert swap_databases(pair.login, pair.plan(), drain_seconds=1).live == pair.live


def test_an_undo_gives_the_old_one_back_and_keeps_what_was_written_since(pair: Pair) -> None:
    swap_databases(pair.login, pair.plan(), drain_seconds=1)
    pair.server.execute(pair.live, "CREATE TABLE public.written_since ()")
    assert plan_undo(pair.login, pair.live, pair.old, pair.restore_id).refusals == ()
    outcome = undo_swap(pair.login, pair.live, pair.old, pair.restore_id, drain_seconds=1)
    assert pair.names() == {pair.live: "old", pair.undone: "new"}
    assert (outcome.live, outcome.old_name) == (pair.live, pair.undone)
    assert outcome.outage_ms < 4000
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)
    pair.server.execute(pair.undone, "TABLE public.written_since", "DROP TABLE public.written_since")
    with pytest.raises(PermanentError, match=f"the old database {pair.old} is gone: it was dropped or renamed"):
        undo_swap(pair.login, pair.live, pair.old, pair.restore_id, drain_seconds=1)
    assert pair.names() == {pair.live: "old", pair.undone: "new"}


def test_an_owner_with_createdb_may_swap_and_others_are_told_what_they_lack(pair: Pair, fresh_role: NewRole) -> None:
    stranger, strangers_password = fresh_role(pair.server)
    owner, password = fresh_role(pair.server)
    with pair.owned_by(owner):
        plan = pair.plan(pair.server.database("postgres", user=stranger, password=strangers_password))
        assert plan.refusals == (
            f"the role {stranger} has no CREATEDB, which a rename needs: ALTER ROLE … CREATEDB",
            f"the role {stranger} may not rename {pair.live}: it belongs to {owner}, of which {stranger} is no member",
            f"the role {stranger} may not rename {pair.copied}: it belongs to {owner}, of which {stranger} is no member",
        )
        with pytest.raises(PermanentError, match="has no CREATEDB"):
            swap_databases(pair.login, plan, drain_seconds=1)
        pair.server.execute("postgres", f"ALTER ROLE {owner} CREATEDB")
        login = pair.server.database("postgres", user=owner, password=password)
        plan = pair.plan(login)
        assert plan.refusals == ()
        swap_databases(login, plan, drain_seconds=1)
        assert pair.names() == {pair.live: "new", pair.old: "old"}


def test_a_difference_stops_the_swap_until_it_is_accepted_by_name(pair_15: Pair) -> None:
    pair = pair_15
    calm = pair.plan()
    pair.server.execute(
        "postgres",
        f"GRANT CONNECT ON DATABASE {pair.live} TO pg_monitor",
        f"ALTER ROLE postgres IN DATABASE {pair.copied} SET work_mem = '1MB'",
    )
    with pytest.raises(
        PermanentError, match="privileges of pg_monitor: CONNECT in the live database, none in the copy"
    ):
        swap_databases(pair.login, calm, drain_seconds=1)
    plan = pair.plan()
    topics = [difference.topic for difference in plan.unaccepted()]
    assert topics == ["privileges of pg_monitor", "setting work_mem of role postgres"]
    with pytest.raises(PermanentError, match="accept what differs by name: setting work_mem of role postgres"):
        swap_databases(pair.login, plan, drain_seconds=1, accepted=topics[:1])
    assert pair.names() == {pair.live: "old", pair.copied: "new"}
    swap_databases(pair.login, plan, drain_seconds=1, accepted=topics)
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    pair.server.execute(
        "postgres",
        f"REVOKE CONNECT ON DATABASE {pair.old} FROM pg_monitor",
        f"ALTER ROLE postgres IN DATABASE {pair.live} RESET work_mem",
    )


def test_a_masked_partial_or_other_copy_is_refused(pair_15: Pair) -> None:
    pair = pair_15
    assert "the copy is masked" in pair.plan(masked=True).refusals[0]
    assert "the copy is partial" in pair.plan(partial=True).refusals[0]
    assert "is not the database that was restored and verified" in pair.plan(oid=1).refusals[0]
    assert "is not the database that was restored and verified" in pair.plan(system_identifier="1").refusals[0]
    assert "the copy was made of the backup 20" in pair.plan(backup_id="20261122T020000Z-00000000").refusals[0]
    with pytest.raises(PermanentError, match="its data was changed on purpose"):
        swap_databases(pair.login, pair.plan(masked=True), drain_seconds=1)
    assert pair.names() == {pair.live: "old", pair.copied: "new"}


def test_a_copy_that_was_replaced_after_the_plan_is_not_swapped(postgres_15: PostgresServer, new_pair: NewPair) -> None:
    pair = new_pair(postgres_15)
    plan = pair.plan()
    postgres_15.execute(
        "postgres", f"DROP DATABASE {pair.copied}", f"CREATE DATABASE {pair.copied} TEMPLATE {pair.live}"
    )
    postgres_15.execute(
        "postgres",
        f"REVOKE TEMPORARY ON DATABASE {pair.copied} FROM PUBLIC",
        f"ALTER DATABASE {pair.copied} SET work_mem = '8MB'",
    )
    with pytest.raises(PermanentError, match="not the one that the plan was made with"):
        swap_databases(pair.login, plan, drain_seconds=1)
    postgres_15.execute("postgres", f"DROP DATABASE {pair.copied}")
    with pytest.raises(PermanentError, match=f"there is no database {pair.copied} on this server"):
        swap_databases(pair.login, plan, drain_seconds=1)
    assert pair.names() == {pair.live: "old"}


def test_managed_names_are_refused_and_on_supabase_with_the_reason(
    pair_15: Pair, fresh_database: Callable[..., str]
) -> None:
    pair = pair_15
    login = pair.server.database(fresh_database(pair.server))
    manifest = pair.manifest()

    def plan_of_postgres() -> tuple[str, ...]:
        return plan_swap(
            login, "postgres", pair.copied, pair.restore_id, manifest, restored=pair.restored(manifest)
        ).refusals

    assert plan_of_postgres() == (
        "postgres is one of the server's own databases, which programs expect under that name",
    )
    pair.server.execute("postgres", "CREATE ROLE supabase_admin")
    try:
        assert plan_of_postgres()[0].startswith("postgres is managed by Supabase: its services (auth, storage")
        assert preview_swap(login, "postgres", pair.restore_id) == plan_of_postgres()
        assert preview_swap(login, pair.live, pair.restore_id) == ()
    finally:
        pair.server.execute("postgres", "DROP ROLE supabase_admin")


@pytest.fixture(scope="module")
def replicating() -> Iterator[PostgresServer]:
    """A server that can prepare transactions and decode its log."""
    server = make_server(15, max_prepared_transactions="5", wal_level="logical")
    yield server
    end_server(server)


@pytest.mark.services
def test_prepared_transactions_slots_and_subscriptions_forbid_it(replicating: PostgresServer) -> None:
    pair = make_pair(replicating)
    plan = pair.plan()
    replicating.execute(
        pair.live,
        "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')",
        "CREATE SUBSCRIPTION from_hq CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false)",
    )
    with replicating.connect(pair.copied) as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO public.identity VALUES ('x')")
        other.execute("PREPARE TRANSACTION 'forgotten'")
    found = pair.plan().refusals
    assert found[0].startswith(f"{pair.live} has logical replication slots: debezium;")
    assert found[1].startswith(f"{pair.live} has subscriptions: from_hq;")
    assert found[2].startswith(f"{pair.copied} has prepared transactions: forgotten;")
    assert len(found) == 3
    with pytest.raises(PermanentError, match="logical replication slots: debezium"):
        swap_databases(pair.login, plan, drain_seconds=1)
    replicating.execute(pair.live, "ALTER SUBSCRIPTION from_hq SET (slot_name = NONE)", "DROP SUBSCRIPTION from_hq")
    replicating.execute(pair.live, "SELECT pg_drop_replication_slot('debezium')")
    replicating.execute(pair.copied, "ROLLBACK PREPARED 'forgotten'")
    drop_pair(pair)
