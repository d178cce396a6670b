"""Negative controls on a stored part: a flipped byte is seen, a reader that is blind is found out, and the bucket is only read."""

import hashlib

import pytest

from core.errors import IntegrityError
from core.manifest import Manifest, Segment, StoredPart
from core.negative_controls import PART_BYTES
from tasks import damaged_part
from tasks.compressed_stream import CompressedStream, Meter, store_stream
from tasks.damaged_part import HEAD_BYTES, PLAIN_BYTES
from tasks.negative_controls import stream_controls
from tasks.object_store import ObjectStore
from tasks.stored_stream import read_part
from tests.fix_object_store import FaultProxy
from tests.fix_streams import FOLDER, StoredSample, with_parts

NAMES = ["stored byte flipped", "plain byte flipped"]


def stored(store: ObjectStore, name: str, content: bytes) -> StoredPart:
    """A part with this content, as a backup stores it."""
    position = 0

    def fill(buffer: memoryview) -> int:
        nonlocal position
        block = content[position : position + len(buffer)]
        buffer[: len(block)] = block
        position += len(block)
        return len(block)

    stream = CompressedStream(fill, level=1, meter=Meter(None), at_end=lambda: None, threads=0)
    return store_stream(store, FOLDER, name, stream, name=name, segment_bytes=10**9)


def test_both_flips_are_seen_in_every_part(stored_sample: StoredSample) -> None:
    seen = set()
    for rotation in range(4):
        found = stream_controls(stored_sample.store, FOLDER, stored_sample.manifest, rotation=rotation)
        assert [control.name for control in found] == NAMES
        assert all(control.detected for control in found), found
        seen |= {control.on for control in found}
    assert seen == {"globals.sql", "dump.pgdump"}


def test_the_plain_checksum_alone_tells_a_flipped_plain_byte(stored_sample: StoredSample) -> None:
    _, plain = stream_controls(stored_sample.store, FOLDER, stored_sample.manifest, rotation=3)
    assert "the plain bytes' SHA-256 is" in plain.how


@pytest.fixture
def large(stored_sample: StoredSample) -> Manifest:
    """A backup whose dump is too large to hold: half of it noise, so that it stays large when stored."""
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(HEAD_BYTES // 16))
    part = stored(stored_sample.store, "large", noise + bytes(PART_BYTES))
    assert part.stored_bytes > HEAD_BYTES
    return with_parts(stored_sample.manifest, part)


def test_of_a_large_part_only_the_head_is_taken(
    stored_sample: StoredSample,
    large: Manifest,
    faulty_store: ObjectStore,
    s3_faults: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[int] = []
    fetch = damaged_part._fetch

    def noted(store: ObjectStore, folder: str, segment: Segment, limit: int) -> bytes:
        content = fetch(store, folder, segment, limit)
        taken.append(len(content))
        return content

    monkeypatch.setattr(damaged_part, "_fetch", noted)
    found = stream_controls(faulty_store, FOLDER, large, rotation=1)
    assert all(control.detected for control in found), found
    assert "bytes of large" in found[0].on
    assert taken == [HEAD_BYTES]
    assert int(found[0].on.split()[2]) <= PLAIN_BYTES
    # Read, and nothing else.
    assert {method for method, _path in s3_faults.requests} == {"GET"}


def test_a_part_that_unpacks_to_very_much_is_cut_too(stored_sample: StoredSample) -> None:
    part = stored(stored_sample.store, "zeroes", bytes(2 * PART_BYTES))
    found = stream_controls(stored_sample.store, FOLDER, with_parts(stored_sample.manifest, part), rotation=1)
    assert all(control.detected for control in found), found
    assert found[0].on == f"the first {PLAIN_BYTES} bytes of zeroes"


def test_a_reader_that_is_blind_is_found_out(stored_sample: StoredSample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damaged_part, "read_part", lambda _source, _part, sink: sink(memoryview(b"some plain bytes")))
    found = stream_controls(stored_sample.store, FOLDER, stored_sample.manifest, rotation=0)
    assert [control.detected for control in found] == [False, False]
    assert "it passed as good" in found[0].how


def test_a_reader_that_refuses_everything_is_found_out(
    stored_sample: StoredSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise IntegrityError("read", "all", "no")

    monkeypatch.setattr(damaged_part, "read_part", refuse)
    found = stream_controls(stored_sample.store, FOLDER, stored_sample.manifest, rotation=0)
    assert [control.name for control in found] == NAMES
    assert not any(control.detected for control in found)
    assert "it does not pass undamaged: no" in found[0].how


def test_a_reader_without_the_plain_checksum_is_found_out(
    stored_sample: StoredSample, monkeypatch: pytest.MonkeyPatch
) -> None:

    def without_it(source: object, part: StoredPart, sink: object) -> None:
        try:
            read_part(source, part, sink)  # type: ignore[arg-type]
        except IntegrityError as error:
            if "plain bytes' SHA-256" not in error.found:
                raise

    monkeypatch.setattr(damaged_part, "read_part", without_it)
    found = stream_controls(stored_sample.store, FOLDER, stored_sample.manifest, rotation=0)
    assert [control.detected for control in found] == [True, False]


def test_a_stored_part_that_is_damaged_already_proves_nothing(stored_sample: StoredSample) -> None:
    key = FOLDER + stored_sample.manifest.globals.segments[0].key
    content = stored_sample.store.get(key)
    stored_sample.store.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    found = stream_controls(stored_sample.store, FOLDER, stored_sample.manifest, rotation=0)
    assert not any(control.detected for control in found)
