"""jobs > 1: files uploaded as they are finished, a bounded disk, and nothing left by a failure; decoded without a copy on disk."""

import fcntl
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError, PermanentError, TemporaryError
from tasks import directory_dump
from tasks.children import stop_all_children
from tasks.object_store import ObjectStore
from tasks.spool import LOCK, PREFIX, _remove_abandoned, finished_files, spool_folder
from tests.directory_dumps import MIB, decode, dump_directory, manifest_of
from tests.fix_object_store import FaultProxy
from tests.fix_postgres import PostgresServer
from tests.fix_proxy import TcpProxy
from tests.fix_streams import FOLDER, Sample


@dataclass
class SlowSample(Sample):
    """A sample behind a proxy."""

    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PGPORT": str(self.port)}


@pytest.fixture
def slow_sample(large_sample: Sample, tcp_proxy: Callable[[int], TcpProxy]) -> SlowSample:
    """The large sample, 13 MB, read at 8 MB a second."""
    proxy = tcp_proxy(large_sample.server.port)
    proxy.slow_down(8_000_000)
    return SlowSample(large_sample.server, large_sample.name, large_sample.rows, large_sample.snapshot, proxy.port)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Path]:
    """A folder for spools, which each test must leave empty."""
    yield tmp_path
    assert not list(tmp_path.iterdir())


def only_globals_left(store: ObjectStore) -> bool:
    return not [item.key for item in store.list("") if "/globals/" not in item.key] and not store.list_uploads("")


@pytest.mark.parametrize("any_postgres", [15, 16, 18], indirect=True)
def test_a_directory_dump_is_stored_file_by_file_and_decodes(
    make_sample: Callable[..., Sample], any_postgres: PostgresServer, store: ObjectStore, spool: Path
) -> None:
    sample = make_sample(any_postgres, 1000)
    seen: list[tuple[int, int]] = []
    streamed = dump_directory(sample, store, spool, segment_bytes=64 * 1024, on_bytes=lambda *both: seen.append(both))
    names = [part.name for part in streamed.parts]
    assert names == sorted(names)
    assert "toc.dat" in names
    # Eight tables with data, two large objects and their list.
    assert sum(name.endswith(".dat") and name[0].isdigit() for name in names) == 8
    assert sum(name.startswith("blob_") for name in names) == 2
    assert sum(name.startswith("blobs") and name.endswith(".toc") for name in names) == 1
    assert {segment.key.rsplit("/", 1)[0] for part in streamed.parts for segment in part.segments} == {
        f"dump/{name}" for name in names
    }
    assert any(len(part.segments) > 1 for part in streamed.parts)
    assert "TABLE DATA public filler" in streamed.listing
    assert seen[-1] == (
        sum(part.plain_bytes for part in streamed.parts),
        sum(part.stored_bytes for part in streamed.parts),
    )
    decoded = decode(sample, store, manifest_of(sample, store, streamed))
    assert decoded.tables_counted == len(sample.rows)
    assert decoded.rows_counted == sum(sample.rows.values())


def test_files_are_uploaded_while_pg_dump_runs_and_the_table_of_contents_last(
    slow_sample: Sample, faulty_store: ObjectStore, s3_faults: FaultProxy, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[list[str]] = []

    def watch(folder: Path, session: int) -> list[str]:
        # Asked for only while pg_dump runs.
        finished.append(finished_files(folder, session))
        return finished[-1]

    monkeypatch.setattr(directory_dump, "finished_files", watch)
    streamed = dump_directory(slow_sample, faulty_store, spool)
    largest = max(streamed.parts, key=lambda part: part.plain_bytes).name
    assert any(names and largest not in names for names in finished)
    puts = [path for method, path in s3_faults.requests if method == "PUT"]
    assert "/toc.dat/" in puts[-1]


def test_a_file_counts_as_finished_only_when_nobody_has_it_open(tmp_path: Path) -> None:
    (tmp_path / "1.dat").write_bytes(b"x")
    (tmp_path / "toc.dat").write_bytes(b"x")
    with (tmp_path / "2.dat").open("wb"):
        assert finished_files(tmp_path, os.getsid(0)) == ["1.dat"]
    assert finished_files(tmp_path, os.getsid(0)) == ["1.dat", "2.dat"]
    assert finished_files(tmp_path / "none", os.getsid(0)) == []


def test_pg_dump_is_held_until_uploads_have_made_room(
    slow_sample: Sample, store: ObjectStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    stopped: list[bool] = []
    look = directory_dump._Brake.look
    # Three looks at a disk that is short of room, once there is something to upload.
    free = iter([10 * MIB, 14 * MIB, 15 * MIB])

    def watch(brake: Any, *, uploading: bool) -> None:
        look(brake, uploading=uploading)
        held.append(brake.held)
        if brake.held:
            stopped.append(all_stopped(brake._child.pid))

    def free_bytes(folder: Path) -> int:
        begun = any(store.list(FOLDER)) or list((folder / "dump").glob("blobs.toc"))
        return next(free, 100 * MIB) if begun else 100 * MIB

    monkeypatch.setattr(directory_dump._Brake, "look", watch)
    monkeypatch.setattr(directory_dump, "free_bytes", free_bytes)
    monkeypatch.setattr(directory_dump, "POLL_SECONDS", 0.02)
    streamed = dump_directory(slow_sample, store, spool, reserve_bytes=14 * MIB)
    # 15 MiB are more than the reserve, but not by the slack that keeps it from being stopped and started all the time.
    assert [state for state, _ in itertools.groupby(held)] == [False, True, False]
    assert stopped == [True, True, True]
    decode(slow_sample, store, manifest_of(slow_sample, store, streamed))


def all_stopped(session: int) -> bool:
    """Whether pg_dump and its workers, all of the session but the guard, come to be stopped within seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        stats = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended meanwhile
                stats.append(path.read_text().rsplit(")", 1)[1].split())
        states = [fields[0] for fields in stats if fields[3] == str(session) and fields[2] != str(session)]
        if len(states) == 3 and set(states) == {"T"}:
            return True
        time.sleep(0.01)
    return False


def test_a_spool_that_is_too_small_is_told_instead_of_waited_for(
    slow_sample: Sample, store: ObjectStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_dump, "free_bytes", lambda _: 5 * MIB)
    started = time.monotonic()
    with pytest.raises(PermanentError, match="no finished file is left to upload"):
        dump_directory(slow_sample, store, spool, reserve_bytes=6 * MIB)
    assert time.monotonic() - started < 30
    assert only_globals_left(store)


def test_a_spool_folder_that_is_not_there_is_a_configuration_error(
    small_sample: Sample, store: ObjectStore, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="spool_directory"):
        dump_directory(small_sample, store, tmp_path / "missing")


def test_a_spool_that_is_being_made_is_not_taken_for_an_abandoned_one(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def with_another_dump_beginning_just_now(lock: Any, how: int) -> None:
        monkeypatch.setattr("tasks.spool.fcntl.flock", flock)
        _remove_abandoned(spool / f"{PREFIX}another")
        flock(lock, how)

    monkeypatch.setattr("tasks.spool.fcntl.flock", with_another_dump_beginning_just_now)
    with spool_folder(str(spool)) as folder:
        assert folder.is_dir()
    assert list(spool.iterdir()) == []


def test_a_spool_of_a_killed_process_is_removed_by_the_next(spool: Path) -> None:
    abandoned = spool / f"{PREFIX}abandoned"
    abandoned.mkdir()
    (abandoned / LOCK).touch()
    (abandoned / "4242.dat").write_bytes(b"x")
    foreign = spool / f"{PREFIX}without-lock"
    foreign.mkdir()
    with spool_folder(str(spool)) as one, spool_folder(str(spool)) as two:
        assert one.exists()
        assert two.exists()
        assert not abandoned.exists()
        assert foreign.exists()
    foreign.rmdir()


def test_a_killed_worker_leaves_nothing(slow_sample: Sample, store: ObjectStore, spool: Path) -> None:
    def kill_a_worker() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for process in Path("/proc").glob("[0-9]*"):
                if process.name == str(os.getpid()):
                    continue  # we have files open too, those that we upload
                try:
                    files = [link.readlink() for link in (process / "fd").iterdir()]
                except OSError:
                    continue
                if any(spool in file.parents for file in files if file.suffix == ".dat"):
                    os.kill(int(process.name), signal.SIGKILL)
                    return
            time.sleep(0.002)

    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    with pytest.raises(TemporaryError, match="pg_dump"):
        dump_directory(slow_sample, store, spool)
    thread.join()
    assert only_globals_left(store)


def test_a_cancelled_dump_ends_its_workers_and_leaves_nothing(
    slow_sample: Sample, store: ObjectStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_dump, "free_bytes", lambda _: 10 * MIB)
    began = time.monotonic()
    # It is held (too little room, and an upload that seems to go on) when the cancellation comes.
    monkeypatch.setattr(directory_dump._Brake, "look", hold_for_ever)
    timer = threading.Timer(1.5, stop_all_children)
    timer.start()
    with pytest.raises(PermanentError, match="pg_dump was stopped"):
        dump_directory(slow_sample, store, spool)
    timer.join()
    assert time.monotonic() - began < 10
    assert only_globals_left(store)


def hold_for_ever(brake: Any, *, uploading: bool) -> None:
    if not brake.held:
        brake._child.pause()
        brake.held = True


def test_an_upload_that_is_refused_ends_pg_dump_and_leaves_nothing(
    slow_sample: Sample, faulty_store: ObjectStore, s3_faults: FaultProxy, spool: Path
) -> None:
    s3_faults.refuse("PUT", "/dump/", status=403, after=1, times=100)
    with pytest.raises(PermanentError, match="upload"):
        dump_directory(slow_sample, faulty_store, spool)
    assert only_globals_left(faulty_store)
