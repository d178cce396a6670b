"""What a bucket's own rules would do to backups, rule form by rule form."""

from datetime import UTC, datetime
from typing import Any

import pytest

from core.environment import Retention
from core.lifecycle import (
    check_lifecycle,
    check_object_lock,
    check_public_access,
    check_versioning,
    longest_needed_days,
    rule_touches,
)

FOLDERS = ("prod/app/", "prod/billing/")
PREFIX = "prod"
POLICY = Retention(days=30)
SOME_DAY = datetime(2027, 1, 1, tzinfo=UTC)


def rule(*, status: str = "Enabled", **parts: Any) -> dict[str, Any]:
    return {"ID": "tidy", "Status": status, "Filter": {"Prefix": ""}, **parts}


def look(*rules: dict[str, Any], policy: Retention = POLICY) -> list[tuple[str, str]]:
    return [(check.state, check.found) for check in check_lifecycle(rules, FOLDERS, PREFIX, policy)]


@pytest.mark.parametrize(
    ("where", "touches"),
    [
        ({"Filter": {}}, True),
        ({"Filter": {"Prefix": ""}}, True),
        ({"Filter": {"Prefix": "prod"}}, True),
        ({"Filter": {"Prefix": "prod/"}}, True),
        ({"Filter": {"Prefix": "prod/app/2026"}}, True),
        ({"Filter": {"Prefix": "prod-eu/"}}, False),
        ({"Filter": {"Prefix": "prod/apples/"}}, False),
        ({"Filter": None, "Prefix": "prod/app"}, True),
        ({"Filter": None, "Prefix": "logs/"}, False),
        ({"Filter": {"Tag": {"Key": "temporary", "Value": "yes"}}}, False),
        ({"Filter": {"And": {"Prefix": "prod/", "Tags": [{"Key": "a", "Value": "b"}]}}}, False),
        ({"Filter": {"And": {"Prefix": "prod/", "ObjectSizeGreaterThan": 1}}}, True),
        ({"Filter": {"And": {"Prefix": "logs/", "ObjectSizeGreaterThan": 1}}}, False),
        ({"Filter": {"ObjectSizeLessThan": 1000}}, True),
        ({"Filter": {}, "Status": "Disabled"}, False),
    ],
)
def test_a_rule_touches_what_its_filter_lets_through(where: dict[str, Any], touches: bool):
    assert rule_touches({**rule(), **where}, "prod/app/") is touches


def test_without_rules_there_is_nothing_to_fear():
    assert [state for state, _ in look()] == ["passed"]
    assert [state for state, _ in look(rule(status="Disabled", Expiration={"Days": 1}))] == ["passed"]
    assert [state for state, _ in look(rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}))] == ["passed"]
    assert [state for state, _ in look(rule(Expiration={"ExpiredObjectDeleteMarker": True}))] == ["passed"]
    assert [state for state, _ in look(rule(NoncurrentVersionExpiration={"NoncurrentDays": 1}))] == ["passed"]


@pytest.mark.parametrize(("days", "state"), [(1, "failed"), (59, "failed"), (60, "warning"), (3650, "warning")])
def test_an_expiration_fails_below_twice_the_retention_and_warns_from_there_on(days: int, state: str):
    ((found_state, found),) = look(rule(Expiration={"Days": days}))
    assert found_state == state
    assert f"rule tidy (on the whole bucket) expires objects after {days} days" in found


def test_an_expiration_by_date_fails():
    ((state, found),) = look(rule(Expiration={"Date": SOME_DAY}))
    assert state == "failed"
    assert "2027-01-01" in found


def test_what_the_generations_keep_longer_is_needed_longer():
    policy = Retention(days=30, keep_weekly=20, keep_monthly=12)
    assert longest_needed_days(policy) == 372
    assert look(rule(Expiration={"Days": 371}), policy=policy)[0][0] == "failed"
    assert look(rule(Expiration={"Days": 372}), policy=policy)[0][0] == "warning"


@pytest.mark.parametrize(
    ("transition", "states"),
    [
        ({"Days": 10, "StorageClass": "GLACIER"}, ["failed"]),
        ({"Days": 30, "StorageClass": "DEEP_ARCHIVE"}, ["warning"]),
        ({"Date": SOME_DAY, "StorageClass": "GLACIER"}, ["failed"]),
        ({"Days": 0, "StorageClass": "GLACIER_IR"}, ["passed"]),
        ({"Days": 0, "StorageClass": "STANDARD_IA"}, ["passed"]),
    ],
)
def test_a_move_to_a_class_that_cannot_be_read_at_once_is_told(transition: dict[str, Any], states: list[str]):
    assert [state for state, _ in look(rule(Transitions=[transition]))] == states


@pytest.mark.parametrize(
    ("folder", "what"),
    [
        ("evidence", "reports: `nightshift evidence verify` fails without them"),
        ("releases", "plans and ends of releases: an older release"),
        ("watches", "what watches saw: one that goes on"),
        ("restores", "records of restored copies: one that is older"),
    ],
)
def test_a_rule_for_what_is_kept_beside_backups_warns(folder: str, what: str):
    only = {"Filter": {"Prefix": f"prod/{folder}/"}}
    for expiration in ({"Days": 90}, {"Date": SOME_DAY}):
        ((state, found),) = look(rule(**only, Expiration=expiration))
        assert state == "warning"
        assert f"expires {what}" in found
    ((state, found),) = look(rule(**only, Transitions=[{"Days": 90, "StorageClass": "DEEP_ARCHIVE"}]))
    assert state == "warning"
    assert "to DEEP_ARCHIVE, which cannot be read at once" in found
    assert [state for state, _ in look(rule(**only, Transitions=[{"Days": 9, "StorageClass": "GLACIER_IR"}]))] == [
        "passed"
    ]
    assert [state for state, _ in look(rule(**only, Expiration={"ExpiredObjectDeleteMarker": True}))] == ["passed"]
    assert [state for state, _ in look(rule(**only))] == ["passed"]


def test_each_check_says_which_folders_to_leave_out():
    (check,) = check_lifecycle(
        [rule(Filter={"Prefix": "prod/billing/"}, Expiration={"Days": 5})], FOLDERS, PREFIX, POLICY
    )
    assert "prod/billing/" in check.next_step
    assert "prod/app/" not in check.next_step


@pytest.mark.parametrize(
    ("status", "rules", "state"),
    [
        ("", [], "passed"),
        ("Enabled", [], "warning"),
        ("Suspended", [], "warning"),
        ("Enabled", [rule(NoncurrentVersionExpiration={"NoncurrentDays": 7})], "passed"),
        ("Enabled", [rule(status="Disabled", NoncurrentVersionExpiration={"NoncurrentDays": 7})], "warning"),
        (
            "Enabled",
            [rule(Filter={"Prefix": "prod/app/"}, NoncurrentVersionExpiration={"NoncurrentDays": 7})],
            "warning",
        ),
        (
            "Enabled",
            [rule(Filter={"ObjectSizeGreaterThan": 9}, NoncurrentVersionExpiration={"NoncurrentDays": 7})],
            "warning",
        ),
    ],
)
def test_a_versioned_bucket_needs_a_rule_that_removes_old_versions(status: str, rules: list[Any], state: str):
    assert check_versioning(status, rules, "prod/").state == state


def locked(**default: Any) -> dict[str, Any]:
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", **default}}}


@pytest.mark.parametrize(
    ("configuration", "days", "state"),
    [
        (None, 0, "passed"),
        (None, 7, "failed"),
        ({"ObjectLockEnabled": "Enabled"}, 7, "passed"),
        ({"ObjectLockEnabled": "Enabled"}, 31, "warning"),
        (locked(Days=30), 0, "passed"),
        (locked(Days=31), 0, "warning"),
        (locked(Years=1), 7, "warning"),
    ],
)
def test_object_lock_and_retention_agree(configuration: dict[str, Any] | None, days: int, state: str):
    assert check_object_lock(configuration, days, POLICY).state == state


def test_public_access_is_blocked_in_all_its_four_parts_or_warned_of():
    everything = dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )
    assert check_public_access(everything).state == "passed"
    partly = check_public_access({**everything, "BlockPublicPolicy": False})
    assert (partly.state, "BlockPublicPolicy off" in partly.found) == ("warning", True)
    assert check_public_access({}).state == "warning"
