"""Items recovery-point and proof-age: as old as the bucket says, by signatures and not by names."""

from datetime import UTC, datetime
from typing import Any

import pytest

from core.environment import Objectives
from core.signature import SigningKey
from tasks.check_recovery import check_proof_age, check_recovery_point
from tasks.preflight_item import Preflight
from tests.fix_keeping import Keeping, id_of
from tests.fix_preflight import preflight_for

SECRET = "a signing key of more than thirty-two characters"
KEY = SigningKey("hmac-sha256", SECRET)


@pytest.fixture(autouse=True)
def signing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", SECRET)


def preflight(keeping: Keeping, **objectives: int) -> Preflight:
    environment = keeping.environment.model_copy(update={"objectives": Objectives.model_validate(objectives)})
    return preflight_for(environment=environment, clock=lambda: datetime.now(UTC))


@pytest.mark.parametrize(
    ("state", "days", "point", "proof"),
    [
        ("proven", 0.1, "passed", "passed"),
        ("decoded", 0.1, "passed", "failed"),
        ("proven", 1.5, "failed", "passed"),
        ("proven", 9, "failed", "failed"),
        ("uploaded", 0.1, "failed", "failed"),
    ],
)
def test_both_ages_are_held_against_their_objectives(
    keeping: Keeping, state: str, days: float, point: str, proof: str
) -> None:
    keeping.add(id_of(days), state, key=KEY)
    looked = preflight(keeping)
    assert (check_recovery_point(looked).state, check_proof_age(looked).state) == (point, proof)


def test_without_any_backup_both_fail_and_say_what_to_do(keeping: Keeping) -> None:
    check = check_recovery_point(preflight(keeping))
    assert (check.state, check.next_step) == ("failed", "nightshift backup local --database app")


def test_a_proof_that_is_not_asked_for_is_not_passed(keeping: Keeping) -> None:
    assert check_proof_age(preflight(keeping, proof_age_hours=0)).state == "not-configured"


def test_a_forged_backup_gives_no_age_and_is_told(keeping: Keeping) -> None:
    keeping.add(id_of(0.1), "decoded", key=SigningKey("hmac-sha256", "the signing key of somebody else altogether"))
    check = check_recovery_point(preflight(keeping))
    assert (check.state, "passed over" in check.found) == ("failed", True)
    keeping.add(id_of(0.2), "decoded", key=KEY)
    check = check_recovery_point(preflight(keeping))
    assert (check.state, "passed over" in check.found) == ("passed", True)


def test_a_bucket_that_does_not_answer_fails_both(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.s3_client.ATTEMPTS", 1)
    away: dict[str, Any] = {
        "store": keeping.environment.store.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})
    }
    keeping.environment = keeping.environment.model_copy(update=away)
    assert check_recovery_point(preflight(keeping)).state == "failed"
    assert check_proof_age(preflight(keeping)).state == "failed"
