"""The arithmetic of segments, up to streams of 100 TiB."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.segments import MAXIMUM_PARTS, segment_key, segment_limit, segment_sizes

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4
PARTS = st.integers(5, 32).map(lambda mib: mib * MIB)
SEGMENTS = st.integers(1, 256).map(lambda gib: gib * GIB)


@settings(deadline=None)  # a hundred thousand segments are a list to go through
@given(st.integers(0, 100 * TIB), PARTS, SEGMENTS)
@example(100 * TIB, 5 * MIB, GIB)
def test_no_stream_up_to_100_tib_meets_a_limit_of_s3(stream: int, part: int, segment: int) -> None:
    limit = segment_limit(segment, part)
    sizes = segment_sizes(stream, limit)
    assert sum(sizes) == stream
    assert all(size == limit for size in sizes[:-1])
    assert 0 < limit <= segment
    assert limit % part == 0
    assert all(-(-size // part) <= MAXIMUM_PARTS for size in sizes)
    assert segment_key("dump", len(sizes) - 1)
    # No more segments than needed.
    assert len(sizes) == max(1, -(-stream // limit))


@given(st.integers(1, 50), st.integers(1, 50))
def test_small_limits_keep_the_rules(segment: int, part: int) -> None:
    limit = segment_limit(segment, part)
    assert 1 <= limit <= segment
    assert limit <= part or limit % part == 0


def test_the_defaults_cut_at_10000_parts_of_16_mib() -> None:
    assert segment_limit(256 * GIB, 16 * MIB) == 160_000 * MIB
    assert segment_limit(256 * GIB, 32 * MIB) == 256 * GIB


def test_a_hundred_tib_in_the_smallest_segments_still_have_keys() -> None:
    sizes = segment_sizes(100 * TIB, segment_limit(GIB, 5 * MIB))
    assert len(sizes) > 100_000
    assert segment_key("dump", len(sizes) - 1) == f"dump/{len(sizes) - 1}.zst"


def test_each_index_has_a_key_of_its_own() -> None:
    keys = [segment_key("dump", index) for index in (0, 9, 10, 99_999, 100_000, 999_999)]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "dump/00000.zst"
    with pytest.raises(ValueError, match="1,000,000"):
        segment_key("dump", 1_000_000)
