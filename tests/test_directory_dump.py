"""jobs > 1: files uploaded as they are finished, a bounded disk, and nothing left by a failure; decoded without a copy on disk."""

import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import ConfigurationError, IntegrityError, PermanentError, TemporaryError
from core.manifest import Manifest
from core.pg_commands import pg_restore_list_command
from tasks import directory_dump
from tasks.children import stop_all_children
from tasks.decode import decode_backup
from tasks.directory_dump import StreamedDirectory, dump_directory_to_store
from tasks.object_store import ObjectStore
from tasks.spool import LOCK, PREFIX, finished_files, spool_folder
from tests.fix_object_store import FaultProxy
from tests.fix_postgres import PostgresServer
from tests.fix_proxy import TcpProxy
from tests.fix_streams import FOLDER, GIB, Sample, manifest_for, with_parts

MIB = 1024 * 1024


@dataclass
class SlowSample(Sample):
    """A sample behind a proxy."""

    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PGPORT": str(self.port)}


def dump(sample: Sample, store: ObjectStore, spool: Path, *, jobs: int = 2, **more: Any) -> StreamedDirectory:
    """Dump a sample as the nightly backup does with jobs > 1."""
    arguments: dict[str, Any] = {
        "on": "the sample database",
        "relative": "dump",
        "level": 3,
        "segment_bytes": GIB,
        "spool_directory": str(spool),
        "reserve_bytes": MIB,
        "list_argv": lambda folder: pg_restore_list_command(str(sample.server.bin / "pg_restore"), folder),
    }
    return dump_directory_to_store(
        store,
        FOLDER,
        lambda folder: sample.pg_dump(archive_format="directory", directory=folder, jobs=jobs),
        more.pop("environment", sample.environment),
        **(arguments | more),
    )


def decode(sample: Sample, store: ObjectStore, manifest: Manifest) -> Any:
    return decode_backup(
        store, FOLDER, manifest, "0" * 64, SimpleNamespace(pg_restore=sample.server.bin / "pg_restore")
    )


def manifest_of(sample: Sample, store: ObjectStore, streamed: StreamedDirectory) -> Manifest:
    globals_part = sample.dump_globals(store).part
    return manifest_for(streamed.parts, globals_part, sample.rows, archive_format="directory")


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
    streamed = dump(sample, store, spool, segment_bytes=64 * 1024, on_bytes=lambda *both: seen.append(both))
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
    streamed = dump(slow_sample, faulty_store, spool)
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
    streamed = dump(slow_sample, store, spool, reserve_bytes=14 * MIB)
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
        dump(slow_sample, store, spool, reserve_bytes=6 * MIB)
    assert time.monotonic() - started < 30
    assert only_globals_left(store)


def test_a_spool_folder_that_is_not_there_is_a_configuration_error(
    small_sample: Sample, store: ObjectStore, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="spool_directory"):
        dump(small_sample, store, tmp_path / "missing")


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
        dump(slow_sample, store, spool)
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
        dump(slow_sample, store, spool)
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
        dump(slow_sample, faulty_store, spool)
    assert only_globals_left(faulty_store)


# --- decoding


@pytest.fixture(scope="session")
def _directory_once(small_sample: Sample, s3_server: Any, tmp_path_factory: Any) -> tuple[Manifest, dict[str, bytes]]:
    from tests.fix_object_store import environment_for

    s3_server.client.create_bucket(Bucket="directory-stored-once")
    store = ObjectStore.open(environment_for("directory-stored-once", s3_server.endpoint))
    streamed = dump(small_sample, store, tmp_path_factory.mktemp("spool"))
    manifest = manifest_of(small_sample, store, streamed)
    objects = {item.key: store.get(item.key) for item in store.list("")}
    store.client.close()
    return manifest, objects


@pytest.fixture
def stored(_directory_once: tuple[Manifest, dict[str, bytes]], store: ObjectStore) -> Manifest:
    """A directory-format backup of the small sample in the test's bucket."""
    manifest, objects = _directory_once
    for key, body in objects.items():
        store.put(key, body)
    return manifest


def test_a_flipped_bit_in_any_file_is_named(small_sample: Sample, store: ObjectStore, stored: Manifest) -> None:
    for part in stored.archive.parts:
        key = FOLDER + part.segments[0].key
        good = store.get(key)
        changed = bytearray(good)
        changed[len(good) // 2] ^= 4
        store.put(key, bytes(changed))
        with pytest.raises(IntegrityError, match=f"{part.segments[0].key}.*SHA-256"):
            decode(small_sample, store, stored)
        store.put(key, good)
    decode(small_sample, store, stored)


def test_a_file_that_is_missing_in_bucket_or_manifest_is_named(
    small_sample: Sample, store: ObjectStore, stored: Manifest
) -> None:
    data = next(part for part in stored.archive.parts if part.name[0].isdigit())
    rest = tuple(part for part in stored.archive.parts if part is not data)
    with pytest.raises(IntegrityError, match=f"{data.name} is in the table of contents and not in the manifest"):
        decode(small_sample, store, with_parts(stored, *rest))
    renamed = data.model_copy(update={"name": "99999.dat"})
    with pytest.raises(IntegrityError, match=r"99999\.dat is in the manifest and not in the table of contents"):
        decode(small_sample, store, with_parts(stored, *stored.archive.parts, renamed))
    store.delete([FOLDER + data.segments[0].key])
    with pytest.raises(IntegrityError, match=f"{data.name}/00000.zst.*missing"):
        decode(small_sample, store, stored)


def test_a_backup_without_its_table_of_contents_is_refused(
    small_sample: Sample, store: ObjectStore, stored: Manifest
) -> None:
    rest = tuple(part for part in stored.archive.parts if part.name != "toc.dat")
    with pytest.raises(IntegrityError, match=r"toc\.dat is missing"):
        decode(small_sample, store, with_parts(stored, *rest))
    bad = stored.archive.parts[0].model_copy(update={"name": "../../etc/passwd.dat"})
    with pytest.raises(IntegrityError, match="no file of a directory-format archive"):
        decode(small_sample, store, with_parts(stored, *stored.archive.parts, bad))


def test_files_that_were_exchanged_are_noticed_by_their_rows(
    small_sample: Sample, store: ObjectStore, stored: Manifest
) -> None:
    """Each file's checksums agree with its record, but the records were exchanged."""
    one, two = [part for part in stored.archive.parts if part.name[0].isdigit() and part.plain_bytes > 10][:2]
    exchanged = {
        one.name: two.model_copy(update={"name": one.name}),
        two.name: one.model_copy(update={"name": two.name}),
    }
    parts = tuple(exchanged.get(part.name, part) for part in stored.archive.parts)
    with pytest.raises(IntegrityError, match="rows in the dump"):
        decode(small_sample, store, with_parts(stored, *parts))


def test_a_decode_keeps_no_data_file_on_disk(
    small_sample: Sample, store: ObjectStore, stored: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sizes: list[int] = []
    removed = shutil.rmtree

    def measure(path: Any, *arguments: Any, **more: Any) -> None:
        sizes.append(sum(file.stat().st_size for file in Path(path).iterdir()))
        removed(path, *arguments, **more)

    monkeypatch.setattr("shutil.rmtree", measure)
    decode(small_sample, store, stored)
    assert sizes
    assert max(sizes) < 50_000
    assert not list(tmp_path.iterdir())
