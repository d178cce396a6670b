"""Uploading a stream of unknown length: one PUT when it is short, else a multipart upload; bounded memory, nothing left behind by a failure.

Made of boto3's plain operations rather than its transfer manager: a completion whose answer was lost, an abort that failed itself and a reader
that raises at end-of-file need to be told apart, and bodies given as `bytes` cost less than its file-like ones (no 100-continue round trip, no
16 KiB reads in Python).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from core.errors import NightshiftError, PermanentError
from tasks.s3_client import error_code, s3_error, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

# Parts under way while the next one is filled: a stream holds three parts in memory.
UPLOADS_AT_ONCE = 2
S3_MAXIMUM_PARTS = 10_000


class Reader(Protocol):
    """What can be uploaded."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end. Raising, also at the end, makes the upload fail."""


def parts_of(reader: Reader, part_bytes: int) -> Iterator[bytes]:
    """Given a reader, yield blocks of exactly `part_bytes`, the last one shorter; one empty block when there is nothing."""
    first = True
    while True:
        # A list of pieces that is joined would hold the part twice; BytesIO gives its own buffer away.
        part = io.BytesIO()
        missing = part_bytes
        while missing and (piece := reader.read(missing)):
            part.write(piece)
            missing -= len(piece)
        content = part.getvalue()
        del part
        if content or first:
            yield content
        del content
        first = False
        if missing:
            return


class StreamUpload:
    """One upload to one key."""

    def __init__(self, client: S3Client, bucket: str, key: str, arguments: dict[str, Any]) -> None:
        """Given PutObject's further arguments (encryption, storage class, lock, checksum algorithm), prepare an upload."""
        self._client, self._bucket, self._key, self._arguments = client, bucket, key, arguments
        self._on = f"s3://{bucket}/{key}"
        self._upload_id = ""
        self._sent = 0

    def run(self, reader: Reader, part_bytes: int, remove_remains: Callable[[], None]) -> int:
        """Upload all that the reader gives and return how many bytes this was.

        On any failure, the reader's included, `remove_remains` is called before the error goes on: nothing of the key is left.
        """
        try:
            parts = parts_of(reader, part_bytes)
            # A list, so that the first part is not held here for the whole upload.
            first = [next(parts)]
            if len(first[0]) < part_bytes:
                self._put(first.pop())
            else:
                self._multipart(first, parts)
        except BaseException:
            try:
                remove_remains()
            except NightshiftError as error:
                logger.warning("the remains of a failed upload stay until a later sweep: %s", error)
            raise
        return self._sent

    def _put(self, body: bytes) -> None:
        with s3_errors("upload", self._on):
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, **self._arguments)
        self._sent = len(body)

    def _multipart(self, first: list[bytes], rest: Iterator[bytes]) -> None:
        with s3_errors("begin a multipart upload", self._on):
            created = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key, **self._arguments)
        self._upload_id = created["UploadId"]
        under_way: set[Future[dict[str, Any]]] = set()
        finished: list[dict[str, Any]] = []
        # Leaving the block joins the threads, also after an error: no part can arrive after the abort.
        with ThreadPoolExecutor(UPLOADS_AT_ONCE + 1, thread_name_prefix="upload") as threads:
            number = 1
            body: bytes | None = first.pop()
            while body is not None:
                if number > S3_MAXIMUM_PARTS:
                    raise PermanentError("upload", self._on, "more than 10,000 parts", "Raise backups.part_mib")
                under_way.add(threads.submit(self._send, number, body))
                self._sent += len(body)
                body = None  # not held while the next one is read
                under_way = self._collect(under_way, finished, at_most=UPLOADS_AT_ONCE)
                body, number = next(rest, None), number + 1
            self._collect(under_way, finished, at_most=0)
        self._complete(sorted(finished, key=lambda part: int(part["PartNumber"])))

    @staticmethod
    def _collect(
        under_way: set[Future[dict[str, Any]]], finished: list[dict[str, Any]], *, at_most: int
    ) -> set[Future[dict[str, Any]]]:
        """Wait until at most so many parts are under way; raise what a part raised."""
        while len(under_way) > at_most:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            finished.extend(future.result() for future in done)
        return under_way

    def _send(self, number: int, body: bytes) -> dict[str, Any]:
        algorithm = {key: value for key, value in self._arguments.items() if key == "ChecksumAlgorithm"}
        with s3_errors(f"upload part {number}", self._on):
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                PartNumber=number,
                Body=body,
                **algorithm,
            )
        checksums = {name: value for name, value in answer.items() if name.startswith("Checksum") and value}
        return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

    def _complete(self, parts: list[dict[str, Any]]) -> None:
        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
            )
        except (BotoCoreError, ClientError) as error:
            # The answer to an earlier attempt may have been lost: then the upload is gone and the object is there. A key is used once only.
            if not self._is_stored():
                raise s3_error(error, "complete a multipart upload", self._on) from error
            logger.info("%s was complete although its completion's answer was lost", self._on)

    def _is_stored(self) -> bool:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=self._key)
        except ClientError as error:
            if error_code(error) == "NotFound":
                return False
            raise s3_error(error, "look for the completed upload", self._on) from error
        except BotoCoreError as error:
            raise s3_error(error, "look for the completed upload", self._on) from error
        return answer["ContentLength"] == self._sent
