"""Reading a stored stream back from its segments, and proving on the way that it is what was recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard

from core.errors import DamageError
from core.manifest import Segment, StoredPart
from core.zstd_frame import FrameWalker
from tasks.compressed_stream import Meter
from tasks.object_store import ObjectMissingError, ObjectReader, ObjectStore

BLOCK_BYTES = 1024 * 1024
Sink = Callable[[memoryview], object]


@dataclass(frozen=True)
class Source:
    """A backup's folder (with a slash at its end) in the bucket, and the meter of what is read from it."""

    store: ObjectStore
    folder: str
    meter: Meter

    @property
    def where(self) -> str:
        """The folder's address, for messages."""
        return f"s3://{self.store.bucket}/{self.folder}"


class StoredStream:
    """The stored bytes of a part, its segments one after the other, each compared with its record when it ends."""

    def __init__(self, source: Source, part: StoredPart) -> None:
        self._source, self._part = source, part
        self._waiting: Iterator[Segment] = iter(part.segments)
        self._segment: Segment | None = None
        self._reader: ObjectReader | None = None
        self._segment_hash = hashlib.sha256()
        self._whole_hash = hashlib.sha256()
        self._given = 0
        self._frame = FrameWalker()
        self._frame_error: ValueError | None = None

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """Return at most `size` bytes, none at the end. Raise DamageError naming the segment that is missing or differs, or the part."""
        if self._given == self._part.stored_bytes:
            return b""
        block = self._next_block(size)
        self._given += len(block)
        if self._given == self._part.stored_bytes:
            self._end()
        try:
            self._frame.feed(block)
        except ValueError as error:
            # A checksum names the segment; only when all of them agree was a bad stream recorded.
            self._frame_error = self._frame_error or error
        return block

    def drain(self) -> None:
        """Read the rest, only to see which segment is not what was recorded. Raises as `read` does."""
        while self.read():
            pass

    def require_one_frame(self) -> None:
        """Given that all has been read, raise DamageError when it is not exactly one zstd frame with a content checksum."""
        if self._frame_error is not None:
            raise self._differs(self._part.name, str(self._frame_error)) from self._frame_error
        if not self._frame.ended:
            raise self._differs(self._part.name, "the zstd frame does not end: the stream is cut off")

    def close(self) -> None:
        """Give up the connection."""
        if self._reader is not None:
            self._reader.close()

    def _next_block(self, size: int) -> bytes:
        while True:
            if self._reader is None or self._segment is None:
                self._open(next(self._waiting, None))
                continue
            try:
                block = self._reader.read(min(size, BLOCK_BYTES))
            except ObjectMissingError as error:
                raise self._differs(self._segment.key, "the segment is missing") from error
            if block:
                break
            self._end_segment(self._segment)
        self._segment_hash.update(block)
        self._whole_hash.update(block)
        self._source.meter.add(0, len(block))
        return block

    def _open(self, segment: Segment | None) -> None:
        if segment is None:
            raise self._differs(
                self._part.name, f"its segments have {self._given} bytes, not {self._part.stored_bytes}"
            )
        self._segment, self._segment_hash = segment, hashlib.sha256()
        self._reader = self._source.store.open_reader(
            self._source.folder + segment.key, stored_bytes=segment.stored_bytes
        )

    def _end_segment(self, segment: Segment) -> None:
        self.close()
        self._reader = None
        found = self._segment_hash.hexdigest()
        if found != segment.stored_sha256:
            raise self._differs(
                segment.key, f"the stored bytes' SHA-256 is {found}, {segment.stored_sha256} was recorded"
            )

    def _end(self) -> None:
        if self._segment is not None:
            self._end_segment(self._segment)
        found = self._whole_hash.hexdigest()
        if found != self._part.stored_sha256:
            raise self._differs(
                self._part.name, f"the stored bytes' SHA-256 is {found}, {self._part.stored_sha256} was recorded"
            )
        if (more := next(self._waiting, None)) is not None:
            raise self._differs(more.key, f"it lies past the {self._part.stored_bytes} bytes of {self._part.name}")

    def _differs(self, what: str, found: str) -> DamageError:
        return DamageError("read the backup back", f"{self._source.where}{what}", found, "Do not rely on it")


def read_part(source: Source, part: StoredPart, sink: Sink, still_wanted: Callable[[], bool] = lambda: True) -> None:
    """Read a part back, give its plain bytes to `sink` in blocks, and compare everything that its record says.

    When `still_wanted` says no (whoever takes the plain bytes has given up), the rest is read for its checksums alone.
    Raise DamageError naming what differs: a segment's presence, size or SHA-256, the whole's, zstd's frame or checksum, the plain size or SHA-256.
    """
    stored = StoredStream(source, part)
    plain_hash, plain_bytes = hashlib.sha256(), 0
    buffer = memoryview(bytearray(BLOCK_BYTES))
    where = f"{source.where}, {part.name}"
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(
            cast("IO[bytes]", stored), read_size=BLOCK_BYTES, read_across_frames=False
        )
        while size := reader.readinto(buffer):
            block = buffer[:size]
            plain_hash.update(block)
            plain_bytes += size
            source.meter.add(size, 0)
            if still_wanted():
                sink(block)
        stored.drain()
        stored.require_one_frame()
    except zstandard.ZstdError as error:
        # A checksum names the segment, which zstd cannot; and its words on what follows a frame are none.
        stored.drain()
        stored.require_one_frame()
        raise DamageError("decode the backup", where, f"zstd: {error}") from error
    finally:
        stored.close()
    if plain_bytes != part.plain_bytes:
        raise DamageError(
            "decode the backup", where, f"it has {plain_bytes} plain bytes, {part.plain_bytes} were recorded"
        )
    if (found := plain_hash.hexdigest()) != part.plain_sha256:
        raise DamageError(
            "decode the backup", where, f"the plain bytes' SHA-256 is {found}, {part.plain_sha256} was recorded"
        )
