"""A backup from a hot standby: the same digests as on the primary, its own place in the write-ahead log, no unlogged rows."""

import secrets
import threading
import time
from pathlib import Path

import pytest

from core.archive_listing import parse_listing
from core.checks import failed_checks
from core.coverage import compare_coverage
from tasks.digests import compute_digests
from tasks.preflight_postgres import check_postgres
from tasks.snapshot import hold_snapshot
from tests.fix_postgres import PostgresServer


def test_a_standby_is_backed_up_like_its_primary(
    standby: tuple[PostgresServer, str], postgres_18: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, name = standby
    monkeypatch.setenv(server.password_variable, server.password)
    results = []
    for source in (postgres_18, server):
        database = source.database(name)
        with hold_snapshot(database, backup_key="x") as held:
            counted = compute_digests(database, held, stop=threading.Event(), on_table=lambda _table: None)
            archive = str(tmp_path / secrets.token_hex(4))
            source.run("pg_dump", "-Fc", f"--snapshot={held.name}", f"--file={archive}", dbname=name)
        entries = parse_listing(source.run("pg_restore", "--list", archive).stdout)
        globals_sql = source.run("pg_dumpall", "--globals-only").stdout
        assert compare_coverage(held.inventory.expected, entries, held.inventory.roles, globals_sql).missing == ()
        results.append((held, counted))
    (primary, on_primary), (replica, on_replica) = results
    assert (primary.server.in_recovery, replica.server.in_recovery) == (False, True)
    assert replica.server.system_identifier == primary.server.system_identifier
    assert replica.server.timeline == 1
    assert replica.server.lsn != "0/0"
    names = {table.oid: table.name for table in primary.inventory.tables}
    assert sorted(names.values()) == ["counted", "loose", "t"]
    assert {oid: on_primary.tables[oid] for oid in on_replica.tables} == on_replica.tables
    assert sorted(names[oid] for oid in on_replica.tables) == ["counted", "t"]
    assert on_replica.large_objects == on_primary.large_objects
    left_out = {(item.kind, item.name) for item in replica.inventory.not_in_backup}
    assert ("rows of an unlogged table", "public.loose") in left_out


def test_the_preflight_tells_what_a_standby_cannot_give(
    standby: tuple[PostgresServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, name = standby
    monkeypatch.setenv(server.password_variable, server.password)
    checks = check_postgres("staging", "app", server.database(name))
    assert failed_checks(checks) == ()
    recovery = checks[-1]
    assert recovery.state == "warning"
    assert "a standby: rows of unlogged tables are not there" in recovery.found
    assert "hot_standby_feedback" in recovery.next_step
    server.execute("postgres", "ALTER SYSTEM SET hot_standby_feedback = on", "SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while check_postgres("staging", "app", server.database(name))[-1].state != "passed":
        assert time.monotonic() < deadline
        time.sleep(0.1)
