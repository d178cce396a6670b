"""Drills and restores beside other work on the same database: a backup that runs, sessions that write all the time, another restore to the same name."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from core.manifest import Manifest
from tasks.catalogue import read_catalogue, read_manifest
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_flow_child import StartFlow
from tests.fix_nightly import Night
from tests.fix_restore import databases
from tests.waiting import wait_until

# Processes with a Prefect of their own: make test-services.
pytestmark = [pytest.mark.services, pytest.mark.timeout(600), pytest.mark.xdist_group("prefect")]

TARGET = "copy_beside_others"


def states(night: Night) -> list[str]:
    listed = read_catalogue(ObjectStore.open(night.environment), night.environment, "first")
    return [entry.state for entry in listed.entries]


def newest_manifest(night: Night) -> Manifest:
    store, keys = ObjectStore.open(night.environment), signing_keys(night.environment)
    entry = read_catalogue(store, night.environment, "first").entries[-1]
    return read_manifest(store, night.environment, "first", entry.backup_id, keys)[0]


def objects(night: Night) -> dict[str, str]:
    """The backups' objects with their contents' tags."""
    listed = night.s3.client.list_objects_v2(Bucket=night.bucket)["Contents"]
    return {item["Key"]: item["ETag"] for item in listed if "/first/" in item["Key"]}


def test_a_drill_beside_a_running_backup_of_the_same_database_ends_right_and_so_does_the_backup(
    night: Night, start_flow: StartFlow
) -> None:
    night.run(databases=["first"])
    first = objects(night)
    # Its snapshot and its locks are held, its data lies in the bucket without a manifest.
    backup = start_flow("nightly_backup", "tasks.take_backup:_store:after", "hold", databases=["first"])
    backup.wait_for_point()
    under_way = {key: tag for key, tag in objects(night).items() if key not in first}
    assert any("/dump/" in key for key in under_way)
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    assert states(night) == ["proven", "incomplete"]
    now = objects(night)
    assert {**first, **under_way}.items() <= now.items()
    assert {key.rpartition("/")[2] for key in now.keys() - first.keys() - under_way.keys()} == {"proven.json"}
    kind, message = backup.go_on()
    assert kind == "COMPLETED", message
    assert states(night) == ["proven", "decoded"]
    assert {**now}.items() <= objects(night).items()


def test_a_backup_with_its_retention_beside_a_running_drill_touches_nothing_of_the_drills(
    night: Night, start_flow: StartFlow
) -> None:
    night.run(databases=["first"])
    drill = start_flow("dr_drill", "flows.dr_drill:compare:before", "hold", databases=["first"])
    drill.wait_for_point()
    before, folders = objects(night), {path.name for path in night.folder.iterdir()}
    state = night.run(databases=["first"])
    assert state.is_completed(), state.message
    assert before.items() <= objects(night).items()
    assert {path.name for path in night.folder.iterdir()} == folders
    kind, message = drill.go_on()
    assert kind == "COMPLETED", message
    assert states(night) == ["proven", "decoded"]


@contextmanager
def written_to(night: Night) -> Iterator[Callable[[], int]]:
    """Within the block three sessions insert, change and delete rows of `first` without pause; yields how many statements they committed."""
    stop, done = threading.Event(), [0, 0, 0]
    statements = (
        "INSERT INTO account (name, balance) SELECT 'later ' || n, random() FROM generate_series(1, 3) AS n",
        "UPDATE account SET balance = balance + 1 WHERE id = 1 + floor(random() * 500)",
        "DELETE FROM account WHERE id = (SELECT max(id) FROM account WHERE id > 500 AND id % 3 = 0)",
    )

    def write(number: int) -> None:
        with psycopg.connect(night.server.conninfo(night.names["first"]), autocommit=True) as session:
            while not stop.is_set():
                session.execute(statements[number].encode())
                done[number] += 1
                stop.wait(0.002)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(done), "the first writes")
        yield lambda: sum(done)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def test_a_database_that_is_written_to_all_the_time_comes_back_as_its_snapshot_was(
    night: Night, restored_names: Callable[..., str]
) -> None:
    restored_names(night.server, TARGET)
    live = night.names["first"]
    night.server.execute(live, "ALTER TABLE account ADD at timestamptz DEFAULT clock_timestamp()")
    with written_to(night) as written:
        before = written()
        assert night.run(databases=["first"]).is_completed()
        assert written() > before + 10
        manifest = newest_manifest(night)
        restored = night.restore(backup="newest-decoded", target=TARGET)
        assert restored.is_completed(), restored.message
        drilled = night.drill(databases=["first"])
        assert drilled.is_completed(), drilled.message
    assert states(night) == ["proven"]
    (recorded,) = manifest.tables

    def one(database: str, query: str, *values: Any) -> Any:
        with night.server.connect(database) as session:
            row = session.execute(query, values).fetchone()  # type: ignore[call-overload]
        assert row is not None
        return row[0]

    # While the dump was made, rows came: none of them is in the copy, and all that it has was there before.
    query = "SELECT count(*) FROM account WHERE at > %s"
    assert one(live, query, manifest.snapshot_time) > 0
    assert one(
        live, "SELECT count(*) FROM account WHERE at BETWEEN %s AND %s", manifest.snapshot_time, manifest.finished
    )
    newest = one(live, "SELECT max(id) FROM account WHERE at < %s", manifest.snapshot_time)
    # Between the time that a statement has and the snapshot that it takes, a busy machine may let some more be written.
    assert one(TARGET, "SELECT max(id) FROM account") <= newest + 60
    assert one(TARGET, "SELECT count(*) FROM account") == recorded.rows
    assert one(TARGET, query, manifest.finished) == 0


def test_of_two_restores_to_one_name_at_once_the_second_is_refused_and_the_first_ends_right(
    night: Night, start_flow: StartFlow, restored_names: Callable[..., str]
) -> None:
    restored_names(night.server, TARGET)
    night.run(databases=["first"])
    first = start_flow(
        "restore",
        "tasks.restore_steps:verify_restored:before",
        "hold",
        database="first",
        backup="newest-decoded",
        target=TARGET,
    )
    first.wait_for_point()
    (copy,) = databases(night.server)
    second = night.restore(backup="newest-decoded", target=TARGET)
    assert second.is_failed()
    assert f"another restore is making a database called {TARGET} (nightshift restore {copy[-8:]}, pid" in (
        str(second.message)
    )
    assert databases(night.server) == {copy}
    kind, message = first.go_on()
    assert kind == "COMPLETED", message
    assert databases(night.server) == set()
    with night.server.connect(TARGET) as session:
        assert session.execute("SELECT count(*) FROM account").fetchone() == (500,)
