"""What somebody with the keys of each role of deployments/aws/ can and cannot do in the bucket, with the policies evaluated for each request."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from tests.fix_object_store import S3Server
from tests.test_aws_policies import FOLDER

pytestmark = pytest.mark.services
FIRST = "PREFIX/first/20260101T020000Z-abcd/manifest.json"
KEPT = ("PREFIX/evidence/00000001.json", "PREFIX/evidence-head.json", "PREFIX/first/owner.json", "another/thing")
ROLES = ("backup", "drill", "restore")
LIFECYCLE = {"Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]}


def client_of(server: S3Server, service: str, *keys: str) -> Any:
    """A client with these keys."""
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=(*keys, "testing")[0],
        aws_secret_access_key=(*keys, "", "testing-secret")[1],
    )


def evaluate_policies(server: S3Server, *, after: str) -> None:
    """From how many requests on moto asks IAM: 0, or inf for never."""
    answer = httpx.post(
        f"{server.endpoint}/moto-api/reset-auth", content=after, headers={"Content-Type": "text/plain"}, trust_env=False
    )
    assert answer.status_code == 200


@pytest.fixture
def keys(s3_server: S3Server, bucket: str) -> Iterator[dict[str, Any]]:
    """A client for each role, in a versioned bucket with a backup, evidence, and something of somebody else's."""
    iam = client_of(s3_server, "iam")
    s3_server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in (FIRST, *KEPT):
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"as it was")
    found = {}
    for role in ROLES:
        name = f"{bucket}-{role}"
        iam.create_user(UserName=name)
        document = (FOLDER / f"{role}-policy.json").read_text().replace("BUCKET", bucket)
        iam.put_user_policy(UserName=name, PolicyName=role, PolicyDocument=document)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        found[role] = client_of(s3_server, "s3", made["AccessKeyId"], made["SecretAccessKey"])
    evaluate_policies(s3_server, after="0")
    yield found
    evaluate_policies(s3_server, after="inf")
    for one in (*found.values(), iam):
        one.close()


def denied(call: Callable[..., Any], **arguments: Any) -> bool:
    """Whether a request is denied."""
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
        return True
    return False


@pytest.mark.parametrize("role", ROLES)
def test_no_role_touches_evidence_another_prefix_a_version_or_the_bucket(
    keys: dict[str, Any], s3_server: S3Server, bucket: str, role: str
) -> None:
    s3 = keys[role]
    version = s3.get_object(Bucket=bucket, Key=FIRST)["VersionId"]
    asked = {
        **{f"delete {key}": denied(s3.delete_object, Bucket=bucket, Key=key) for key in KEPT},
        "read another prefix": denied(s3.get_object, Bucket=bucket, Key="another/thing"),
        "write to it": denied(s3.put_object, Bucket=bucket, Key="another/mine", Body=b""),
        "delete a version": denied(s3.delete_object, Bucket=bucket, Key=FIRST, VersionId=version),
        "list versions": denied(s3.list_object_versions, Bucket=bucket),
        "end versioning": denied(
            s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "have it expire": denied(
            s3.put_bucket_lifecycle_configuration, Bucket=bucket, LifecycleConfiguration=LIFECYCLE
        ),
        "give it to others": denied(s3.put_bucket_policy, Bucket=bucket, Policy="{}"),
        "delete the bucket": denied(s3.delete_bucket, Bucket=bucket),
    }
    assert [what for what, refused in asked.items() if not refused] == []
    # Many at once are refused one by one.
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in KEPT]})
    evaluate_policies(s3_server, after="inf")
    for key in KEPT:
        assert s3_server.client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"as it was"


def test_only_the_role_of_backups_overwrites_and_deletes_and_versioning_brings_it_back(
    keys: dict[str, Any], s3_server: S3Server, bucket: str
) -> None:
    for role in ("drill", "restore"):
        assert denied(keys[role].put_object, Bucket=bucket, Key=FIRST, Body=b"junk")
        assert denied(keys[role].delete_object, Bucket=bucket, Key=FIRST)
    version = keys["backup"].get_object(Bucket=bucket, Key=FIRST)["VersionId"]
    keys["backup"].put_object(Bucket=bucket, Key=FIRST, Body=b"junk")
    keys["backup"].delete_object(Bucket=bucket, Key=FIRST)
    evaluate_policies(s3_server, after="inf")
    kept = s3_server.client.get_object(Bucket=bucket, Key=FIRST, VersionId=version)
    assert kept["Body"].read() == b"as it was"


@pytest.mark.parametrize("role", ROLES)
def test_every_role_reads_all_that_is_under_the_prefix(keys: dict[str, Any], bucket: str, role: str) -> None:
    assert keys[role].get_object(Bucket=bucket, Key=FIRST)["Body"].read() == b"as it was"


def test_without_keys_of_the_bucket_nothing_is_read(keys: dict[str, Any], s3_server: S3Server, bucket: str) -> None:
    assert keys
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client_of(s3_server, "s3", "AKIA-of-nobody", "a signing key of more than thirty-two characters").get_object(
            Bucket=bucket, Key=FIRST
        )
