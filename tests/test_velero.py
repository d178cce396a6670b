"""Velero: the documents that it is given, what its phases mean, one Backup a run, and every way to wait in vain."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.environment_restore import AppState
from core.errors import PermanentError, TemporaryError
from core.velero import (
    Document,
    VeleroRun,
    backup_document,
    backup_name,
    is_made_by,
    owner_labels,
    read_run,
    restore_document,
    run_findings,
    stuck_error,
)
from tasks.kubernetes_client import KubernetesClient
from tasks.velero import check_velero, make_backup, wait_for_end
from tests.fix_kubernetes import KubernetesApi
from tests.fix_velero import Velero, location

RUN = "0f5c3a52-8f5e-4c58-9a3e-0d9a5d1c7b11"
AT = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
SETTINGS = AppState(namespaces=("staging",))
BACKUPS = ("velero.io/v1", "backups", "velero")


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "staging"}})
    with KubernetesClient.open(None) as opened:
        yield opened


def document(name: str = "", run_id: str = RUN) -> Document:
    return backup_document("staging", SETTINGS, name or backup_name("staging", AT, run_id), run_id)


def run(**status: Any) -> VeleroRun:
    metadata = {"name": "b", "creationTimestamp": "2026-11-22T03:00:00Z"}
    return read_run({"kind": "Backup", "metadata": metadata, "status": status})


# Documents


def test_the_backup_says_what_the_environment_says() -> None:
    settings = AppState(namespaces=("a", "b"), excluded_kinds=("events",), storage_location="dr", ttl_hours=720)
    made = backup_document("staging", settings, "name", RUN)
    assert made["spec"] == {
        "includedNamespaces": ["a", "b"],
        "excludedResources": ["events"],
        "storageLocation": "dr",
        "ttl": "720h0m0s",
    }
    assert made["metadata"]["namespace"] == "velero"
    assert made["metadata"]["labels"]["nightshift.dev/run"] == RUN


def test_the_name_holds_environment_utc_time_and_run_and_fits_into_a_label() -> None:
    local = AT.astimezone(tz=None)
    assert backup_name("staging", local, RUN) == "staging-20261122030000-0f5c3a52"
    assert len(backup_name("e" * 40, AT, RUN)) <= 63


def test_a_restore_goes_into_the_scratch_namespace_alone_and_touches_neither_volumes_nor_the_cluster() -> None:
    made = restore_document(
        "staging", SETTINGS, backup="b", namespace="staging", kinds=("configmaps",), run_id=RUN, attempt=2
    )
    assert made["metadata"]["name"] == "b-staging-2"
    assert made["spec"]["namespaceMapping"] == {"staging": "nightshift-app-state-drill"}
    assert made["spec"]["includedResources"] == ["configmaps"]
    assert (made["spec"]["includeClusterResources"], made["spec"]["restorePVs"]) == (False, False)


def test_what_is_ours_is_told_by_environment_and_run() -> None:
    ours = {"metadata": {"labels": owner_labels("staging-", RUN)}}
    assert is_made_by(ours, "staging-", RUN)
    assert is_made_by(ours, "staging-")
    assert not is_made_by(ours, "production", RUN)
    assert not is_made_by(ours, "staging-", "another")
    assert not is_made_by({"metadata": {"labels": {"app.kubernetes.io/managed-by": "nightshift"}}}, "staging")
    assert not is_made_by({"metadata": {}}, "staging")


# Phases


@pytest.mark.parametrize(
    ("phase", "finished", "well"),
    [
        ("New", False, False),
        ("InProgress", False, False),
        ("WaitingForPluginOperationsPartiallyFailed", False, False),
        ("FinalizingPartiallyFailed", False, False),
        ("APhaseOfTomorrow", False, False),
        ("Completed", True, True),
        ("PartiallyFailed", True, False),
        ("Failed", True, False),
        ("FailedValidation", True, False),
        ("Deleting", True, False),
    ],
)
def test_each_phase_is_an_end_or_not_and_only_one_is_well(phase: str, finished: bool, well: bool) -> None:
    assert (run(phase=phase).finished, run(phase=phase).well) == (finished, well)


def test_completed_with_errors_is_not_well() -> None:
    assert not run(phase="Completed", errors=1).well


def test_a_partial_failure_tells_counts_and_reasons_and_where_to_look() -> None:
    partial = run(
        phase="PartiallyFailed",
        errors=3,
        warnings=1,
        failureReason="hook failed",
        progress={"totalItems": 9, "itemsBackedUp": 6},
    )
    (finding,) = run_findings(partial, "velero")
    assert finding.severity == "error"
    assert "PartiallyFailed, 6 of 9 items: 3 errors, 1 warning; hook failed" in finding.text
    assert "velero backup logs b -n velero" in finding.text


def test_a_refused_backup_tells_why() -> None:
    (finding,) = run_findings(run(phase="FailedValidation", validationErrors=["no such location"]), "velero")
    assert "no such location" in finding.text


def test_warnings_and_an_empty_backup_are_told() -> None:
    findings = run_findings(run(phase="Completed", warnings=2), "velero")
    assert [finding.severity for finding in findings] == ["warning", "warning"]
    assert "tells of no item" in findings[1].text


@pytest.mark.parametrize(
    ("phase", "advice"),
    [
        ("", "get pods"),
        ("InProgress", "items still grow"),
        ("WaitingForPluginOperationsPartiallyFailed", "datauploads"),
        ("APhaseOfTomorrow", "logs deployment/velero"),
    ],
)
def test_a_stuck_backup_names_its_phase_and_where_to_look(phase: str, advice: str) -> None:
    error = stuck_error(run(phase=phase), 60, "velero")
    assert f"after 60 minutes it is {phase or 'New'}" in str(error)
    assert advice in str(error)


# One Backup a run


def test_a_run_that_begins_again_finds_its_own_backup(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    first, again = make_backup(client, SETTINGS, document(), "staging")
    assert not again
    # Killed, and begun again a minute later: the name that it would take now is another.
    later = document(backup_name("staging", AT + timedelta(minutes=1), RUN))
    assert make_backup(client, SETTINGS, later, "staging") == (first, True)
    assert len(kubernetes.select(*BACKUPS, {})) == 1


def test_a_lost_answer_leads_to_no_second_backup(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.fail("POST", "/backups", 0, after=True)
    with pytest.raises(TemporaryError, match="whether it happened is not known"):
        make_backup(client, SETTINGS, document(), "staging")
    _, again = make_backup(client, SETTINGS, document(), "staging")
    assert again
    assert len(kubernetes.select(*BACKUPS, {})) == 1


def test_another_run_makes_its_own_and_another_environments_is_not_taken_for_it(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    make_backup(client, SETTINGS, document(), "staging")
    _, again = make_backup(client, SETTINGS, document("b2", "another-run"), "staging")
    assert not again
    kubernetes.put(backup_document("production", SETTINGS, "p", "run-of-production"))
    _, again = make_backup(client, SETTINGS, document("b3", "run-of-production"), "staging")
    assert not again


def test_a_name_that_somebody_else_took_is_refused(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    strange = document()
    del strange["metadata"]["labels"]
    kubernetes.put(strange)
    with pytest.raises(PermanentError, match="is not of this run"):
        make_backup(client, SETTINGS, document(), "staging")


# Waiting


def told(changes: list[str]) -> Callable[[VeleroRun], None]:
    return lambda seen: changes.append(seen.standing)


def test_every_change_is_told_until_the_end(velero: Velero, client: KubernetesClient) -> None:
    changes: list[str] = []
    make_backup(client, SETTINGS, document("b"), "staging")
    ended = wait_for_end(client, SETTINGS, "backups", "b", on_change=told(changes), seconds=10)
    assert ended.well
    assert changes[-1].startswith("Completed")
    assert ended.items == 2


def test_trouble_with_the_api_server_does_not_end_the_waiting(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    velero.meanwhile = lambda: (
        kubernetes.fail("GET", "fieldSelector", 503, times=2),
        kubernetes.forget_history(),
        kubernetes.cut_watches(),
    )
    make_backup(client, SETTINGS, document("b"), "staging")
    assert wait_for_end(client, SETTINGS, "backups", "b", on_change=told([]), seconds=20).well


@pytest.mark.parametrize("phase", ["New", "InProgress", "WaitingForPluginOperations"])
def test_a_backup_that_does_not_end_is_stuck_in_its_phase(velero: Velero, client: KubernetesClient, phase: str) -> None:
    velero.stays = phase
    make_backup(client, SETTINGS, document("b"), "staging")
    with pytest.raises(PermanentError, match=f"stuck: .* it is {phase}"):
        wait_for_end(client, SETTINGS, "backups", "b", on_change=told([]), seconds=0.7)


def test_a_backup_that_is_deleted_while_it_is_waited_for_is_told(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    make_backup(client, SETTINGS, document("b"), "staging")
    timer = threading.Timer(0.15, lambda: kubernetes.delete(*BACKUPS, "b", None))
    timer.start()
    with pytest.raises(PermanentError, match="somebody deleted it"):
        wait_for_end(client, SETTINGS, "backups", "b", on_change=told([]), seconds=10)
    timer.join()


# Checks


def failed(client: KubernetesClient, settings: AppState = SETTINGS, *, drill: bool = False) -> list[str]:
    """What is not well, as one text each."""
    checks = check_velero(client, settings, datetime.now(UTC), drill=drill)
    return [
        f"{check.state} {check.name}: {check.found} {check.next_step}" for check in checks if check.state != "passed"
    ]


def test_all_is_well(velero: Velero, client: KubernetesClient) -> None:
    assert failed(client, drill=True) == []


def test_a_location_that_is_not_there_or_not_available_is_named_with_veleros_own_words(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    (found,) = failed(client, AppState(namespaces=("staging",), storage_location="dr"))
    assert "storage location dr" in found
    kubernetes.set_status("velero.io/v1", "backupstoragelocations", "velero", "default", phase="Unavailable", message="no such bucket")  # fmt: skip
    (found,) = failed(client)
    assert found.startswith("failed storage location default: Unavailable: no such bucket")


def test_a_read_only_location_is_refused(kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient) -> None:
    shut = location("shut")
    shut["spec"]["accessMode"] = "ReadOnly"
    kubernetes.put(shut)
    kubernetes.set_status("velero.io/v1", "backupstoragelocations", "velero", "shut", phase="Available")
    assert "ReadOnly" in failed(client, AppState(namespaces=("staging",), storage_location="shut"))[0]


def test_a_location_that_velero_has_not_looked_at_for_hours_is_a_warning(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    seen = (datetime.now(UTC) - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    kubernetes.set_status("velero.io/v1", "backupstoragelocations", "velero", "default", lastValidationTime=seen)
    assert failed(client)[0].startswith("warning storage location default: Available, but Velero last looked at")


def test_a_namespace_that_does_not_exist_is_named(velero: Velero, client: KubernetesClient) -> None:
    assert failed(client, AppState(namespaces=("staging", "nowhere")))[0].startswith("failed namespace nowhere")


def test_rights_that_are_lacking_are_listed_and_those_of_a_rehearsal_only_for_one(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    kubernetes.denied = {("create", "backups"), ("delete", "namespaces")}
    assert "our account may not create backups.velero.io in velero " in failed(client)[0]
    assert (
        "create backups.velero.io in velero, delete namespaces nightshift-app-state-drill "
        in failed(client, drill=True)[0]
    )


def test_a_missing_right_to_read_why_a_backup_failed_is_a_warning_and_stops_nothing(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    kubernetes.denied = {("create", "downloadrequests")}
    checks = check_velero(client, SETTINGS, datetime.now(UTC), drill=False)
    assert [(check.name, check.state) for check in checks if check.state != "passed"] == [
        ("Velero's errors", "warning")
    ]
    assert "may not create downloadrequests.velero.io in velero: why a Backup failed" in checks[1].found
