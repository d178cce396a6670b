"""Reading an object as a stream that survives a broken connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from core.errors import DamageError, IntegrityError, PermanentError, TemporaryError
from tasks.s3_client import ATTEMPTS, error_code, s3_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BLOCK_BYTES = 1024 * 1024


class ObjectMissingError(PermanentError):
    """The object is not there."""


class ObjectReader:
    """Reads one version of an object from its beginning to its end, in blocks.

    After a broken connection it goes on where it was (Range), of the same version (If-Match on the ETag of the first answer).
    """

    def __init__(self, client: S3Client, bucket: str, key: str, *, stored_bytes: int | None) -> None:
        """Given the size that was recorded (None: any), prepare to read. No request is made before the first read."""
        self._client, self._bucket, self._key = client, bucket, key
        self._expected = stored_bytes
        self._on = f"s3://{bucket}/{key}"
        self._etag: str | None = None
        self._size = 0
        self._position = 0
        self._body: Any = None

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """Return at least one and at most `size` bytes; none at the end.

        Raise ObjectMissingError, IntegrityError (its size is not the recorded one, or it was replaced meanwhile), TemporaryError (S3 does not answer).
        """
        if self._etag is not None and self._position == self._size:
            self.close()
            return b""
        repeated = Retrying(
            retry=retry_if_exception_type(TemporaryError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=10, jitter=0.2),
            reraise=True,
        )
        return repeated(self._read_block, size)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the rest in blocks."""
        return iter(self.read, b"")

    def close(self) -> None:
        """Give the connection back, whatever was read of it."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _read_block(self, size: int) -> bytes:
        try:
            if self._body is None:
                self._open()
            block: bytes = self._body.read(min(size, self._size - self._position)) if self._size else b""
        except (BotoCoreError, ClientError) as error:
            self.close()
            raise self._meaning(error) from error
        if not block and self._size:
            self.close()
            raise TemporaryError("read", self._on, f"the connection ended at byte {self._position} of {self._size}")
        self._position += len(block)
        return block

    def _open(self) -> None:
        where: dict[str, Any] = {"Bucket": self._bucket, "Key": self._key}
        if self._etag is not None:
            where |= {"IfMatch": self._etag, "Range": f"bytes={self._position}-"}
        answer = self._client.get_object(**where)
        self._body = answer["Body"]
        if self._etag is not None:
            self._refuse_whole_object(answer)
            return
        self._etag, self._size = answer["ETag"], answer["ContentLength"]
        if self._expected is not None and self._size != self._expected:
            self.close()
            raise DamageError("read", self._on, f"it has {self._size} bytes, {self._expected} were recorded")

    def _refuse_whole_object(self, answer: Any) -> None:
        if self._position and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            self.close()
            raise PermanentError(
                "go on reading", self._on, "the S3 service ignores Range", "Use a service that implements it"
            )

    def _meaning(self, error: BotoCoreError | ClientError) -> Exception:
        code = error_code(error) if isinstance(error, ClientError) else ""
        if code in {"NoSuchKey", "NotFound"}:
            return ObjectMissingError("read", self._on, "no such object")
        if code in {"PreconditionFailed", "InvalidRange"}:
            return IntegrityError("go on reading", self._on, "it was replaced while it was read")
        if not isinstance(error, ClientError) and self._body_broke(error):
            return TemporaryError("read", self._on, f"broken at byte {self._position}: {error}")
        return s3_error(error, "read", self._on)

    @staticmethod
    def _body_broke(error: BotoCoreError) -> bool:
        return type(error).__name__ in {"IncompleteReadError", "ResponseStreamingError", "ReadTimeoutError"}
