"""The bucket's operations against a real S3 API, with real faults before it."""

import io
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.s3.models import s3_backends

from core.environment import Backups
from core.errors import ConfigurationError, IntegrityError, PermanentError, TemporaryError
from tasks.object_store import ObjectExistsError, ObjectMissingError, ObjectStore
from tasks.s3_client import s3_error
from tests.fix_object_store import FaultProxy, S3Server, environment_for, nothing_left

MIB = 1024 * 1024


def test_what_is_put_is_got_headed_and_listed(store: ObjectStore) -> None:
    store.put("a/1", b"one")
    store.put_new("a/2", b"two")
    assert store.get("a/2") == b"two"
    head = store.head("a/1")
    assert head is not None
    assert (head.key, head.size_bytes) == ("a/1", 3)
    assert abs(datetime.now(UTC) - head.modified) < timedelta(minutes=1)
    assert [item.key for item in store.list("a/")] == ["a/1", "a/2"]
    assert [item.key for item in store.list("a/", start_after="a/1")] == ["a/2"]


def test_what_is_missing_is_none_or_an_error_of_its_own(store: ObjectStore) -> None:
    assert store.head("nothing") is None
    with pytest.raises(ObjectMissingError, match="no such object"):
        store.get("nothing")


def test_an_empty_object_can_be_read(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_a_new_object_never_replaces_another(store: ObjectStore) -> None:
    store.put_new("manifest.json", b"first")
    with pytest.raises(ObjectExistsError):
        store.put_new("manifest.json", b"second")
    assert store.get("manifest.json") == b"first"


def test_a_new_object_whose_answer_was_lost_counts_as_written(faulty_store: ObjectStore, s3_faults: FaultProxy) -> None:
    fault = s3_faults.lose_answer("PUT", "manifest.json")
    faulty_store.put_new("manifest.json", b"first")
    assert fault.hits == 1
    assert s3_faults.count("PUT", "manifest.json") == 2
    assert faulty_store.get("manifest.json") == b"first"


def test_a_busy_service_is_asked_again(faulty_store: ObjectStore, s3_faults: FaultProxy) -> None:
    s3_faults.refuse("PUT", "state", times=2)
    faulty_store.put("state", b"{}")
    assert faulty_store.get("state") == b"{}"


def test_a_service_that_stays_busy_is_a_temporary_error(faulty_store: ObjectStore, s3_faults: FaultProxy) -> None:
    fault = s3_faults.refuse("HEAD", "state", times=100)
    with pytest.raises(TemporaryError, match="503"):
        faulty_store.head("state")
    assert fault.hits == 5


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SlowDown", 503, TemporaryError),
        ("InternalError", 500, TemporaryError),
        ("NotImplemented", 501, PermanentError),
        ("AccessDenied", 403, PermanentError),
        ("NoSuchBucket", 404, PermanentError),
        ("RequestTimeTooSkewed", 403, PermanentError),
        ("PermanentRedirect", 301, PermanentError),
        ("ExpiredToken", 400, TemporaryError),
    ],
)
def test_a_refusal_is_temporary_or_permanent_by_its_code(code: str, status: int, kind: type[Exception]) -> None:
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = s3_error(ClientError(response, "PutObject"), "write", "s3://b/k")
    assert type(error) is kind
    assert code in str(error)


def test_a_missing_bucket_is_permanent_and_says_what_to_do(s3_server: S3Server) -> None:
    store = ObjectStore.open(environment_for("no-such-bucket-here", s3_server.endpoint))
    with pytest.raises(PermanentError, match="Create the bucket"):
        store.put("key", b"")
    with pytest.raises(PermanentError, match="Create the bucket"):
        list(store.list(""))
    store.client.close()


def test_a_service_that_is_not_there_is_a_temporary_error(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.s3_client.ATTEMPTS", 1)
    store = ObjectStore.open(environment_for("some-bucket", "http://127.0.0.1:1"))
    with pytest.raises(TemporaryError):
        store.server_time()


def test_the_services_clock_is_read_from_its_answer(store: ObjectStore) -> None:
    assert abs(store.server_time() - datetime.now(UTC)) < timedelta(seconds=5)


def test_more_than_a_thousand_keys_are_listed_and_deleted_in_batches(
    faulty_store: ObjectStore, s3_faults: FaultProxy, bucket: str
) -> None:
    for number in range(1005):  # put into moto's memory: a thousand requests would take seconds
        s3_backends["123456789012"]["aws"].put_object(bucket, f"old/{number:05d}", b"")
    keys = [item.key for item in faulty_store.list("old/")]
    assert len(keys) == 1005
    assert s3_faults.count("GET", "list-type=2") == 2
    outcome = faulty_store.delete(iter(keys))
    assert (outcome.deleted, outcome.locked, outcome.failed) == (1005, {}, {})
    assert s3_faults.count("POST", "delete") == 2
    assert nothing_left(faulty_store)


def denied(*keys: str) -> bytes:
    errors = "".join(
        f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>" for key in keys
    )
    return f'<?xml version="1.0"?><DeleteResult>{errors}</DeleteResult>'.encode()


def test_a_refused_deletion_is_locked_only_when_a_lock_is_there(
    s3_faults: FaultProxy, s3_server: S3Server, locking_bucket: str
) -> None:
    store = ObjectStore.open(environment_for(locking_bucket, s3_faults.endpoint))
    until = datetime.now(UTC) + timedelta(days=3)
    s3_server.client.put_object(
        Bucket=locking_bucket,
        Key="locked",
        Body=b"x",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=until,
        ChecksumAlgorithm="CRC32",
    )
    store.put("denied", b"x")
    store.put("fine", b"x")
    s3_faults.refuse("POST", "delete", status=200, body=denied("locked", "denied"))
    outcome = store.delete(["locked", "denied", "fine"])
    assert outcome.deleted == 1
    assert outcome.locked.keys() == {"locked"}
    assert "compliance mode until" in outcome.locked["locked"]
    assert outcome.failed == {"denied": "AccessDenied: Access Denied"}
    store.client.close()


def test_with_object_lock_a_locked_object_is_not_hidden_behind_a_delete_marker(
    s3_server: S3Server, locking_bucket: str
) -> None:
    store = ObjectStore.open(environment_for(locking_bucket, s3_server.endpoint, object_lock_days=2))
    store.put_new("backup/manifest.json", b"{}")
    store.put("backup/free", b"{}")
    outcome = store.delete(["backup/manifest.json", "backup/free"])
    assert outcome.deleted == 1
    assert list(outcome.locked) == ["backup/manifest.json"]
    assert store.get("backup/manifest.json") == b"{}"
    store.client.close()


def test_with_object_lock_what_may_not_be_looked_at_is_not_deleted_either(
    s3_faults: FaultProxy, s3_server: S3Server, locking_bucket: str
) -> None:
    store = ObjectStore.open(environment_for(locking_bucket, s3_faults.endpoint, object_lock_days=2))
    for key in ("backup/dump", "backup/manifest.json"):
        store.put_new(key, b"x")
    s3_faults.refuse("HEAD", "manifest", status=403)
    outcome = store.delete(["backup/dump", "backup/manifest.json"])
    assert (outcome.deleted, list(outcome.locked), list(outcome.failed)) == (
        0,
        ["backup/dump"],
        ["backup/manifest.json"],
    )
    assert "AccessDenied" in outcome.failed["backup/manifest.json"]
    assert store.get("backup/manifest.json") == b"x"
    store.client.close()


def test_backup_data_is_written_encrypted_in_its_storage_class_and_locked(
    s3_server: S3Server, locking_bucket: str
) -> None:
    key_id = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
    environment = environment_for(
        locking_bucket,
        s3_server.endpoint,
        encryption="sse-kms",
        kms_key_id=key_id,
        storage_class="STANDARD_IA",
        object_lock_days=7,
    )
    store = ObjectStore.open(environment)
    store.upload("dump/00000.zst", io.BytesIO(b"small"))
    head = s3_server.client.head_object(Bucket=locking_bucket, Key="dump/00000.zst")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"] == key_id
    assert head["StorageClass"] == "STANDARD_IA"
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert timedelta(days=6) < head["ObjectLockRetainUntilDate"] - datetime.now(UTC) < timedelta(days=8)
    store.put_new("probe", b"", locked=False)
    assert "ObjectLockMode" not in s3_server.client.head_object(Bucket=locking_bucket, Key="probe")
    store.client.close()


def test_a_multipart_upload_asks_for_encryption_storage_class_and_lock(s3_server: S3Server, bucket: str) -> None:
    environment = environment_for(
        bucket, s3_server.endpoint, encryption="sse-s3", storage_class="GLACIER_IR", object_lock_days=7
    )
    store = ObjectStore.open(environment)
    asked: dict[str, Any] = {}
    store.client.meta.events.register(
        "provide-client-params.s3.CreateMultipartUpload", lambda params, **_: asked.update(params)
    )
    store.upload("dump/00000.zst", io.BytesIO(bytes(11 * MIB)))
    assert asked["ServerSideEncryption"] == "AES256"
    assert asked["StorageClass"] == "GLACIER_IR"
    assert asked["ObjectLockMode"] == "COMPLIANCE"
    assert asked["ChecksumAlgorithm"] == "CRC32"
    store.client.close()


# --- reading


def test_a_reader_goes_on_after_broken_connections(faulty_store: ObjectStore, s3_faults: FaultProxy) -> None:
    content = secrets.token_bytes(3 * MIB)
    faulty_store.put("dump", content)
    s3_faults.cut_body("GET", "dump", body_bytes=MIB + 5, times=2)
    reader = faulty_store.open_reader("dump", stored_bytes=len(content))
    assert b"".join(reader) == content
    assert s3_faults.count("GET", "dump") == 3


def test_a_connection_that_always_breaks_is_a_temporary_error(faulty_store: ObjectStore, s3_faults: FaultProxy) -> None:
    faulty_store.put("dump", bytes(100))
    s3_faults.cut_body("GET", "dump", body_bytes=0, times=100)
    with pytest.raises(TemporaryError, match="byte 0"):
        list(faulty_store.open_reader("dump", stored_bytes=100))


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(
    faulty_store: ObjectStore, s3_faults: FaultProxy
) -> None:
    faulty_store.put("dump", bytes(3 * MIB))
    s3_faults.cut_body("GET", "dump", body_bytes=MIB)
    reader = faulty_store.open_reader("dump", stored_bytes=3 * MIB)
    assert reader.read(1000) == bytes(1000)
    faulty_store.put("dump", b"\1" * 3 * MIB)
    with pytest.raises(IntegrityError, match="replaced while it was read"):
        list(reader)


def test_another_size_than_recorded_is_named(store: ObjectStore) -> None:
    store.put("dump", bytes(100))
    with pytest.raises(IntegrityError, match="it has 100 bytes, 101 were recorded"):
        store.open_reader("dump", stored_bytes=101).read()


# --- the client


def test_a_block_that_is_not_there_is_named(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect_aws import AwsCredentials

    def missing(name: str, **_: Any) -> None:
        raise ValueError(f"Unable to find block document named {name}")

    monkeypatch.setattr(AwsCredentials, "load", missing)
    environment = environment_for("b-ucket", s3_server.endpoint)
    block_store = environment.store.model_copy(
        update={"credentials_block": "backup-keys", "access_key_id": None, "secret_access_key": None}
    )
    with pytest.raises(ConfigurationError, match="aws-credentials/backup-keys"):
        ObjectStore.open(environment.model_copy(update={"store": block_store}))


def test_a_blocks_keys_and_client_settings_are_used(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect_aws import AwsCredentials
    from prefect_aws.client_parameters import AwsClientParameters

    block = AwsCredentials(
        aws_access_key_id="block-key",
        aws_secret_access_key="block-secret",
        region_name="eu-west-3",
        aws_client_parameters=AwsClientParameters(
            endpoint_url=s3_server.endpoint, config={"connect_timeout": 3, "s3": {"addressing_style": "path"}}
        ),
    )
    monkeypatch.setattr(AwsCredentials, "load", lambda _name, **_: block)
    environment = environment_for("b-ucket", s3_server.endpoint)
    block_store = environment.store.model_copy(
        update={
            "credentials_block": "backup-keys",
            "access_key_id": None,
            "secret_access_key": None,
            "endpoint_url": None,
        }
    )
    store = ObjectStore.open(environment.model_copy(update={"store": block_store}))
    assert store.client.meta.endpoint_url == s3_server.endpoint
    assert store.client.meta.region_name == "eu-west-3"
    assert store.client.meta.config.connect_timeout == 3  # type: ignore[attr-defined]
    assert store.client.meta.config.read_timeout == 60  # type: ignore[attr-defined]
    store.client.close()


def test_part_size_comes_from_the_environment(s3_server: S3Server) -> None:
    store = ObjectStore.open(environment_for("b-ucket", s3_server.endpoint, backups=Backups(part_mib=7)))
    assert store.part_bytes == 7 * MIB
    store.client.close()
