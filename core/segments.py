"""How a stored stream is cut into S3 objects: before an object would exceed the segment size or 10,000 parts. No stream is too long.

S3's own limits (user guide, "Amazon S3 multipart upload limits"): 10,000 parts an object, parts of 5 MiB to 5 GiB, all equal but the last.
"""

MAXIMUM_PARTS = 10_000
MAXIMUM_SEGMENTS = 1_000_000
SUFFIX = ".zst"


def segment_limit(segment_bytes: int, part_bytes: int) -> int:
    """Given the longest segment that is wished for and the part size, return how many bytes a segment may have. At least one byte.

    When the limit is above one part it is a whole number of parts, so that only a stream's very last part is short.
    """
    if segment_bytes < 1 or part_bytes < 1:
        raise ValueError("sizes are positive")
    limit = min(segment_bytes, MAXIMUM_PARTS * part_bytes)
    return limit if limit <= part_bytes else limit - limit % part_bytes


def segment_key(folder: str, index: int) -> str:
    """The key of segment `index` of the stream that lies in a folder, relative as the folder is: `dump/00000.zst`.

    A million segments of 1 GiB, the smallest that an environment can ask for, are nearly a PiB. Their order is the manifest's, not that of the keys.
    """
    if not 0 <= index < MAXIMUM_SEGMENTS:
        raise ValueError("a stream has at most 1,000,000 segments")
    return f"{folder}/{index:05d}{SUFFIX}"


def segment_sizes(stream_bytes: int, limit: int) -> list[int]:
    """Given a stream's length and the segments' limit, return each segment's size. An empty stream has one empty segment."""
    full, rest = divmod(stream_bytes, limit)
    return [limit] * full + ([rest] if rest or not full else [])
