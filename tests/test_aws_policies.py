"""The IAM policies of deployments/aws/: each request that a backup, a drill and a restore really make is allowed by theirs, and nothing is that none of them makes."""

import json
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from deployments.local.data_folder import CHECKOUT
from tests.fix_nightly import Night

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("prefect")]

FOLDER = CHECKOUT / "deployments" / "aws"
BUCKET, PREFIX = "arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/PREFIX/"
# What a request needs: AWS's "Service Authorization Reference", Amazon S3, and "Required permissions for Amazon S3 API operations". Of the bucket, by query:
CONFIGURATIONS = {
    "lifecycle": "s3:GetLifecycleConfiguration",
    "versioning": "s3:GetBucketVersioning",
    "object-lock": "s3:GetBucketObjectLockConfiguration",
    "publicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "uploads": "s3:ListBucketMultipartUploads",
}
# Of an object, by method. The parts of an upload are its PutObject.
OBJECTS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}
# Asked for when something goes wrong, or by a setting: no run of this test makes them.
RARE = {"s3:AbortMultipartUpload"}
Needs = set[tuple[str, str]]


def policy(name: str) -> list[dict[str, Any]]:
    """The statements of a policy."""
    read: dict[str, Any] = json.loads((FOLDER / f"{name}-policy.json").read_text())
    assert read["Version"] == "2012-10-17"
    statements: list[dict[str, Any]] = read["Statement"]
    return statements


def needs_of(requests: Iterable[tuple[str, str]], bucket: str, prefix: str) -> Needs:
    """Given requests as the proxy noted them, return the actions that they need, each with its resource as the policies name it."""
    found: Needs = set()
    for method, address in requests:
        parts = urlsplit(address)
        query = parse_qs(parts.query, keep_blank_values=True)
        key = unquote(parts.path).removeprefix(f"/{bucket}").lstrip("/")
        if key:
            action = "s3:AbortMultipartUpload" if method == "DELETE" and "uploadId" in query else OBJECTS[method]
            found.add((action, PREFIX + key.removeprefix(f"{prefix}/")))
        elif method == "POST" and "delete" in query:
            # Which keys stands in its body: tests of the retention hold it to the folders of databases.
            found.add(("s3:DeleteObject", f"{PREFIX}first/x"))
        else:
            configuration = next((name for name in CONFIGURATIONS if name in query), None)
            found.add((CONFIGURATIONS[configuration] if configuration else "s3:ListBucket", BUCKET))
    return found


def allows(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether IAM would allow it: some statement does, and none denies it."""
    effects = {
        one["Effect"]
        for one in statements
        if action in one["Action"] and any(fnmatchcase(resource, pattern) for pattern in one["Resource"])
    }
    return effects == {"Allow"}


def actions_of(statements: list[dict[str, Any]]) -> set[str]:
    """The actions on S3 that a policy allows."""
    return {
        action for one in statements if one["Effect"] == "Allow" for action in one["Action"] if action.startswith("s3:")
    }


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*-policy.json")), ids=lambda file: file.stem)
def test_each_statement_names_its_actions_and_resources(file: Any) -> None:
    for one in json.loads(file.read_text())["Statement"]:
        assert one.keys() == {"Sid", "Effect", "Action", "Resource"}
        assert not [action for action in one["Action"] if "*" in action]
        assert not [resource for resource in one["Resource"] if not re.match(r"arn:aws:[a-z0-9]+:.*\w", resource)]


def test_nobody_may_delete_a_version_or_change_the_bucket() -> None:
    """So that in a versioned bucket not even the backups' own key destroys one."""
    allowed = set[str]().union(*(actions_of(policy(name)) for name in ("backup", "drill", "restore", "object-lock")))
    assert {one for one in allowed if one.startswith(("s3:Put", "s3:Delete", "s3:Bypass"))} == {
        "s3:PutObject",
        "s3:PutObjectRetention",
        "s3:DeleteObject",
    }
    assert [name for name in ("backup", "drill", "restore") if "s3:DeleteObject" in actions_of(policy(name))] == [
        "backup"
    ]


@pytest.mark.parametrize("name", ["backup", "drill", "restore"])
def test_the_secret_of_an_environment_is_read_and_none_of_one_whose_name_begins_alike(name: str) -> None:
    arn = "arn:aws:secretsmanager:REGION:ACCOUNT:secret:nightshift/ENVIRONMENT"
    # Secrets Manager adds a hyphen and six letters of its own to each name.
    assert allows(policy(name), "secretsmanager:GetSecretValue", f"{arn}-a1B2c3")
    assert not allows(policy(name), "secretsmanager:GetSecretValue", f"{arn}-staging-a1B2c3")


def test_evidence_is_deleted_by_nobody() -> None:
    for key in (
        "evidence/00000001.json",
        "evidence-head.json",
        "restores/1f2e3d4c.json",
        "releases/r-1/closed.json",
        "first/owner.json",
    ):
        assert not allows(policy("backup"), "s3:DeleteObject", PREFIX + key), key
    assert allows(policy("backup"), "s3:DeleteObject", f"{PREFIX}first/20260101T020000Z-abcd/manifest.json")


def test_what_backup_drill_and_restore_ask_of_s3_is_what_their_policies_allow(night: Night) -> None:
    asked: dict[str, Needs] = {}
    for name, run in (
        ("backup", night.run),
        ("drill", night.drill),
        ("restore", lambda: night.restore("first", backup="newest-decoded")),
    ):
        night.faults.requests.clear()
        state = run()
        assert state.is_completed(), (name, state.message)
        asked[name] = needs_of(night.faults.requests, night.bucket, "night")
    for name, needs in asked.items():
        statements = policy(name)
        assert not [one for one in sorted(needs) if not allows(statements, *one)], name
        assert actions_of(statements) - RARE == {action for action, _ in needs}, name
