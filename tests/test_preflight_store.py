"""The checks of the bucket, on a real S3 API and one that answers as told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.checks import Check
from core.errors import PermanentError, TemporaryError
from tasks.preflight_store import check_store
from tests.fix_keeping import Keeping, keeping_at
from tests.fix_object_store import FaultProxy, S3Server


def look(keeping: Keeping, **arguments: Any) -> dict[str, Check]:
    return {check.name: check for check in check_store(keeping.environment, keeping.store, **arguments)}


def states(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.state for name, check in checks.items()}


@pytest.fixture
def faulty(s3_faults: FaultProxy, bucket: str) -> Any:
    keeping = keeping_at(bucket, s3_faults)
    yield keeping
    keeping.close()


def test_a_good_bucket_passes_every_check_and_nothing_of_the_probe_is_left(keeping: Keeping):
    before = keeping.keys_in_bucket()
    checks = look(keeping)
    assert set(states(checks).values()) == {"passed"}
    assert set(checks) == {
        "bucket",
        "clock",
        "writable",
        "conditional writes",
        "lifecycle rules",
        "versioning",
        "object lock",
    }
    assert keeping.keys_in_bucket() == before


def test_a_bucket_that_is_not_there_is_told_apart_from_one_that_is_closed(
    s3_server: S3Server, faulty: Keeping, s3_faults: FaultProxy
):
    missing = keeping_at("there-is-no-such-bucket", s3_server)
    checks = look(missing)
    assert states(checks) == {"bucket": "failed"}
    assert "there is no such bucket" in checks["bucket"].found
    missing.close()
    s3_faults.refuse("HEAD", status=403)
    closed = look(faulty)
    assert states(closed) == {"bucket": "failed"}
    assert "access is denied" in closed["bucket"].found


def test_a_store_that_does_not_answer_is_worth_a_retry(faulty: Keeping, s3_faults: FaultProxy):
    s3_faults.refuse("GET", "?lifecycle", status=400, body=b"<Error><Code>ExpiredToken</Code></Error>")
    with pytest.raises(TemporaryError):
        look(faulty)


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "passed"), (50, "passed"), (-70, "warning"), (290, "warning"), (310, "failed")]
)
def test_the_clock_is_compared_with_the_stores(keeping: Keeping, seconds: int, state: str):
    checks = look(keeping, now=datetime.now(UTC) + timedelta(seconds=seconds))
    assert checks["clock"].state == state


def test_a_signature_refused_for_the_clock_is_told_as_the_clock(keeping: Keeping, monkeypatch: pytest.MonkeyPatch):
    # A HEAD's refusal has no body, so botocore knows only 403; moto never refuses a signature.
    answer: Any = {
        "Error": {"Code": "403"},
        "ResponseMetadata": {"HTTPHeaders": {"date": "Sun, 22 Nov 2026 02:00:00 GMT"}},
    }

    def server_time() -> datetime:
        raise PermanentError("ask for the time", "s3://x", "403") from ClientError(answer, "HeadBucket")

    monkeypatch.setattr(keeping.store, "server_time", server_time)
    far = datetime(2026, 11, 22, 2, 20, tzinfo=UTC)
    assert states(look(keeping, now=far)) == {"bucket": "failed", "clock": "failed"}
    assert states(look(keeping, now=far - timedelta(minutes=20))) == {"bucket": "failed"}


def denied(permission: str) -> bytes:
    return f"<Error><Code>AccessDenied</Code><Message>no {permission}</Message></Error>".encode()


def test_a_bucket_that_cannot_be_written_is_told_with_the_permission(faulty: Keeping, s3_faults: FaultProxy):
    s3_faults.refuse("PUT", "nightshift-probe", status=403, body=denied("PutObject"))
    checks = look(faulty)
    assert checks["writable"].state == "failed"
    assert "AccessDenied" in checks["writable"].found
    assert checks["writable"].next_step
    assert "conditional writes" not in checks


def test_a_kms_key_that_cannot_be_used_is_told(s3_faults: FaultProxy, bucket: str):
    keeping = keeping_at(bucket, s3_faults, encryption="sse-kms", kms_key_id="alias/backups")
    s3_faults.refuse("PUT", "nightshift-probe", status=400, body=b"<Error><Code>KMS.NotFoundException</Code></Error>")
    checks = look(keeping)
    assert checks["writable"].state == "failed"
    assert "kms:GenerateDataKey" in checks["writable"].next_step
    keeping.close()


def test_a_probe_that_cannot_be_deleted_fails_since_retention_could_not_either(faulty: Keeping, s3_faults: FaultProxy):
    refusal = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    s3_faults.refuse("POST", "?delete", status=200, body=refusal)
    checks = look(faulty)
    assert checks["writable"].state == "failed"
    assert "s3:DeleteObject" in checks["writable"].next_step


def test_uploads_that_cannot_be_listed_fail_before_a_dump_leaves_one(faulty: Keeping, s3_faults: FaultProxy):
    s3_faults.refuse("GET", "uploads", status=403, body=denied("ListBucketMultipartUploads"))
    checks = look(faulty)
    assert checks["unfinished uploads"].state == "failed"
    assert "s3:ListBucketMultipartUploads" in checks["unfinished uploads"].next_step
    assert faulty.keys_in_bucket() == set()


def test_a_bucket_that_may_be_written_and_not_read_is_told_with_the_permission(faulty: Keeping, s3_faults: FaultProxy):
    s3_faults.refuse("GET", "nightshift-probe", status=403, body=denied("GetObject"))
    checks = look(faulty)
    assert checks["readable"].state == "failed"
    assert "s3:GetObject" in checks["readable"].next_step
    assert "conditional writes" not in checks


def test_a_service_that_ignores_conditional_writes_is_refused(faulty: Keeping, s3_faults: FaultProxy):
    s3_faults.refuse("PUT", "nightshift-probe", after=1, status=200)
    checks = look(faulty)
    assert checks["conditional writes"].state == "failed"
    assert "ignores" in checks["conditional writes"].found


def test_a_service_that_knows_no_conditional_writes_is_refused(faulty: Keeping, s3_faults: FaultProxy):
    body = b"<Error><Code>NotImplemented</Code></Error>"
    s3_faults.refuse("PUT", "nightshift-probe", after=1, times=9, status=501, body=body)
    checks = look(faulty)
    assert checks["conditional writes"].state == "failed"
    assert "does not take" in checks["conditional writes"].found
    assert faulty.keys_in_bucket() == set()


def test_a_lifecycle_rule_that_would_expire_the_last_good_backup_fails(keeping: Keeping):
    keeping.store.client.put_bucket_lifecycle_configuration(
        Bucket=keeping.store.bucket,
        LifecycleConfiguration={
            "Rules": [
                {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "local/"}, "Expiration": {"Days": 14}},
                {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}},
            ]
        },
    )
    checks = look(keeping)
    assert checks["lifecycle rules"].state == "failed"
    assert "rule tidy (on local/)" in checks["lifecycle rules"].found


def test_a_configuration_that_cannot_be_read_is_a_warning_and_one_unknown_to_the_service_is_none(
    faulty: Keeping, s3_faults: FaultProxy
):
    s3_faults.refuse("GET", "?lifecycle", status=403, body=denied("GetLifecycleConfiguration"))
    s3_faults.refuse("GET", "?object-lock", status=501, body=b"<Error><Code>NotImplemented</Code></Error>", times=9)
    checks = look(faulty)
    assert checks["lifecycle rules"].state == "warning"
    assert "s3:GetLifecycleConfiguration" in checks["lifecycle rules"].next_step
    # Whether old versions expire cannot be told without the rules.
    assert "versioning" not in checks
    assert checks["object lock"].state == "passed"


def test_a_versioned_bucket_without_expiry_and_a_long_default_lock_are_warned_of(
    s3_server: S3Server, locking_bucket: str
):
    s3_server.client.put_object_lock_configuration(
        Bucket=locking_bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 90}},
        },
    )
    keeping = keeping_at(locking_bucket, s3_server)
    checks = look(keeping)
    assert checks["versioning"].state == "warning"
    assert (checks["object lock"].state, "90 days" in checks["object lock"].found) == ("warning", True)
    keeping.close()


def test_a_lock_that_the_bucket_cannot_give_fails(s3_server: S3Server, bucket: str):
    keeping = keeping_at(bucket, s3_server, object_lock_days=7)
    assert look(keeping)["object lock"].state == "failed"
    keeping.close()


def test_public_access_that_is_not_blocked_is_warned_of_where_it_can_be_read(keeping: Keeping):
    keeping.store.client.put_public_access_block(
        Bucket=keeping.store.bucket, PublicAccessBlockConfiguration={"BlockPublicAcls": True}
    )
    assert look(keeping)["public access"].state == "warning"
