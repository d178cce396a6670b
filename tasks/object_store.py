"""An environment's bucket: the few operations that nightshift needs, with errors that say what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from core.environment import Environment
from core.errors import NightshiftError, PermanentError, TemporaryError
from tasks.multipart import Reader, StreamUpload
from tasks.object_reader import ObjectMissingError, ObjectReader
from tasks.s3_client import error_code, make_client, s3_error, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef

__all__ = [
    "Deletion",
    "ObjectExistsError",
    "ObjectMissingError",
    "ObjectReader",
    "ObjectStore",
    "Reader",
    "StoredObject",
    "Upload",
]

logger = logging.getLogger(__name__)
DELETE_BATCH = 1000
MIB = 1024 * 1024


class ObjectExistsError(PermanentError):
    """Another object is there already, and it is never overwritten."""


@dataclass(frozen=True)
class StoredObject:
    """An object as LIST or HEAD tells it; `modified` is UTC."""

    key: str
    size_bytes: int
    modified: datetime


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted; `initiated` is UTC."""

    key: str
    upload_id: str
    initiated: datetime


@dataclass
class Deletion:
    """What became of keys that were to be deleted: how many are gone, which are locked (and until when), which failed (and why)."""

    deleted: int = 0
    locked: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class ObjectStore:
    """The bucket of one environment. Thread-safe, as boto3's clients are.

    Every method raises TemporaryError (S3 does not answer, 5xx, throttling) or PermanentError (denied, no such bucket, wrong region).
    """

    def __init__(self, environment: Environment, client: S3Client) -> None:
        """Given an environment and its client, make the store; `ObjectStore.open` makes both."""
        self.client = client
        self.store = environment.store
        self.bucket = environment.store.bucket
        self.part_bytes = environment.backups.part_mib * MIB

    @classmethod
    def open(cls, environment: Environment) -> ObjectStore:
        """Given an environment, return its store. No request is made. Raise ConfigurationError when its credentials cannot be resolved."""
        return cls(environment, make_client(environment))

    def put_new(self, key: str, body: bytes, *, content_type: str = "application/json", locked: bool = True) -> None:
        """Write an object that must not be there yet (If-None-Match: *). `locked` asks for the environment's object lock.

        When it is there with the same bytes, this was our own attempt whose answer got lost: success. Else raise ObjectExistsError.
        """
        arguments = self._write_arguments(locked=locked)
        try:
            self.client.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*", **arguments
            )
        except ClientError as error:
            if error_code(error) not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                raise s3_error(error, "write", self._url(key)) from error
            self._same_or_exists(key, body, error)
        except BotoCoreError as error:
            raise s3_error(error, "write", self._url(key)) from error

    def put(self, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        """Write an object, whatever was there. Never locked."""
        with s3_errors("write", self._url(key)):
            self.client.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, **self._write_arguments(locked=False)
            )

    def get(self, key: str) -> bytes:
        """Return a small object's bytes. Raise ObjectMissingError when there is none."""
        return b"".join(self.open_reader(key, stored_bytes=None))

    def head(self, key: str) -> StoredObject | None:
        """Return an object's size and time, or None when there is none."""
        try:
            answer = self.client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error_code(error) in {"NotFound", "NoSuchKey"}:
                return None
            raise s3_error(error, "look at", self._url(key)) from error
        except BotoCoreError as error:
            raise s3_error(error, "look at", self._url(key)) from error
        return StoredObject(key, answer["ContentLength"], answer["LastModified"].astimezone(UTC))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[StoredObject]:
        """Yield the objects under a prefix by ascending key, after `start_after`; one request per 1,000, made as they are consumed."""
        where: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix}
        if start_after:
            where["StartAfter"] = start_after
        with s3_errors("list", self._url(prefix)):
            for page in self.client.get_paginator("list_objects_v2").paginate(**where):
                for item in page.get("Contents", ()):
                    yield StoredObject(item["Key"], item["Size"], item["LastModified"].astimezone(UTC))

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders right under a prefix that ends with a slash, ascending; what lies in them is not listed."""
        where: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, "Delimiter": "/"}
        with s3_errors("list", self._url(prefix)):
            for page in self.client.get_paginator("list_objects_v2").paginate(**where):
                for item in page.get("CommonPrefixes", ()):
                    yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def delete(self, keys: Iterable[str]) -> Deletion:
        """Delete objects, 1,000 a request, and say what became of each. A key that does not exist counts as deleted.

        With an object lock in the environment each key is looked at first: in a versioned bucket a DELETE of a locked object succeeds, hides it
        behind a marker and leaves its bytes, so that nobody would find them again. One that may not be looked at stays.
        """
        outcome = Deletion()
        waiting = iter(keys)
        while batch := list(islice(waiting, DELETE_BATCH)):
            if self.store.object_lock_days:
                batch = [key for key in batch if self._is_free(key, outcome)]
            if batch:
                self._delete_batch(batch, outcome)
        return outcome

    def lock_of(self, key: str) -> str:
        """Say until when an object is locked ("compliance mode until 2026-01-31T02:00:00+00:00"); "" when it is not, or is not there.

        Raise PermanentError when it may not be looked at: then nobody knows.
        """
        try:
            answer = self.client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error_code(error) in {"NotFound", "NoSuchKey"}:
                return ""
            raise s3_error(error, "look for an object lock", self._url(key)) from error
        except BotoCoreError as error:
            raise s3_error(error, "look for an object lock", self._url(key)) from error
        until = answer.get("ObjectLockRetainUntilDate")
        if until is not None and until > datetime.now(UTC):
            return f"{answer.get('ObjectLockMode', '').lower()} mode until {until.astimezone(UTC).isoformat()}"
        return "legal hold" if answer.get("ObjectLockLegalHoldStatus") == "ON" else ""

    def list_uploads(self, prefix: str) -> Sequence[Upload]:
        """Return the unfinished multipart uploads under a prefix."""
        with s3_errors("list the multipart uploads", self._url(prefix)):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
            return [
                Upload(item["Key"], item["UploadId"], item["Initiated"].astimezone(UTC))
                for page in pages
                for item in page.get("Uploads", ())
                if item["Key"].startswith(prefix)
            ]

    def abort_upload(self, upload: Upload) -> None:
        """Abort a multipart upload; its parts are gone after this. One that is gone already is fine."""
        try:
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=upload.key, UploadId=upload.upload_id)
        except ClientError as error:
            if error_code(error) not in {"NoSuchUpload", "NotFound"}:
                raise s3_error(error, "abort a multipart upload", self._url(upload.key)) from error
        except BotoCoreError as error:
            raise s3_error(error, "abort a multipart upload", self._url(upload.key)) from error

    def server_time(self) -> datetime:
        """Return the S3 service's clock (UTC, whole seconds), from the Date header of a HEAD of the bucket."""
        with s3_errors("ask for the time", f"s3://{self.bucket}"):
            answer: Any = self.client.head_bucket(Bucket=self.bucket)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if not date:
            raise PermanentError("ask for the time", f"s3://{self.bucket}", "the answer has no Date header")
        return parsedate_to_datetime(date).astimezone(UTC)

    def upload(self, key: str, reader: Reader) -> int:
        """Upload all that a reader gives, with the environment's encryption, storage class and lock; return how many bytes this was.

        At most 10,000 parts. Memory is bounded (see tasks.multipart). When the reader raises, at its end too, or S3 fails, nothing of the key is left,
        and the error goes on to the caller.
        """
        arguments = self._write_arguments(locked=True) | {"StorageClass": self.store.storage_class}
        upload = StreamUpload(self.client, self.bucket, key, arguments)
        return upload.run(reader, self.part_bytes, lambda: self._remove_key(key))

    def open_reader(self, key: str, *, stored_bytes: int | None) -> ObjectReader:
        """Return a reader of an object that goes on after a broken connection; with `stored_bytes` another size is an IntegrityError."""
        return ObjectReader(self.client, self.bucket, key, stored_bytes=stored_bytes)

    def remove_folder(self, folder: str) -> None:
        """Abort every upload and delete every object under a folder (ends with a slash): what a failed attempt left. Never raises NightshiftError.

        What cannot be removed now is logged; the sweep of orphans takes it later.
        """
        try:
            for upload in self.list_uploads(folder):
                self.abort_upload(upload)
        except NightshiftError as error:
            # Whoever may not list uploads may still delete objects.
            logger.warning("uploads of a failed attempt stay until a later sweep: %s", error)
        try:
            outcome = self.delete(item.key for item in self.list(folder))
        except NightshiftError as error:
            logger.warning("remains of a failed attempt stay until a later sweep: %s", error)
            return
        for key, why in (outcome.locked | outcome.failed).items():
            logger.warning("%s of a failed attempt stays: %s", self._url(key), why)

    def _remove_key(self, key: str) -> None:
        for upload in self.list_uploads(key):
            if upload.key == key:
                self.abort_upload(upload)
        with s3_errors("delete", self._url(key)):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def _is_free(self, key: str, outcome: Deletion) -> bool:
        """Whether no lock keeps an object; one that is locked, or may not be looked at, is noted."""
        try:
            lock = self.lock_of(key)
        except PermanentError as error:
            outcome.failed[key] = f"not deleted, since it is not known whether it is locked: {error.found}"
            return False
        if lock:
            outcome.locked[key] = lock
        return not lock

    def _delete_batch(self, batch: Sequence[str], outcome: Deletion) -> None:
        with s3_errors(f"delete {len(batch)} objects", self._url(batch[0])):
            answer = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
        errors = [error for error in answer.get("Errors", ()) if error.get("Code") != "NoSuchKey"]
        outcome.deleted += len(batch) - len(errors)
        for error in errors:
            self._sort_out(error, outcome)

    def _sort_out(self, error: ErrorTypeDef, outcome: Deletion) -> None:
        """A refusal says AccessDenied for a lock as for a missing permission: only the object itself tells."""
        key = error.get("Key", "")
        code = error.get("Code", "")
        lock = ""
        if code in {"AccessDenied", "ObjectLocked", "InvalidRequest"}:
            # Where it may not be looked at, the refusal itself is told.
            with suppress(PermanentError):
                lock = self.lock_of(key)
        if lock:
            outcome.locked[key] = lock
        else:
            outcome.failed[key] = f"{code}: {error.get('Message', '')}"

    def _same_or_exists(self, key: str, body: bytes, error: ClientError) -> None:
        try:
            stored = self.get(key)
        except ObjectMissingError:
            # A conflicting write was under way and did not end in an object.
            raise TemporaryError("write", self._url(key), "another write of it was under way") from error
        if stored != body:
            raise ObjectExistsError(
                "write", self._url(key), "another object is there", "It is never overwritten"
            ) from error
        logger.info("%s had been written already, its answer was lost", self._url(key))

    def _write_arguments(self, *, locked: bool) -> dict[str, Any]:
        """Encryption, lock and checksum as PutObject and CreateMultipartUpload take them."""
        arguments: dict[str, Any] = {}
        if self.store.encryption == "sse-s3":
            arguments["ServerSideEncryption"] = "AES256"
        elif self.store.encryption == "sse-kms":
            arguments["ServerSideEncryption"] = "aws:kms"
            if self.store.kms_key_id:
                arguments["SSEKMSKeyId"] = self.store.kms_key_id
        lock = locked and self.store.object_lock_days > 0
        if lock:
            until = datetime.now(UTC) + timedelta(days=self.store.object_lock_days)
            arguments |= {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        # S3 refuses a locked write without a checksum; elsewhere AWS_REQUEST_CHECKSUM_CALCULATION=when_required switches it off.
        config: Any = self.client.meta.config
        if lock or config.request_checksum_calculation == "when_supported":
            arguments["ChecksumAlgorithm"] = "CRC32"
        return arguments

    def _url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"
