"""Checks of the bucket before work: that it is there, takes what is written to it, refuses to overwrite, and keeps it."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from core.checks import Check
from core.environment import Environment
from core.errors import PermanentError, TemporaryError
from core.keys import database_folder
from core.lifecycle import NAME as LIFECYCLE
from core.lifecycle import check_lifecycle, check_object_lock, check_public_access, check_versioning
from core.retention import CLOCK_TOLERANCE
from tasks.object_store import ObjectExistsError, ObjectStore
from tasks.s3_client import error_code, s3_error

CLOCK_WARNING = timedelta(seconds=60)

_REACH: Mapping[str, tuple[str, str]] = {
    "NotFound": ("there is no such bucket", "Create it, or correct store.bucket; nightshift makes none"),
    "AccessDenied": ("access is denied (403)", "Allow s3:ListBucket to these credentials, or correct store.bucket"),
}
# What services answer that do not have the feature; then there is nothing that could harm a backup.
_NOT_KNOWN = frozenset({"NotImplemented", "MethodNotAllowed", "XNotImplemented", "501", "405"})


def check_store(environment: Environment, store: ObjectStore, *, now: datetime | None = None) -> list[Check]:
    """Given an environment and its store, return what is well and what is not with its bucket; `now` (aware) is the worker's clock.

    Writes one small object under the environment's prefix and deletes it again. Raise TemporaryError when S3 does not answer: that says nothing about
    the bucket, and the step is worth a retry.
    """
    reached = _check_reached(store, now)
    if any(check.name == "bucket" and check.state == "failed" for check in reached):
        return reached
    return [*reached, *_check_writes(environment, store), *_check_keeping(environment, store)]


def _check_reached(store: ObjectStore, now: datetime | None) -> list[Check]:
    now = now or datetime.now(UTC)
    try:
        theirs = store.server_time()
    except PermanentError as error:
        cause = error.__cause__
        code = error_code(cause) if isinstance(cause, ClientError) else ""
        found, next_step = _REACH.get(code, (error.found, error.next_step))
        checks = [Check(name="bucket", state="failed", found=f"{store.bucket}: {found}", next_step=next_step)]
        # From 15 minutes on S3 refuses the signature, and the answer to a HEAD does not say why; its Date does.
        clock = _check_clock(date, now) if (date := _date_of(cause)) else None
        return [*checks, clock] if clock and clock.state == "failed" else checks
    return [Check(name="bucket", state="passed", found=f"{store.bucket}: reached"), _check_clock(theirs, now)]


def _check_clock(theirs: datetime, mine: datetime) -> Check:
    skew = abs(mine - theirs)
    found = f"{skew.total_seconds():.0f} s apart from S3's"
    if skew <= CLOCK_WARNING:
        return Check(name="clock", state="passed", found=found)
    return Check(
        name="clock",
        state="failed" if skew > CLOCK_TOLERANCE else "warning",
        found=found,
        next_step="Set this worker's clock (NTP): ages are reckoned by it",
    )


def _date_of(error: BaseException | None) -> datetime | None:
    """The Date header of the answer that an error was made of."""
    if not isinstance(error, ClientError):
        return None
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date).astimezone(UTC) if date else None


def _check_writes(environment: Environment, store: ObjectStore) -> Iterator[Check]:
    """Write a probe with the environment's encryption, try to write it a second time as a new object, delete it."""
    key = f"{environment.prefix}/.nightshift-probe-{secrets.token_hex(8)}"
    on = f"s3://{store.bucket}/{environment.prefix}/"
    try:
        store.put(key, b"first")
    except PermanentError as error:
        next_step = error.next_step or "Allow s3:PutObject there"
        if environment.store.encryption == "sse-kms":
            next_step = f"{next_step}; the KMS key must exist and allow kms:GenerateDataKey and kms:Decrypt"
        yield Check(name="writable", state="failed", found=f"{on}: {error.found}", next_step=next_step)
        return
    try:
        yield _check_conditional(store, key)
        yield from _check_uploads(store, f"{environment.prefix}/")
    finally:
        deletion = store.delete([key])
    refused = next(iter((deletion.failed | deletion.locked).values()), "")
    if refused:
        yield Check(
            name="writable",
            state="failed",
            found=f"{on}: written, but the probe cannot be deleted: {refused}",
            next_step="Allow s3:DeleteObject there; retention needs it",
        )
    else:
        yield Check(name="writable", state="passed", found=f"{on}: written and deleted")


def _check_conditional(store: ObjectStore, key: str) -> Check:
    """Whether a second write to the key is refused, as `If-None-Match: *` asks."""
    name = "conditional writes"
    next_step = "Use a service that honours If-None-Match on PutObject (AWS S3 does); without it two runs could overwrite each other"
    try:
        store.put_new(key, b"second", locked=False)
    except ObjectExistsError:
        return Check(name=name, state="passed", found="a second write to a key is refused")
    except PermanentError as error:
        if error.attempted == "read":
            # The second write was refused as it should be; what lies there is then looked at.
            return Check(
                name="readable",
                state="failed",
                found=f"what was written cannot be read: {error.found}",
                next_step="Allow s3:GetObject there (and kms:Decrypt): each backup is read back",
            )
        return Check(
            name=name,
            state="failed",
            found=f"this S3 service does not take conditional writes: {error.found}",
            next_step=next_step,
        )
    return Check(name=name, state="failed", found="this S3 service ignores conditional writes", next_step=next_step)


def _check_uploads(store: ObjectStore, folder: str) -> Iterator[Check]:
    """Whether unfinished uploads can be found again: a dump that fails leaves one, and the retention sweeps those of killed runs."""
    try:
        store.list_uploads(folder)
    except PermanentError as error:
        yield Check(
            name="unfinished uploads",
            state="failed",
            found=f"cannot be listed: {error.found}",
            next_step="Allow s3:ListBucketMultipartUploads on the bucket and s3:AbortMultipartUpload in it; a failed backup's parts would stay and be paid for",
        )


class _Answer(NamedTuple):
    """One of the bucket's configurations; `problem` says why it could not be read."""

    content: Mapping[str, Any]
    problem: str = ""


def _check_keeping(environment: Environment, store: ObjectStore) -> Iterator[Check]:
    """What the bucket's own rules would do to backups."""
    client, bucket = store.client, store.bucket
    folders = [database_folder(environment.prefix, database) for database in environment.databases]
    lifecycle = _read(
        store, lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket), ("NoSuchLifecycleConfiguration",)
    )
    rules = lifecycle.content.get("Rules", [])
    if lifecycle.problem:
        yield _unread(LIFECYCLE, lifecycle.problem, "s3:GetLifecycleConfiguration")
    else:
        yield from check_lifecycle(rules, folders, environment.prefix, environment.retention)
    versioning = _read(store, lambda: client.get_bucket_versioning(Bucket=bucket))
    if versioning.problem:
        yield _unread("versioning", versioning.problem, "s3:GetBucketVersioning")
    elif not lifecycle.problem:
        yield check_versioning(versioning.content.get("Status", ""), rules, f"{environment.prefix}/")
    yield from _check_lock(environment, store)
    yield from _check_public(environment, store)


def _check_lock(environment: Environment, store: ObjectStore) -> Iterator[Check]:
    lock = _read(
        store,
        lambda: store.client.get_object_lock_configuration(Bucket=store.bucket),
        ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"),
    )
    if lock.problem:
        yield _unread("object lock", lock.problem, "s3:GetBucketObjectLockConfiguration")
    else:
        configuration = lock.content.get("ObjectLockConfiguration")
        yield check_object_lock(configuration, environment.store.object_lock_days, environment.retention)


def _check_public(environment: Environment, store: ObjectStore) -> Iterator[Check]:
    """Only where it can be read: the permission is seldom given, and services other than AWS mostly lack the feature."""
    access = _read(
        store,
        lambda: store.client.get_public_access_block(Bucket=store.bucket),
        ("NoSuchPublicAccessBlockConfiguration",),
    )
    configuration = access.content.get("PublicAccessBlockConfiguration", {})
    if not access.problem and (configuration or environment.store.endpoint_url is None):
        yield check_public_access(configuration)


def _read(store: ObjectStore, read: Callable[[], Any], absent: Iterable[str] = ()) -> _Answer:
    """Ask for one of the bucket's configurations. Raise TemporaryError when S3 does not answer."""
    try:
        return _Answer(read())
    except ClientError as error:
        code = error_code(error)
        if code in absent or code in _NOT_KNOWN:
            return _Answer({})
        ours = s3_error(error, "read the bucket's configuration", f"s3://{store.bucket}")
        if isinstance(ours, TemporaryError):
            raise ours from error
        return _Answer({}, ours.found)
    except BotoCoreError as error:
        raise s3_error(error, "read the bucket's configuration", f"s3://{store.bucket}") from error


def _unread(name: str, problem: str, permission: str) -> Check:
    return Check(
        name=name,
        state="warning",
        found=f"could not be read, so it is not known whether it harms backups: {problem}",
        next_step=f"Allow {permission} to these credentials",
    )
