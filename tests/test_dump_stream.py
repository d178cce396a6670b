"""pg_dump's output streamed into S3, and what is left when something fails on the way: nothing."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from core.errors import NightshiftError, PermanentError, TemporaryError
from core.manifest import StoredPart
from tasks.children import stop_all_children
from tasks.dump_stream import dump_to_store
from tasks.head_listing import HeadListing
from tasks.object_store import ObjectStore
from tests.fix_object_store import FaultProxy
from tests.fix_postgres import PostgresServer
from tests.fix_proxy import TcpProxy
from tests.fix_streams import FOLDER, GIB, Sample

MIB = 1024 * 1024
MakeSample = Callable[..., Sample]
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def nothing_left(store: ObjectStore) -> bool:
    return not list(store.list("")) and not store.list_uploads("")


def plain_of(store: ObjectStore, part: StoredPart) -> bytes:
    stored = b"".join(store.get(FOLDER + segment.key) for segment in part.segments)
    assert hashlib.sha256(stored).hexdigest() == part.stored_sha256
    assert len(stored) == part.stored_bytes == sum(segment.stored_bytes for segment in part.segments)
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(stored)).read()


def store_output(store: ObjectStore, *argv: str, **more: Any) -> Any:
    """Store the output of a program that needs no database."""
    arguments: dict[str, Any] = {"on": "a program", "name": "out", "relative": "dump", "level": 1, "segment_bytes": GIB}
    return dump_to_store(store, FOLDER, argv, ENVIRONMENT, **(arguments | more))


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", text)


@pytest.mark.parametrize("any_postgres", [15, 16, 18], indirect=True)
def test_a_dump_is_stored_whole_with_its_listing(
    make_sample: MakeSample, any_postgres: PostgresServer, store: ObjectStore
) -> None:
    sample = make_sample(any_postgres, 1000)
    seen: list[tuple[int, int]] = []
    streamed = sample.dump(store, on_bytes=lambda plain, stored: seen.append((plain, stored)))
    plain = plain_of(store, streamed.part)
    assert plain.startswith(b"PGDMP")
    assert len(plain) == streamed.part.plain_bytes
    assert hashlib.sha256(plain).hexdigest() == streamed.part.plain_sha256
    assert [segment.key for segment in streamed.part.segments] == ["dump/00000.zst"]
    assert seen[-1] == (streamed.part.plain_bytes, streamed.part.stored_bytes)
    whole = subprocess.run(
        [any_postgres.bin / "pg_restore", "--list"], input=plain, capture_output=True, check=True, env=ENVIRONMENT
    ).stdout.decode()
    assert streamed.listing == whole
    assert "TABLE DATA public filler" in streamed.listing


def test_globals_are_stored_and_given_as_text(small_sample: Sample, store: ObjectStore) -> None:
    streamed = small_sample.dump_globals(store)
    assert "CREATE ROLE postgres" in streamed.text
    assert "PASSWORD" not in streamed.text
    assert plain_of(store, streamed.part).decode() == streamed.text
    assert [segment.key for segment in streamed.part.segments] == ["globals/00000.zst"]


@pytest.mark.parametrize("any_postgres", [15, 18], indirect=True)
def test_excluded_schemas_are_left_out_by_exact_name(
    make_sample: MakeSample, any_postgres: PostgresServer, store: ObjectStore
) -> None:
    sample = make_sample(
        any_postgres,
        1,
        'CREATE SCHEMA "a*b"',
        'CREATE TABLE "a*b".out ()',
        "CREATE SCHEMA axb",
        "CREATE TABLE axb.within ()",
    )
    listing = sample.dump(store, argv=sample.pg_dump(exclude_schemas=["a*b"])).listing
    assert "within" in listing
    assert "out postgres" not in listing


@pytest.mark.parametrize("limit", [1000, 4096, 5 * MIB, 6 * MIB])
def test_a_long_stream_goes_on_in_further_objects(store: ObjectStore, limit: int) -> None:
    size = 40_000 if limit < MIB else 11 * MIB + 5
    text = f"import os, sys\nfor _ in range({size} // 1000): sys.stdout.buffer.write(os.urandom(1000))"
    part = store_output(store, *python(text), segment_bytes=limit).part
    limit = min(limit, 5 * MIB)
    assert [segment.key for segment in part.segments] == [
        f"dump/{index:05d}.zst" for index in range(-(-part.stored_bytes // limit))
    ]
    assert all(segment.stored_bytes == limit for segment in part.segments[:-1])
    for segment in part.segments:
        assert hashlib.sha256(store.get(FOLDER + segment.key)).hexdigest() == segment.stored_sha256
    assert len(plain_of(store, part)) == part.plain_bytes == size // 1000 * 1000


def test_a_stream_that_ends_at_a_segments_end_has_no_empty_segment(store: ObjectStore) -> None:
    part = store_output(store, *python("print('x' * 5000)")).part
    again = store_output(store, *python("print('x' * 5000)"), segment_bytes=part.stored_bytes).part
    assert [segment.stored_bytes for segment in again.segments] == [part.stored_bytes]
    assert again.stored_sha256 == part.stored_sha256


def test_no_output_is_a_stream_too(store: ObjectStore) -> None:
    part = store_output(store, "/bin/true").part
    assert part.plain_bytes == 0
    assert plain_of(store, part) == b""


def test_what_a_program_that_succeeds_says_on_stderr_is_kept_as_warnings(store: ObjectStore) -> None:
    text = "import sys\nprint('data')\nprint('pg_dump: warning: left out', 'detail', sep='\\n', file=sys.stderr)"
    assert store_output(store, *python(text)).warnings == ("pg_dump: warning: left out", "detail")
    many = store_output(store, *python("import sys\nfor n in range(25): print(n, file=sys.stderr)")).warnings
    assert (len(many), many[0], many[-1]) == (21, "0", "and 5 more lines")
    assert store_output(store, "/bin/true").warnings == ()


# --- failures


def dump_and_kill(sample: Sample, store: ObjectStore, at_bytes: int) -> NightshiftError:
    """Dump, and kill pg_dump once so many plain bytes have been read."""
    script = 'echo "about to be killed" >&2; echo $$ > "$0"; exec "$@"'
    pid_file = Path(f"/tmp/nightshift-test-{os.getpid()}-{time.monotonic_ns()}")
    killed = threading.Event()

    def watch(plain: int, _stored: int) -> None:
        if plain >= at_bytes and not killed.is_set():
            killed.set()
            os.kill(int(pid_file.read_text()), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.compressed_stream.REPORT_SECONDS", 0)
        try:
            argv = ["/bin/sh", "-c", script, str(pid_file), *sample.pg_dump()]
            with pytest.raises(NightshiftError) as caught:
                sample.dump(store, argv=argv, on_bytes=watch, segment_bytes=2 * MIB)
        finally:
            pid_file.unlink(missing_ok=True)
    assert killed.is_set()
    return caught.value


@pytest.fixture(scope="module")
def dump_bytes() -> dict[str, int]:
    """Room for the sample's size, measured once."""
    return {}


@pytest.mark.parametrize("percent", [10, 50, 99])
def test_a_pg_dump_that_is_killed_leaves_nothing_and_its_stderr_is_told(
    large_sample: Sample, store: ObjectStore, percent: int, dump_bytes: dict[str, int]
) -> None:
    sample = large_sample
    if not dump_bytes:
        dump_bytes["plain"] = sample.dump(store).part.plain_bytes
        store.remove_folder(FOLDER)
    # What the pipe holds has been written already: the last percent is killed before its end is read.
    error = dump_and_kill(sample, store, dump_bytes["plain"] * percent // 100 - 2 * MIB * (percent > 90))
    assert isinstance(error, TemporaryError)
    assert "was killed by SIGKILL" in str(error)
    assert "about to be killed" in str(error)
    assert nothing_left(store)


def test_a_non_zero_exit_after_all_output_leaves_nothing(store: ObjectStore) -> None:
    text = "import os, sys\nsys.stdout.buffer.write(os.urandom(12_000_000))\nsys.exit('disk on fire')"
    with pytest.raises(TemporaryError, match="ended with exit code 1: disk on fire"):
        store_output(store, *python(text))
    assert nothing_left(store)


def test_a_permission_that_is_missing_is_permanent(
    small_sample: Sample, store: ObjectStore, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    sample = small_sample
    role, password = fresh_role(sample.server)
    environment = sample.environment | {"PGUSER": role, "PGPASSWORD": password}
    with pytest.raises(PermanentError, match="permission denied"):
        sample.dump(store, environment=environment)
    assert nothing_left(store)


def test_a_snapshot_that_is_gone_is_temporary(small_sample: Sample, store: ObjectStore) -> None:
    argv = replace(small_sample, snapshot="00000003-0000001B-1").pg_dump()
    with pytest.raises(TemporaryError, match="snapshot"):
        small_sample.dump(store, argv=argv)
    assert nothing_left(store)


@pytest.mark.parametrize("after", [0, 3 * MIB])
def test_a_connection_cut_to_the_server_fails_cleanly(
    large_sample: Sample, store: ObjectStore, tcp_proxy: Callable[[int], TcpProxy], after: int
) -> None:
    sample = large_sample
    proxy = tcp_proxy(sample.server.port)
    proxy.cut_after(after)
    with pytest.raises(TemporaryError, match="pg_dump ended with exit code 1"):
        sample.dump(store, environment=sample.environment | {"PGPORT": str(proxy.port)}, segment_bytes=MIB)
    assert nothing_left(store)


def test_a_cancelled_dump_ends_within_seconds_even_when_the_server_hangs(
    small_sample: Sample, store: ObjectStore, tcp_proxy: Callable[[int], TcpProxy]
) -> None:
    sample = small_sample
    proxy = tcp_proxy(sample.server.port)
    proxy.hang()
    timer = threading.Timer(0.7, stop_all_children)
    timer.start()
    started = time.monotonic()
    with pytest.raises(PermanentError, match="pg_dump was stopped"):
        sample.dump(store, environment=sample.environment | {"PGPORT": str(proxy.port)})
    assert time.monotonic() - started < 15
    timer.join()
    assert nothing_left(store)


def test_a_service_that_refuses_for_good_ends_the_dump_and_pg_dump(
    large_sample: Sample, faulty_store: ObjectStore, s3_faults: FaultProxy
) -> None:
    sample = large_sample
    s3_faults.refuse("PUT", "00002.zst", status=403, times=10)
    with pytest.raises(PermanentError, match=r"00002\.zst"):
        sample.dump(faulty_store, segment_bytes=MIB)
    assert s3_faults.count("PUT", "00001.zst") == 1
    assert nothing_left(faulty_store)


def test_a_folder_beside_this_attempts_is_not_touched(store: ObjectStore) -> None:
    store.put(FOLDER + "globals/00000.zst", b"other")
    with pytest.raises(TemporaryError):
        store_output(store, *python("import sys; print(1); sys.exit(1)"))
    assert [item.key for item in store.list("")] == [FOLDER + "globals/00000.zst"]


def test_a_text_that_is_too_long_to_keep_is_refused(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.compressed_stream.CAPTURE_BYTES", 1000)
    with pytest.raises(PermanentError, match="longer than 64 MiB"):
        store_output(store, *python("print('x' * 2000)"), keep_text=True)
    assert nothing_left(store)


# --- the listing


def test_an_archive_whose_head_cannot_be_read_is_refused(small_sample: Sample, store: ObjectStore) -> None:
    with pytest.raises(PermanentError, match="list the archive"):
        small_sample.dump(store, argv=["/bin/echo", "this is no archive"])
    assert nothing_left(store)


def test_a_table_of_contents_of_megabytes_is_listed_and_does_not_hold_up_the_stream(
    make_sample: MakeSample, postgres_16: PostgresServer, store: ObjectStore
) -> None:
    # Comments of 100 KB on thirty tables are a table of contents larger than any pipe.
    statements = (f"CREATE TABLE t{number} (); COMMENT ON TABLE t{number} IS '{'x' * 100_000}'" for number in range(30))
    listing = make_sample(postgres_16, 5000, *statements).dump(store).listing
    assert all(f"TABLE public t{number} postgres" in listing for number in range(30))


def test_a_lister_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.head_listing.PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr("tasks.head_listing.BACKLOG_BYTES", MIB)
    with (
        pytest.raises(PermanentError, match="held up the dump"),
        HeadListing(["/bin/sleep", "60"], ENVIRONMENT) as listing,
    ):
        for _ in range(10):
            listing.see(memoryview(bytes(MIB)))


def test_a_lister_that_has_read_enough_takes_no_more() -> None:
    with HeadListing(["/usr/bin/head", "-c", "5"], ENVIRONMENT) as listing:
        for _ in range(50):
            listing.see(memoryview(b"hello" + bytes(MIB)))
        assert listing.finish() == "hello"
