"""A process's output on its way to S3: read, hashed, compressed, hashed again, cut into segments. One pass, flat memory, no copy on disk."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable

import zstandard

from core.errors import PermanentError
from core.manifest import Segment, StoredPart
from core.segments import segment_key, segment_limit
from tasks.object_store import ObjectStore, Reader

OnBytes = Callable[[int, int], None]
BLOCK_BYTES = 1024 * 1024
REPORT_SECONDS = 0.5
COMPRESSION_THREADS = 2
# Rows repeat keys and phrases at distances beyond zstd's usual window and index. With this window, a whole one carried from job to job (zstd carries an eighth)
# and this index, level 1 stores nearly as little as the usual level 3 for 0.6 of its processor time and about 50 MiB of memory. An index twice as large leaves
# many a processor's second cache: 6 % smaller, a third more time (docs/performance.md).
WINDOW_LOG, WHOLE_WINDOW, HASH_LOG = 22, 9, 16
JOB_BYTES = 8 * 1024 * 1024
CAPTURE_BYTES = 64 * 1024 * 1024


class Meter:
    """Adds up the bytes of one dump's streams and reports the totals at most twice a second."""

    def __init__(self, on_bytes: OnBytes | None) -> None:
        self._on_bytes = on_bytes
        self._plain = self._stored = 0
        self._next = 0.0

    def add(self, plain: int, stored: int) -> None:
        """Add to the totals. From several threads a report may miss some bytes; the last one does not."""
        self._plain += plain
        self._stored += stored
        now = time.monotonic()
        if self._on_bytes is not None and now >= self._next:
            self._next = now + REPORT_SECONDS
            self._on_bytes(self._plain, self._stored)

    def finish(self) -> None:
        """Report the totals once more."""
        if self._on_bytes is not None:
            self._on_bytes(self._plain, self._stored)


class CompressedStream:
    """Reads plain bytes and gives one zstd frame with a content checksum."""

    def __init__(
        self,
        fill: Callable[[memoryview], int],
        *,
        level: int,
        meter: Meter,
        see: Callable[[memoryview], None] | None = None,
        at_end: Callable[[], None],
        threads: int = COMPRESSION_THREADS,
    ) -> None:
        """Given where the bytes come from, prepare to read.

        Args:
            fill: puts bytes into a buffer and returns how many; 0 at the end.
            level: zstd's level, 1 to 19.
            see: shown each plain block, which it must copy to keep.
            at_end: called once when the plain bytes have ended and before the last compressed ones are given: raises when they are not all, so that
                what is uploaded is never completed.
            threads: that compress beside the caller's; 0: none.
        """
        self._fill, self._see, self._at_end, self._meter = fill, see, at_end, meter
        self._compressor = zstandard.ZstdCompressor(compression_params=_parameters(level, threads)).compressobj()
        self._buffer = memoryview(bytearray(BLOCK_BYTES))
        self._ready: deque[bytes] = deque()
        self._ended = False
        self.plain_bytes = self.stored_bytes = 0
        self.plain_hash, self.stored_hash = hashlib.sha256(), hashlib.sha256()

    @property
    def exhausted(self) -> bool:
        """Whether all has been read. Looks for more, and so raises what `read` raises."""
        return not self._look()

    def read(self, size: int) -> bytes:
        """Return at most `size` compressed bytes, none at the end. Raise what `fill` and `at_end` raise."""
        if not self._look():
            return b""
        block = self._ready.popleft()
        if len(block) > size:
            self._ready.appendleft(block[size:])
            block = block[:size]
        self.stored_hash.update(block)
        self.stored_bytes += len(block)
        self._meter.add(0, len(block))
        return block

    def _look(self) -> bool:
        while not self._ready and not self._ended:
            self._step()
        return bool(self._ready)

    def _step(self) -> None:
        filled = self._fill_block()
        if filled == 0:
            self._at_end()
            self._ended = True
            self._ready.append(self._compressor.flush())
            return
        block = self._buffer[:filled]
        self.plain_hash.update(block)
        self.plain_bytes += filled
        self._meter.add(filled, 0)
        if self._see is not None:
            self._see(block)
        if compressed := self._compressor.compress(block):
            self._ready.append(compressed)

    def _fill_block(self) -> int:
        # A pipe gives what is there; whole blocks cost fewer calls of everything after it.
        filled = 0
        while filled < BLOCK_BYTES and (got := self._fill(self._buffer[filled:])):
            filled += got
        return filled


def _parameters(level: int, threads: int) -> zstandard.ZstdCompressionParameters:
    usual = zstandard.ZstdCompressionParameters.from_level(level)
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        window_log=max(WINDOW_LOG, usual.window_log),
        hash_log=max(HASH_LOG, usual.hash_log),
        write_checksum=True,
        write_content_size=False,
        **({"threads": threads, "job_size": JOB_BYTES, "overlap_log": WHOLE_WINDOW} if threads else {}),
    )


class SegmentReader:
    """The next at most `limit` bytes of a stream, hashed by themselves too."""

    def __init__(self, stream: CompressedStream, limit: int, *, first: bool) -> None:
        self._stream, self._left = stream, limit
        # The first segment's hash is the stream's own until then: a stream of one segment is hashed once.
        self._hash = None if first else hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the segment's end."""
        block = self._stream.read(min(size, self._left)) if self._left else b""
        self._left -= len(block)
        if self._hash is not None:
            self._hash.update(block)
        return block

    def sha256(self) -> str:
        """The hash of what was read, to be asked for before the stream goes on."""
        return (self._hash or self._stream.stored_hash).hexdigest()


def store_stream(
    store: ObjectStore, backup_folder: str, relative: str, stream: CompressedStream, *, name: str, segment_bytes: int
) -> StoredPart:
    """Given a stream, upload it in segments to BACKUP_FOLDER/RELATIVE/ and return its record. What an error leaves is the caller's to remove."""
    limit = segment_limit(segment_bytes, store.part_bytes)
    segments: list[Segment] = []
    while not segments or not stream.exhausted:
        key = segment_key(relative, len(segments))
        reader: Reader = (segment := SegmentReader(stream, limit, first=not segments))
        stored = store.upload(backup_folder + key, reader)
        segments.append(Segment(key=key, stored_bytes=stored, stored_sha256=segment.sha256()))
    return StoredPart(
        name=name,
        segments=tuple(segments),
        stored_bytes=stream.stored_bytes,
        stored_sha256=stream.stored_hash.hexdigest(),
        plain_bytes=stream.plain_bytes,
        plain_sha256=stream.plain_hash.hexdigest(),
    )


class Capture:
    """Keeps a copy of a short stream."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.content = bytearray()

    def see(self, block: memoryview) -> None:
        """Keep a block. Raise PermanentError past 64 MiB: then it is not a short stream."""
        if len(self.content) + len(block) > CAPTURE_BYTES:
            raise PermanentError("keep the text", self._what, "it is longer than 64 MiB")
        self.content += block
