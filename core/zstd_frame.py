"""Where a zstd frame ends, found by walking over its block headers (RFC 8878, section 3.1.1): to prove that a stored stream is exactly one frame.

A decoder alone does not tell: it stops silently at a frame's end, whatever follows, and hands out all data of a frame whose checksum is cut off.
"""

MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY_ID_BYTES = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_BLOCK_HEADER_BYTES = 3
_CHECKSUM_BYTES = 4
_RUN_LENGTH_BLOCK = 1
_RESERVED_BLOCK = 3


class FrameWalker:
    """Fed with a stored stream in pieces. `ended` tells whether the frame's last byte was the last one fed."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._missing = len(MAGIC) + 1
        self._skip = 0
        self._step = self._begin
        self.ended = False

    def feed(self, piece: bytes) -> None:
        """Take the next piece. Raise ValueError when it is no zstd frame, the frame has no content checksum, or bytes follow its end."""
        position = 0
        while position < len(piece):
            if self.ended:
                raise ValueError(f"bytes follow the end of the zstd frame (at least {len(piece) - position})")
            if self._skip:
                taken = min(self._skip, len(piece) - position)
                self._skip -= taken
            else:
                taken = min(self._missing - len(self._header), len(piece) - position)
                self._header += piece[position : position + taken]
                if len(self._header) == self._missing:
                    self._step()
            position += taken
            if not self._skip and not self._missing:
                self.ended = True

    def _begin(self) -> None:
        """Magic number and descriptor are here: go on past the rest of the frame's header."""
        if bytes(self._header[: len(MAGIC)]) != MAGIC:
            raise ValueError("not a zstd frame")
        descriptor = self._header[len(MAGIC)]
        if not descriptor & 0b100:
            raise ValueError("the zstd frame has no content checksum")
        single_segment = bool(descriptor & 0b100000)
        content_size = _CONTENT_SIZE_BYTES[descriptor >> 6] or int(single_segment)
        self._skip = int(not single_segment) + _DICTIONARY_ID_BYTES[descriptor & 0b11] + content_size
        self._expect_block()

    def _expect_block(self) -> None:
        self._header.clear()
        self._missing, self._step = _BLOCK_HEADER_BYTES, self._block

    def _block(self) -> None:
        """A block's header is here: go on past its content, and past the checksum when it is the last one."""
        number = int.from_bytes(self._header, "little")
        last, kind, size = number & 1, number >> 1 & 0b11, number >> 3
        if kind == _RESERVED_BLOCK:
            raise ValueError("not a zstd frame: a block of a reserved type")
        self._skip = 1 if kind == _RUN_LENGTH_BLOCK else size
        self._expect_block()
        if last:
            self._skip += _CHECKSUM_BYTES
            self._missing = 0
