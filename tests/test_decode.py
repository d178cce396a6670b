"""Reading a backup back: a good one passes, and whatever is wrong with a bad one is named."""

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from core.errors import IntegrityError
from core.manifest import Decoded, Segment, StoredPart
from tasks.decode import decode_backup
from tasks.object_store import ObjectStore
from tests.fix_object_store import FaultProxy
from tests.fix_postgres import PostgresServer
from tests.fix_streams import FOLDER, Sample, StoredSample, manifest_for, with_parts


def clients_of(server: PostgresServer) -> SimpleNamespace:
    return SimpleNamespace(pg_restore=server.bin / "pg_restore")


def decode(stored: StoredSample, **more: Any) -> Decoded:
    clients = clients_of(stored.sample.server)
    return decode_backup(more.pop("store", stored.store), FOLDER, stored.manifest, "0" * 64, clients, **more)


def part_of(stored: StoredSample) -> StoredPart:
    return stored.manifest.archive.parts[0]


def body(stored: StoredSample, index: int) -> bytes:
    return stored.store.get(FOLDER + part_of(stored).segments[index].key)


def replace_body(stored: StoredSample, index: int, content: bytes) -> None:
    stored.store.put(FOLDER + part_of(stored).segments[index].key, content)


def flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("any_postgres", [15, 16, 18], indirect=True)
def test_a_good_backup_decodes_with_the_rows_of_its_snapshot(
    make_sample: Callable[..., Sample], any_postgres: PostgresServer, store: ObjectStore
) -> None:
    sample = make_sample(any_postgres, 1000)
    part, globals_part = sample.dump(store).part, sample.dump_globals(store).part
    manifest = manifest_for((part,), globals_part, sample.rows)
    seen: list[tuple[int, int]] = []
    decoded = decode_backup(
        store, FOLDER, manifest, "ab" * 32, clients_of(any_postgres), on_bytes=lambda *both: seen.append(both)
    )
    assert decoded.manifest_sha256 == "ab" * 32
    assert decoded.tables_counted == len(sample.rows)
    assert decoded.rows_counted == sum(sample.rows.values())
    assert (decoded.plain_bytes, decoded.stored_bytes) == (manifest.plain_bytes, manifest.stored_bytes)
    assert seen[-1] == (manifest.plain_bytes, manifest.stored_bytes)


def test_a_newer_pg_restore_decodes_an_older_dump(stored_sample: StoredSample, postgres_18: PostgresServer) -> None:
    decoded = decode_backup(stored_sample.store, FOLDER, stored_sample.manifest, "0" * 64, clients_of(postgres_18))
    assert decoded.rows_counted == sum(table.rows or 0 for table in stored_sample.manifest.tables)


def test_broken_connections_while_reading_back_do_no_harm(
    stored_sample: StoredSample, s3_faults: FaultProxy, faulty_store: ObjectStore
) -> None:
    fault = s3_faults.cut_body("GET", "00000.zst", body_bytes=1000, times=3)
    decode(stored_sample, store=faulty_store)
    assert fault.hits == 3


def test_every_flipped_bit_is_named_with_its_segment(stored_sample: StoredSample) -> None:
    for index, segment in enumerate(part_of(stored_sample).segments):
        good = body(stored_sample, index)
        size = len(good)
        for position in {0, 3, 5, size // 7, size // 3, size // 2, size - 5, size - 1}:
            replace_body(stored_sample, index, flipped(good, position))
            with pytest.raises(IntegrityError, match=f"{segment.key}.*SHA-256"):
                decode(stored_sample)
        replace_body(stored_sample, index, good)
    decode(stored_sample)


def test_a_flipped_bit_in_the_globals_is_named(stored_sample: StoredSample) -> None:
    key = FOLDER + stored_sample.manifest.globals.segments[0].key
    stored_sample.store.put(key, flipped(stored_sample.store.get(key), 40))
    with pytest.raises(IntegrityError, match=r"globals/00000\.zst.*SHA-256"):
        decode(stored_sample)


@pytest.mark.parametrize("index", [0, 1])
def test_a_cut_off_segment_is_named(stored_sample: StoredSample, index: int) -> None:
    replace_body(stored_sample, index, body(stored_sample, index)[:-1])
    with pytest.raises(IntegrityError, match=rf"0000{index}\.zst.*bytes, .* were recorded"):
        decode(stored_sample)


@pytest.mark.parametrize("index", [0, 1])
def test_a_missing_segment_is_named(stored_sample: StoredSample, index: int) -> None:
    stored_sample.store.delete([FOLDER + part_of(stored_sample).segments[index].key])
    with pytest.raises(IntegrityError, match=rf"0000{index}\.zst.*the segment is missing"):
        decode(stored_sample)


def test_exchanged_segments_are_named(stored_sample: StoredSample) -> None:
    one, two = body(stored_sample, 0), body(stored_sample, 1)
    assert len(one) == len(two)
    replace_body(stored_sample, 0, two)
    replace_body(stored_sample, 1, one)
    with pytest.raises(IntegrityError, match=r"00000\.zst.*SHA-256"):
        decode(stored_sample)


def forged(stored: StoredSample, content: bytes, plain: bytes | None = None) -> StoredSample:
    """A backup whose manifest agrees with other stored bytes: what a mistake of the writer would make."""
    digest = hashlib.sha256(content).hexdigest()
    update: dict[str, Any] = {
        "segments": (Segment(key="dump/00000.zst", stored_bytes=len(content), stored_sha256=digest),),
        "stored_bytes": len(content),
        "stored_sha256": digest,
    }
    if plain is not None:
        update |= {"plain_bytes": len(plain), "plain_sha256": hashlib.sha256(plain).hexdigest()}
    part = part_of(stored).model_copy(update=update)
    stored.store.put(FOLDER + "dump/00000.zst", content)
    return stored.changed(manifest=with_parts(stored.manifest, part))


def stored_bytes(stored: StoredSample) -> bytes:
    return b"".join(body(stored, index) for index in range(len(part_of(stored).segments)))


@pytest.mark.parametrize("cut", [1, 4, 5, 100])
def test_a_stream_that_was_stored_cut_off_is_refused(stored_sample: StoredSample, cut: int) -> None:
    with pytest.raises(IntegrityError, match="the zstd frame does not end"):
        decode(forged(stored_sample, stored_bytes(stored_sample)[:-cut]))


@pytest.mark.parametrize("more", [b"\0", b"more than a frame", zstandard.ZstdCompressor().compress(b"a second frame")])
def test_bytes_after_the_frame_are_refused(stored_sample: StoredSample, more: bytes) -> None:
    with pytest.raises(IntegrityError, match="bytes follow the end of the zstd frame"):
        decode(forged(stored_sample, stored_bytes(stored_sample) + more))


def test_zstds_own_checksum_is_checked(stored_sample: StoredSample) -> None:
    content = stored_bytes(stored_sample)
    with pytest.raises(IntegrityError, match=r"zstd: .*checksum"):
        decode(forged(stored_sample, flipped(content, len(content) - 1)))


def plain_bytes(stored: StoredSample) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(stored_bytes(stored)).read()


def compressed(plain: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, write_checksum=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(plain)


def test_other_plain_bytes_than_recorded_are_refused(stored_sample: StoredSample) -> None:
    plain = plain_bytes(stored_sample)
    changed = flipped(plain, plain.rindex(b"words that repeat"))
    with pytest.raises(IntegrityError, match="plain bytes' SHA-256"):
        decode(forged(stored_sample, compressed(changed)))
    with pytest.raises(IntegrityError, match=r"plain bytes, .* were recorded"):
        decode(forged(stored_sample, compressed(plain + b"\0")))


def test_an_archive_that_pg_restore_cannot_read_to_its_end_is_refused(stored_sample: StoredSample) -> None:
    plain = plain_bytes(stored_sample)[:-3000]
    with pytest.raises(IntegrityError, match="pg_restore ended with exit code 1"):
        decode(forged(stored_sample, compressed(plain), plain))


def test_a_pg_restore_that_hangs_up_before_the_end_is_noticed(stored_sample: StoredSample) -> None:
    plain = plain_bytes(stored_sample) + bytes(3 * 1024 * 1024)
    with pytest.raises(IntegrityError, match="stopped before the archive's end"):
        decode(forged(stored_sample, compressed(plain), plain))


def changed_rows(stored: StoredSample, change: Callable[[dict[tuple[str, str], int]], None]) -> StoredSample:
    rows = dict(stored.sample.rows)
    change(rows)
    tables = manifest_for((), stored.manifest.globals, rows).tables
    return stored.changed(manifest=stored.manifest.model_copy(update={"tables": tables}))


def test_other_rows_than_in_the_snapshot_are_named_with_their_table(stored_sample: StoredSample) -> None:
    changed = changed_rows(stored_sample, lambda rows: rows.update({("public", "parts_low"): 51}))
    with pytest.raises(IntegrityError, match=r"public\.parts_low has 50 rows in the dump, 51 in the snapshot"):
        decode(changed)


def test_tables_that_are_missing_or_too_much_are_named(stored_sample: StoredSample) -> None:
    changed = changed_rows(stored_sample, lambda rows: rows.update({("auth", "lost"): 1}))
    with pytest.raises(IntegrityError, match=r"auth\.lost is missing in the dump"):
        decode(changed)
    changed = changed_rows(stored_sample, lambda rows: rows.__delitem__(("public", "empty")))
    with pytest.raises(IntegrityError, match=r"public\.empty is in the dump and not in the manifest"):
        decode(changed)


def test_rows_that_were_not_counted_are_not_compared(stored_sample: StoredSample) -> None:
    tables = tuple(table.model_copy(update={"rows": None, "mode": "off"}) for table in stored_sample.manifest.tables)
    decoded = decode(stored_sample.changed(manifest=stored_sample.manifest.model_copy(update={"tables": tables})))
    assert decoded.tables_counted == len(tables)


def test_globals_without_their_last_line_are_refused(stored_sample: StoredSample) -> None:
    content = compressed(b"CREATE ROLE half")
    digest = hashlib.sha256(content).hexdigest()
    segment = Segment(key="globals/00000.zst", stored_bytes=len(content), stored_sha256=digest)
    part = StoredPart(
        name="globals.sql",
        segments=(segment,),
        stored_bytes=len(content),
        stored_sha256=digest,
        plain_bytes=16,
        plain_sha256=hashlib.sha256(b"CREATE ROLE half").hexdigest(),
    )
    stored_sample.store.put(FOLDER + "globals/00000.zst", content)
    changed = stored_sample.changed(manifest=stored_sample.manifest.model_copy(update={"globals": part}))
    with pytest.raises(IntegrityError, match="pg_dumpall's last line is missing"):
        decode(changed)


def test_no_child_and_no_file_outlives_a_decode_that_fails(stored_sample: StoredSample) -> None:
    from tasks import children

    replace_body(stored_sample, 0, flipped(body(stored_sample, 0), 1000))
    with pytest.raises(IntegrityError):
        decode(stored_sample)
    assert not children._running
