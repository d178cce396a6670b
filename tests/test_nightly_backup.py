"""The nightly backup as a flow: what a run leaves in the bucket, in its report and in its final state, when all is well and when it is not."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from core.keys import MANIFEST, backup_folder, database_folder
from core.manifest import Coverage
from deployments.command.catalog import view_database
from tasks.catalogue import commit_manifest, read_catalogue
from tasks.evidence import verify_chain
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_nightly import Night

pytestmark = pytest.mark.xdist_group("prefect")


def states_of(night: Night, database: str) -> list[str]:
    """The states of a database's backups, oldest first."""
    return [
        entry.state
        for entry in read_catalogue(ObjectStore.open(night.environment), night.environment, database).entries
    ]


def test_every_database_is_backed_up_decoded_and_reported(night: Night) -> None:
    state = night.run()
    assert state.is_completed(), state.message
    assert states_of(night, "first") == states_of(night, "second") == ["decoded"]
    report = night.report
    assert report.verdict == "passed"
    facts = next(step.facts for step in report.steps if step.name == "dump and digest" and step.subject == "first")
    assert [(table["table"], table["rows"]) for table in facts["tables"]] == [("public.account", 500)]
    assert facts["tables"][0]["digest"]


@pytest.mark.parametrize("parallel", [1, 2])
def test_databases_are_backed_up_side_by_side_within_the_limit(night: Night, parallel: int) -> None:
    night.settings["backups"] = {"parallel": parallel}
    assert night.run().is_completed()

    def times(database: str) -> tuple[datetime, datetime]:
        steps = [step for step in night.report.steps if step.subject == database]
        return steps[0].started, steps[-1].started + timedelta(milliseconds=steps[-1].duration_ms)

    (first_began, first_ended), (second_began, second_ended) = sorted((times("first"), times("second")))
    assert first_began < first_ended
    assert second_began < second_ended
    assert (second_began < first_ended) == (parallel == 2)


def test_progress_evidence_and_the_retentions_plan_are_artifacts_of_the_run(night: Night) -> None:
    state = night.run(databases=["first"], retention="dry-run")
    with get_client(sync_client=True) as client:
        run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        found = {one.key: one for one in client.read_artifacts(flow_run_filter=run)}
    assert {key: one.type for key, one in found.items()} == {
        "backup-first": "progress",
        "decode-first": "progress",
        "retention-night-first": "table",
        "nightly-backup-night": "markdown",
    }
    for key in ("backup-first", "decode-first"):
        assert found[key].data == 100
        assert "read at" in str(found[key].description)
    [row] = json.loads(found["retention-night-first"].data)
    assert (row["decision"], row["why"]) == ("keep", "newest decoded, while none is proven")
    assert "public.account" in found["nightly-backup-night"].data


def test_with_several_jobs_the_dump_is_a_directory_and_decodes_as_well(night: Night) -> None:
    night.settings["databases"]["first"] |= {"jobs": 2, "spool_reserve_mib": 16}
    state = night.run(databases=["first"])
    assert state.is_completed(), state.message
    assert states_of(night, "first") == ["decoded"]
    facts = next(step.facts for step in night.report.steps if step.name == "dump and digest")
    assert (facts["format"], facts["rows"]) == ("directory", 500)


def test_a_second_night_adds_a_backup_and_chains_its_report(night: Night) -> None:
    night.run(databases=["first"])
    state = night.run(databases=["first"])
    assert state.is_completed(), state.message
    assert states_of(night, "first") == ["decoded", "decoded"]
    assert night.report.sequence == 2
    chain = verify_chain(ObjectStore.open(night.environment), night.environment, signing_keys(night.environment))
    assert (chain.reports, list(chain.problems)) == (2, [])


@pytest.mark.services
def test_a_night_that_cannot_see_the_lock_of_its_own_backup_keeps_it_deletes_nothing_and_is_failed(
    night: Night, locking_bucket: str
) -> None:
    night.settings["store"] |= {"bucket": locking_bucket, "object_lock_days": 1}
    seen = night.run(databases=["first"])
    assert seen.is_completed(), seen.message
    # As S3 answers credentials without s3:GetObjectRetention.
    night.faults.refuse("HEAD", MANIFEST, status=200, times=9)
    unseen = night.run(databases=["first"])
    assert unseen.is_failed()
    assert "shows no lock" in str(unseen.message)
    assert "s3:GetObjectRetention" in str(unseen.message)
    assert states_of(night, "first") == ["decoded", "decoded"]


def test_a_database_that_fails_does_not_stop_the_others_and_the_run_is_failed(night: Night) -> None:
    night.settings["databases"]["second"]["name"] = "there_is_none"
    state = night.run()
    assert state.is_failed()
    assert "second" in str(state.message)
    assert "there_is_none" in str(state.message)
    assert states_of(night, "first") == ["decoded"]
    assert night.report.verdict == "failed"
    assert {step.subject for step in night.report.steps if step.state == "failed"} == {"second"}


def test_a_database_that_the_environment_does_not_have_fails_before_anything_is_touched(night: Night) -> None:
    state = night.run(databases=["third"])
    assert state.is_failed()
    assert "third" in str(state.message)
    assert night.keys == []


def test_a_wrong_file_fails_before_anything_is_touched_and_names_file_and_key(night: Night) -> None:
    night.settings["retention"] = {"dayz": 30}
    state = night.run()
    assert state.is_failed()
    assert "night.toml" in str(state.message)
    assert "dayz" in str(state.message)
    assert night.keys == []


def test_a_bucket_that_does_not_exist_fails_before_the_dump(night: Night) -> None:
    night.settings["store"]["bucket"] = "there-is-no-such-bucket"
    state = night.run(databases=["first"])
    assert state.is_failed()
    assert "there-is-no-such-bucket" in str(state.message)


def test_a_spool_that_is_not_there_fails_before_the_dump(night: Night) -> None:
    night.settings["databases"]["first"] |= {"jobs": 2, "spool_directory": str(night.folder / "missing")}
    state = night.run(databases=["first"])
    assert state.is_failed()
    assert "first: spool" in str(state.message)
    assert [step.name for step in night.report.steps] == ["check before"]


def test_a_role_that_row_security_hides_rows_from_is_refused_by_name(
    night: Night, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    dbname = night.names["first"]
    role, password = fresh_role(night.server)
    night.server.execute(
        dbname,
        "CREATE TABLE secret (id int)",
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
        f"GRANT pg_read_all_data TO {role}",
    )
    record = night.server.database(dbname, user=role, password=password)
    night.settings["databases"]["first"] = record.model_dump(exclude_defaults=True)
    state = night.run(databases=["first"])
    assert state.is_failed()
    assert "public.secret" in str(state.message)
    assert night.backup_keys == []


def test_two_runs_at_once_give_one_backup_each_or_one_refusal_never_a_mixture(night: Night) -> None:
    night.write()
    states = []

    def run() -> None:
        states.append(night.run(databases=["first"], retention="skip"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    completed = [state for state in states if state.is_completed()]
    refused = [state for state in states if state.is_failed()]
    assert completed
    assert all("already being backed up" in str(state.message) for state in refused)
    assert states_of(night, "first") == ["decoded"] * len(completed)


def test_s3_that_is_down_for_a_moment_is_bridged(night: Night) -> None:
    night.faults.refuse("PUT", MANIFEST, times=2)
    state = night.run(databases=["first"])
    assert state.is_completed(), state.message
    assert states_of(night, "first") == ["decoded"]


def test_a_lost_answer_to_the_manifest_does_not_make_a_second_backup_or_a_failure(night: Night) -> None:
    night.faults.lose_answer("PUT", MANIFEST)
    state = night.run(databases=["first"])
    assert state.is_completed(), state.message
    assert states_of(night, "first") == ["decoded"]


@pytest.mark.services
def test_s3_that_stays_down_for_the_dump_leaves_nothing(night: Night) -> None:
    night.faults.refuse("PUT", "/dump/", times=1000)
    state = night.run(databases=["first"])
    assert state.is_failed()
    assert night.backup_keys == []
    assert night.uploads == []


def test_a_dump_that_is_damaged_in_the_bucket_is_not_decoded_and_nothing_is_pruned(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    good = night.backup_keys

    def commit_and_damage(*arguments: Any) -> None:
        commit_manifest(*arguments)
        key = next(key for key in night.backup_keys if "/dump/" in key and key not in good)
        body = bytearray(night.s3.client.get_object(Bucket=night.bucket, Key=key)["Body"].read())
        body[len(body) // 2] ^= 1
        night.s3.client.put_object(Bucket=night.bucket, Key=key, Body=bytes(body))

    monkeypatch.setattr("tasks.backup_steps.commit_manifest", commit_and_damage)
    state = night.run(databases=["first"])
    assert state.is_failed()
    assert "SHA-256" in str(state.message)
    assert states_of(night, "first") == ["decoded", "uploaded"]
    assert set(good) <= set(night.backup_keys)
    assert not any(step.name == "retention" for step in night.report.steps)


def test_retention_as_a_dry_run_shows_the_plan_and_deletes_nothing(night: Night) -> None:
    night.settings["retention"] = {"days": 1, "minimum_keep": 1}
    state = night.run(databases=["first"], retention="dry-run")
    assert state.is_completed(), state.message
    facts = next(step.facts for step in night.report.steps if step.name == "retention")
    assert facts["dry_run"] is True
    assert states_of(night, "first") == ["decoded"]


def test_no_secret_is_in_the_report_or_the_manifest(night: Night) -> None:
    night.run(databases=["first"])
    for key in night.keys:
        if key.endswith(".json"):
            body = night.s3.client.get_object(Bucket=night.bucket, Key=key)["Body"].read().decode()
            assert night.server.password not in body
            assert "a signing key of more" not in body


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_pg_dump_warns_of_is_a_warning_of_the_run(
    night: Night, fresh_role: Callable[..., tuple[str, str]], jobs: int
) -> None:
    dbname = night.names["first"]
    role, password = fresh_role(night.server)
    subscription = "CREATE SUBSCRIPTION lost CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false)"
    night.server.execute(dbname, subscription, f"GRANT pg_read_all_data TO {role}")
    record = night.server.database(dbname, user=role, password=password, jobs=jobs)
    night.settings["databases"]["first"] = record.model_dump(exclude_defaults=True)
    try:
        state = night.run(databases=["first"])
    finally:
        drop = ("ALTER SUBSCRIPTION lost SET (slot_name = NONE)", "DROP SUBSCRIPTION lost")
        night.server.execute(dbname, *drop)
    assert state.is_completed(), state.message
    assert night.report.verdict == "passed with warnings"
    [dump] = [step for step in night.report.steps if step.name == "dump and digest"]
    assert "subscriptions not dumped" in dump.findings[0].text


def test_a_dump_that_lacks_an_object_is_kept_but_the_run_is_failed_and_nothing_is_pruned(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap = Coverage(expected=2, listed=1, missing=("view public.lost",))
    monkeypatch.setattr("tasks.take_backup.compare_coverage", lambda *_arguments: gap)
    state = night.run(databases=["first"])
    assert state.is_failed()
    assert "view public.lost" in str(state.message)
    assert states_of(night, "first") == ["decoded"]
    assert not any(step.name == "retention" for step in night.report.steps)


@pytest.mark.services
def test_backups_removed_with_their_folders_are_missed_by_the_next_runs_and_the_catalogue(night: Night) -> None:
    assert night.run(databases=["first"]).is_completed()
    assert night.report.verdict == "passed"
    store, environment = ObjectStore.open(night.environment), night.environment
    [entry] = read_catalogue(store, environment, "first").entries
    store.remove_folder(backup_folder(environment.prefix, "first", entry.backup_id))
    missed = f"a backup that was there is gone, and no report says that nightshift deleted it: {entry.backup_id}"
    assert [one.split(".")[0] for one in view_database(environment, "first", datetime.now(UTC), 5).problems] == [missed]
    assert night.run(databases=["first"], retention="skip").is_completed()
    assert night.report.verdict == "passed with warnings"
    assert [finding.text.split(".")[0] for step in night.report.steps for finding in step.findings] == [missed]
    store.remove_folder(database_folder(environment.prefix, "first"))
    assert night.run(databases=["first"]).is_completed()
    first, both = [finding.text for step in night.report.steps for finding in step.findings]
    earlier = "earlier backups: first backup here, though the evidence has earlier ones (the newest: report 2"
    assert first.startswith(earlier)
    # What was missed before is told again.
    assert both.startswith("2 backups that were there are gone")
    assert entry.backup_id in both


@pytest.mark.services
def test_a_file_that_names_another_database_than_the_backups_are_of_is_a_warning_of_the_night_and_of_the_one_after(
    night: Night,
) -> None:
    assert night.run(databases=["first"], retention="skip").is_completed()
    assert night.report.verdict == "passed"
    night.settings["databases"]["first"]["name"] = night.names["second"]
    state = night.run(databases=["first"], retention="skip")
    assert state.is_completed(), state.message
    assert night.report.verdict == "passed with warnings"
    (warning,) = (one.text for step in night.report.steps for one in step.findings if one.severity == "warning")
    assert f"first: source: the backups of first so far are of the database {night.names['first']} on " in warning
    assert f"first now is the database {night.names['second']} on " in warning
    assert "correct name in [databases.first]" in warning
    night.settings["databases"]["first"]["name"] = night.names["first"]
    assert night.run(databases=["first"], retention="skip").is_completed()
    assert "would bring back the other database" in str(night.report.steps[0].findings)
