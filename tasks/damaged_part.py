"""Negative controls of the stored stream: one part of a real backup is held in memory, damaged there, and read as a decode reads it. Nothing is written anywhere."""

import hashlib
from collections.abc import Mapping
from typing import cast

import zstandard

from core.errors import IntegrityError
from core.manifest import Manifest, Segment, StoredPart
from core.negative_controls import PART_BYTES, choose_part, fits_in_memory, flipped
from core.restore_record import Control
from tasks.compressed_stream import Meter
from tasks.object_reader import BLOCK_BYTES
from tasks.object_store import ObjectStore
from tasks.stored_stream import Source, read_part

# Of a part that is too large as a whole: so much is fetched, and so much of it unpacked.
HEAD_BYTES, PLAIN_BYTES = PART_BYTES // 8, PART_BYTES // 4
PLAIN_CHECKSUM_TELLS = "the plain bytes' SHA-256 is"
_LEVEL = 1


class _MemoryReader:
    """What is used of tasks.object_reader.ObjectReader, over bytes."""

    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        block = self._content[self._position : self._position + size]
        self._position += len(block)
        return block

    def close(self) -> None:
        """Nothing is open."""


class _MemoryStore:
    """What is used of tasks.object_store.ObjectStore to read a part back, over a few objects in memory."""

    bucket = "memory"

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects

    def open_reader(self, key: str, *, stored_bytes: int | None) -> _MemoryReader:
        content = self._objects[key]
        if stored_bytes is not None and stored_bytes != len(content):
            raise IntegrityError("read", f"memory/{key}", f"it has {len(content)} bytes, {stored_bytes} were recorded")
        return _MemoryReader(content)


def stream_controls(store: ObjectStore, folder: str, manifest: Manifest, *, rotation: int) -> tuple[Control, ...]:
    """Given a backup's folder (with a slash at its end), flip one stored byte, then one plain byte, of the part whose turn it is; return whether each was seen.

    At most 16 MiB are held: of a larger part its beginning, compressed again as a small part of its own. The undamaged one must pass first. For the plain byte all that
    is stored agrees with its record, so that the plain bytes' checksum alone can tell. Raise what reading from S3 raises.
    """
    part = choose_part((manifest.globals, *manifest.archive.parts), rotation)
    if part is None:
        return _untried("the backup", "it has no part with content")
    on = part.name
    if fits_in_memory(part):
        objects = {segment.key: _fetch(store, folder, segment, segment.stored_bytes) for segment in part.segments}
    else:
        plain = _head(_fetch(store, folder, part.segments[0], HEAD_BYTES))
        if not plain:
            return _untried(on, "its beginning could not be decompressed")
        part, objects = _recompressed(part, plain, plain)
        on = f"the first {len(plain)} bytes of {on}"
    if (found := _read(part, objects)) is not None:
        return _untried(on, f"it does not pass undamaged: {found}")
    return _flip_stored(part, objects, on, rotation), _flip_plain(part, objects, on, rotation)


def _untried(on: str, why: str) -> tuple[Control, ...]:
    how = f"no part could be damaged: {why}"
    return (
        Control(name="stored byte flipped", on=on, detected=False, how=how),
        Control(name="plain byte flipped", on=on, detected=False, how=how),
    )


def _fetch(store: ObjectStore, folder: str, segment: Segment, limit: int) -> bytes:
    """The first bytes of a segment, at most `limit`."""
    reader = store.open_reader(folder + segment.key, stored_bytes=segment.stored_bytes)
    content = bytearray()
    try:
        while len(content) < limit and (block := reader.read(min(BLOCK_BYTES, limit - len(content)))):
            content += block
    finally:
        reader.close()
    return bytes(content)


def _head(stored: bytes) -> bytes:
    """The plain bytes at the beginning of a frame that is cut off, at most PLAIN_BYTES. What is stored may unpack to a thousand times as much."""
    reader = zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=False)
    plain = bytearray()
    try:
        while len(plain) < PLAIN_BYTES and (block := reader.read(min(BLOCK_BYTES, PLAIN_BYTES - len(plain)))):
            plain += block
    except zstandard.ZstdError:
        # Nothing to damage, then; the decode is who tells that a stream is broken.
        return b""
    return bytes(plain)


def _recompressed(part: StoredPart, plain: bytes, recorded: bytes) -> tuple[StoredPart, dict[str, bytes]]:
    """A small part that holds `plain`, and whose record says so but for the plain checksum, which is that of `recorded`; and its one object."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=False)
    stored = compressor.compress(plain)
    sha256 = hashlib.sha256(stored).hexdigest()
    key = part.segments[0].key
    small = StoredPart(
        name=part.name,
        segments=(Segment(key=key, stored_bytes=len(stored), stored_sha256=sha256),),
        stored_bytes=len(stored),
        stored_sha256=sha256,
        plain_bytes=len(plain),
        plain_sha256=hashlib.sha256(recorded).hexdigest(),
    )
    return small, {key: stored}


def _read(part: StoredPart, objects: Mapping[str, bytes], sink: bytearray | None = None) -> str | None:
    """Read a part from memory as a decode does. Return what was found wrong with it, None for nothing."""
    source = Source(cast("ObjectStore", _MemoryStore(objects)), "", Meter(None))
    try:
        read_part(source, part, lambda block: None if sink is None else sink.extend(block))
    except IntegrityError as error:
        return error.found
    return None


def _flip_stored(part: StoredPart, objects: Mapping[str, bytes], on: str, rotation: int) -> Control:
    segments = [segment for segment in part.segments if segment.stored_bytes]
    key = segments[rotation % len(segments)].key
    damaged, position = flipped(objects[key], rotation)
    found = _read(part, {**objects, key: damaged})
    how = f"stored byte {position} of {key}: {found or 'it passed as good'}"
    return Control(name="stored byte flipped", on=on, detected=found is not None, how=how)


def _flip_plain(part: StoredPart, objects: Mapping[str, bytes], on: str, rotation: int) -> Control:
    plain = bytearray()
    _read(part, objects, plain)
    damaged, position = flipped(bytes(plain), rotation)
    found = _read(*_recompressed(part, damaged, bytes(plain)))
    # Anything else would tell that the control is wrong, not that the checksum works.
    detected = found is not None and found.startswith(PLAIN_CHECKSUM_TELLS)
    return Control(
        name="plain byte flipped",
        on=on,
        detected=detected,
        how=f"plain byte {position}: {found or 'it passed as good'}",
    )
