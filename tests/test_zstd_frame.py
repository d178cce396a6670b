"""Where a zstd frame ends, against frames that the real compressor makes."""

import secrets

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from core.zstd_frame import FrameWalker


def frame(content: bytes, *, level: int = 3, threads: int = 0, checksum: bool = True, size: bool = False) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, threads=threads, write_checksum=checksum, write_content_size=size
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def walk(stored: bytes, step: int) -> FrameWalker:
    walker = FrameWalker()
    for start in range(0, len(stored), step):
        walker.feed(stored[start : start + step])
    return walker


CONTENTS = [b"", b"x", bytes(3_000_000), secrets.token_bytes(400_000), b"words and words " * 50_000]


@pytest.mark.parametrize("content", CONTENTS, ids=["empty", "one byte", "zeros", "noise", "words"])
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("size", [False, True])
def test_the_end_of_a_frame_is_found(content: bytes, threads: int, size: bool) -> None:
    stored = frame(content, threads=threads, size=size)
    for step in (1, 3, 1000, len(stored)):
        assert walk(stored, max(step, len(stored) // 2000)).ended
    for cut in (1, 4, 5, len(stored) // 2):
        assert not walk(stored[:-cut], 1000).ended


@settings(deadline=None)  # a busy machine is no mistake
@given(st.binary(max_size=300), st.integers(1, 20), st.integers(1, 22))
def test_frames_of_any_content_end_where_they_end(content: bytes, step: int, level: int) -> None:
    stored = frame(content, level=min(level, 19), size=bool(step % 2))
    assert walk(stored, step).ended
    with pytest.raises(ValueError, match="follow the end"):
        walk(stored + b"\0", step)


def test_a_second_frame_is_too_much() -> None:
    with pytest.raises(ValueError, match="bytes follow the end of the zstd frame"):
        walk(frame(b"one") + frame(b"two"), 1000)


def test_what_is_no_frame_or_has_no_checksum_is_refused() -> None:
    with pytest.raises(ValueError, match="not a zstd frame"):
        walk(b"PGDMP" * 10, 7)
    with pytest.raises(ValueError, match="no content checksum"):
        walk(frame(b"x", checksum=False), 7)
