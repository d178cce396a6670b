"""The drill as a flow: what it proves, what it refuses to prove, and that nothing is left of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.keys import PROVEN
from core.restore_record import Control
from flows import dr_drill
from tasks import drill_steps
from tasks.catalogue import read_catalogue, read_state
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_nightly import Night, server_settings
from tests.fix_postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("prefect")


def state_of(night: Night, database: str = "first") -> str:
    return read_catalogue(ObjectStore.open(night.environment), night.environment, database).entries[-1].state


def findings(night: Night) -> str:
    return " | ".join(finding.text for step in night.report.steps for finding in step.findings)


def scratch_folders(night: Night) -> list[Path]:
    return [path for path in night.folder.iterdir() if path.name != "night.toml"]


def test_a_backup_that_was_restored_and_matches_is_proven_with_its_controls_and_nothing_is_left(night: Night) -> None:
    night.run(databases=["first"])
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    assert state_of(night) == "proven"
    report = night.report
    assert report.flow == "dr-drill"
    controls = next(step.facts["controls"] for step in report.steps if step.name == "negative controls")
    assert len(controls) == 5
    assert all(control["detected"] for control in controls)
    facts = next(step.facts for step in report.steps if step.name == "judge")
    assert facts["rows"] == 500
    assert {phase["phase"] for phase in facts["phases"]} >= {"fetch", "restore", "analyze", "verify"}
    environment = night.environment
    entry = read_catalogue(ObjectStore.open(environment), environment, "first").entries[-1]
    proven = read_state(
        ObjectStore.open(environment), environment, "first", entry.backup_id, signing_keys(environment), state=PROVEN
    )
    assert proven is not None
    assert proven["rows"] == 500
    assert scratch_folders(night) == []


@pytest.mark.services
def test_the_newest_unproven_backup_is_taken_and_an_older_one_when_it_is_proven(night: Night) -> None:
    night.run(databases=["first"])
    night.run(databases=["first"])
    for _ in range(2):
        assert night.drill(databases=["first"]).is_completed()
    states = [
        one.state for one in read_catalogue(ObjectStore.open(night.environment), night.environment, "first").entries
    ]
    assert states == ["proven", "proven"]


def test_a_drill_whose_control_passes_is_itself_failed(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.run(databases=["first"])
    seen = drill_steps.database_controls

    def blind(*arguments: object, **named: object) -> tuple[Control, ...]:
        first, *others = seen(*arguments, **named)  # type: ignore[arg-type]
        return (first.model_copy(update={"detected": False}), *others)

    monkeypatch.setattr(drill_steps, "database_controls", blind)
    state = night.drill(databases=["first"])
    assert state.is_failed()
    assert "cannot see damage" in str(state.message)
    assert state_of(night) == "decoded"


def test_a_backup_whose_stored_bytes_were_changed_is_refused_and_named(night: Night) -> None:
    night.run(databases=["first"])
    key = next(key for key in night.keys if "/dump/" in key)
    stored = night.s3.client.get_object(Bucket=night.bucket, Key=key)["Body"].read()
    middle = len(stored) // 2
    changed = stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :]
    night.s3.client.put_object(Bucket=night.bucket, Key=key, Body=changed)
    state = night.drill(databases=["first"])
    assert state.is_failed()
    assert "SHA-256" in str(state.message)
    assert state_of(night) == "decoded"
    assert scratch_folders(night) == []


@pytest.mark.services
def test_an_invariant_that_does_not_hold_fails_the_drill(night: Night) -> None:
    night.settings["drill"] = {
        "invariants": [
            {"name": "accounts", "database": "first", "sql": "SELECT count(*) FROM public.account", "expected": "500"},
            {"name": "debts", "database": "first", "sql": "SELECT count(*) FROM public.account", "expected": "7"},
        ]
    }
    night.run(databases=["first"])
    state = night.drill(databases=["first"])
    assert state.is_failed()
    assert "debts" in str(state.message)
    assert "accounts" not in findings(night)
    assert state_of(night) == "decoded"


def test_without_any_backup_the_drill_says_what_to_do(night: Night) -> None:
    state = night.drill(databases=["first"])
    assert state.is_failed()
    assert "nightshift backup night --database first" in str(state.message)


@pytest.mark.services
def test_a_recovery_time_over_its_objective_is_told_and_the_backup_is_proven(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    judge = dr_drill.judge_drill

    def slow(restored: object, *arguments: object, **named: object) -> object:
        phases = tuple(phase.model_copy(update={"ms": 120_000}) for phase in restored.phases)  # type: ignore[attr-defined]
        return judge(restored.model_copy(update={"phases": phases}), *arguments, **named)  # type: ignore[attr-defined,arg-type]

    monkeypatch.setattr(dr_drill, "judge_drill", slow)
    night.settings["objectives"] = {"restore_minutes": 1}
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    assert "over objective" in findings(night)
    assert state_of(night) == "proven"


def test_a_whole_copy_in_another_region_does_not_prove_a_bucket_that_is_damaged(night: Night) -> None:
    night.run(databases=["first"])
    client, copied = night.s3.client, f"{night.bucket}-copy"
    client.create_bucket(Bucket=copied)
    for key in night.keys:
        client.copy_object(Bucket=copied, Key=key, CopySource={"Bucket": night.bucket, "Key": key})
    damaged = next(key for key in night.keys if "/dump/" in key)
    body = client.get_object(Bucket=night.bucket, Key=damaged)["Body"].read()
    client.put_object(Bucket=night.bucket, Key=damaged, Body=body[:-1] + bytes([body[-1] ^ 1]))
    night.settings["copy_store"] = {"bucket": copied, "endpoint_url": night.faults.endpoint}
    state = night.drill(databases=["first"], read_from_copy=True)
    assert state.is_completed(), state.message
    assert "does not prove the bucket itself" in str(state.message)
    assert state_of(night) == "decoded"
    assert night.drill(databases=["first"]).is_failed()


@pytest.mark.services
def test_a_backup_that_cannot_be_proven_where_an_extension_is_missing_does_not_look_green(
    night: Night, postgres_15: PostgresServer, postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(
        postgres_15,
        "CREATE EXTENSION citext",
        "CREATE TABLE plain AS SELECT n AS id, 'row ' || n AS name FROM generate_series(1, 9) AS n",
        "CREATE TABLE mail (address citext)",
        "INSERT INTO mail VALUES ('a@b')",
    )
    night.settings["databases"]["first"] = postgres_15.database(name).model_dump(exclude_defaults=True)
    night.settings["servers"]["scratch"] = server_settings(postgres_18)
    night.settings["drill"] = {"scratch": "server", "server": "scratch"}
    night.run(databases=["first"])
    state = night.drill(databases=["first"])
    assert state.is_failed()
    assert str(state.message) == "first: not proven: the server has no extension citext; nothing was found wrong"
    assert "mismatch" not in findings(night)
    assert "not restored: TABLE DATA public mail postgres: it needs the extension citext" in findings(night)
    assert night.report.verdict == "failed"
    judged = next(step.facts for step in night.report.steps if step.name == "judge")
    assert judged["restored"]["outcome"] == "not proven"
    assert state_of(night) == "decoded"


def test_a_backup_of_which_no_tables_content_is_compared_is_not_proven_and_one_of_some_is_with_a_word_on_the_others(
    night: Night,
) -> None:
    night.server.execute(night.names["first"], "CREATE TABLE cache AS SELECT 1 AS id")
    night.settings["databases"]["first"]["digests"] = "off"
    night.run(databases=["first"])
    state = night.drill(databases=["first"])
    assert state.is_failed()
    assert str(state.message).startswith(
        "first: not proven: the content of none of its 2 tables was compared: neither rows nor content (digests = off): public.account, public.cache"
    )
    assert state_of(night) == "decoded"

    night.settings["databases"]["first"] |= {
        "digests": "full",
        "digest_rules": [{"tables": "public.cache", "mode": "off"}],
    }
    night.run(databases=["first"])
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    assert "is proven, 1 table not compared; " in str(state.message)
    environment = night.environment
    entry = read_catalogue(ObjectStore.open(environment), environment, "first").entries[-1]
    proven = read_state(
        ObjectStore.open(environment), environment, "first", entry.backup_id, signing_keys(environment), state=PROVEN
    )
    assert proven is not None
    assert (proven["compared"]["full"], proven["compared"]["off_names"]) == (1, ["public.cache"])
