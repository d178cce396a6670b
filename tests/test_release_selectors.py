"""No selector that exists meets Pods that no gate has seen: neither the new version's before the shift, nor a migration's. By the whole flow."""

from typing import Any

import pytest
import yaml

from tests.fix_kubernetes import KubernetesApi
from tests.fix_migrated import Migrated
from tests.fix_release import SKIPPED, Stage
from tests.fix_release_shift import blue_green
from tests.test_release_api_faults import own_writes
from tests.test_release_kills import serving

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-selectors")]
Document = dict[str, Any]
NEW = {"nightshift.dev/colour": "blue"}
SCALED = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-blue"}
EXISTING = (
    ("v1", "Service", {"selector": NEW, "ports": [{"port": 80}]}),
    ("policy/v1", "PodDisruptionBudget", {"minAvailable": 1, "selector": {"matchLabels": NEW}}),
    ("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": {"matchLabels": NEW}, "policyTypes": ["Ingress"]}),
    ("autoscaling/v2", "HorizontalPodAutoscaler", {"scaleTargetRef": SCALED, "minReplicas": 1, "maxReplicas": 3}),
)


def named(api_version: str, kind: str, spec: Document, name: str = "theirs") -> Document:
    """An object of somebody else."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def give_template(stage: Stage, labels: dict[str, str]) -> None:
    """Have the migration's Job go by a template whose Pod has these labels."""
    job = {"template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "migrate"}]}}}
    (stage.folder / "job.yaml").write_text(yaml.safe_dump({"apiVersion": "batch/v1", "kind": "Job", "spec": job}))
    stage.settings["release"]["migration"]["template"] = "job.yaml"


@pytest.mark.parametrize("existing", EXISTING, ids=[kind for _, kind, _ in EXISTING])
def test_a_selector_that_would_match_the_new_pods_stops_the_release_before_anything_is_written(
    stage: Stage, kubernetes: KubernetesApi, existing: tuple[str, str, Document]
) -> None:
    blue_green(stage)
    kubernetes.put(named(*existing))
    begin = len(kubernetes.writes())
    state = stage.release("v2", adopt=True)
    assert state.is_failed()
    assert f"sides: {existing[1]} theirs: " in str(state.message)
    assert own_writes(kubernetes, begin) == []


def test_a_service_that_kubectl_expose_gave_our_labels_stops_the_release_and_is_not_stamped(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    blue_green(stage)
    assert (first := stage.release("v2", adopt=True)).is_completed(), first.message
    # kubectl expose deployment hello-blue --name=wide --selector=nightshift.dev/workload=hello
    labels = stage.deployment("hello-blue")["metadata"]["labels"]
    wide = named("v1", "Service", {"selector": {"nightshift.dev/workload": "hello"}, "ports": [{"port": 80}]}, "wide")
    wide["metadata"]["labels"] = {**labels, "nightshift.dev/colour": "green"}
    kubernetes.put(wide)
    begin = len(kubernetes.writes())
    state = stage.release("v3", "3" * 40)
    assert state.is_failed()
    assert "Service wide" in str(state.message)
    assert own_writes(kubernetes, begin) == []
    waived = stage.release("v3", "3" * 40, skip_checks={**SKIPPED, "sides": "wide is for both"})
    assert waived.is_completed(), waived.message
    assert stage.client.get("/api/v1/namespaces/shop/services/wide")["metadata"].get("annotations", {}) == {}


def test_a_service_made_after_the_checklist_that_would_match_the_new_pods_stops_the_release_before_there_are_any(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    blue_green(stage)
    had: list[int] = []
    kubernetes.after("PATCH", "/cronjobs/nightly", lambda *_: kubernetes.put(named(*EXISTING[0])), skip=1)
    kubernetes.before("PATCH", "/deployments/hello-blue/scale", lambda *_: had.append(1), times=99)
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "Service theirs: its selector nightshift.dev/colour=blue would send them requests" in str(state.message)
    assert had == []
    assert (serving(stage), stage.lease_holder()) == (stage.image("v1"), "")


def test_a_selector_that_a_person_waived_by_name_is_not_stopped_at_later(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    blue_green(stage)
    kubernetes.put(named(*EXISTING[1]))
    state = stage.release("v2", adopt=True, skip_checks={**SKIPPED, "sides": "the budget is meant for both"})
    assert state.is_completed(), state.message


def test_a_migration_whose_pod_a_service_would_send_requests_to_is_refused_by_name_before_anything_is_written(
    stage: Stage, kubernetes: KubernetesApi, migrated: Migrated
) -> None:
    give_template(stage, {"app": "hello"})
    begin = len(kubernetes.writes())
    state = stage.release("v2", migrate=True)
    assert state.is_failed()
    assert "migration: " in str(state.message)
    assert "its Pod would get requests, by the selector of Service hello" in str(state.message)
    assert own_writes(kubernetes, begin) == []
    waived = stage.release("v2", migrate=True, skip_checks={**SKIPPED, "migration": "it answers them"})
    assert waived.is_completed(), waived.message


def test_a_service_made_after_the_checklist_that_would_match_the_migrations_pod_stops_it_before_there_is_a_job(
    stage: Stage, kubernetes: KubernetesApi, migrated: Migrated
) -> None:
    give_template(stage, {"app": "hello-migration"})
    theirs = named("v1", "Service", {"selector": {"app": "hello-migration"}, "ports": [{"port": 80}]})
    kubernetes.after("PATCH", "/cronjobs/nightly", lambda *_: kubernetes.put(theirs), skip=1)
    state = stage.release("v2", migrate=True)
    assert state.name == "RolledBack", state.message
    assert "by the selector of Service theirs" in str(state.message)
    assert stage.client.get("/apis/batch/v1/namespaces/shop/jobs")["items"] == []
    assert migrated.names == ()
    assert serving(stage) == stage.image("v1")
