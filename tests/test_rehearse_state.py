"""The rehearsal of a namespace without Prefect around it: what counts as a difference, what is explained, and how a killed one goes on."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from core.environment_restore import AppState
from core.evidence import Finding
from core.state_facts import rehearsal_findings
from core.velero import Document, VeleroRun, backup_document, owner_labels
from tasks.drill_namespace import make_namespace, remove_namespace
from tasks.kubernetes_client import KubernetesClient
from tasks.rehearse_state import Begun, Rehearsed, begin_restore, compare_copy, look_at
from tasks.velero import make_backup, wait_for_end
from tests.fix_kubernetes import KubernetesApi
from tests.fix_velero import Velero

SETTINGS = AppState(namespaces=("shop",), drill_namespace="scratch")
RUN = "11111111-run"


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    """A cluster with a namespace `shop`: a ConfigMap, a Secret, a Service and an Ingress, all a minute old."""
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, seconds_ago=60)
    for kind, name, api_version in (
        ("ConfigMap", "settings", "v1"),
        ("Secret", "credentials", "v1"),
        ("Service", "api", "v1"),
        ("Ingress", "public", "networking.k8s.io/v1"),
    ):
        put(kubernetes, kind, name, api_version)
    with KubernetesClient.open(None) as opened:
        yield opened


def put(api: KubernetesApi, kind: str, name: str, api_version: str = "v1", seconds_ago: int = 60) -> None:
    document: Document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    if kind == "Service":
        document["spec"] = {"type": "ClusterIP"}
    api.put(document, seconds_ago=seconds_ago)


def ended(client: KubernetesClient, plural: str, name: str) -> VeleroRun:
    return wait_for_end(client, SETTINGS, plural, name, on_change=lambda _: None, seconds=10)


def backed_up(client: KubernetesClient) -> VeleroRun:
    make_backup(client, SETTINGS, backup_document("apps", SETTINGS, "b", RUN), "apps")
    return ended(client, "backups", "b")


def begun(client: KubernetesClient, backup: VeleroRun) -> Begun:
    return begin_restore(
        client, SETTINGS, "apps", backup=backup.name, namespace="shop", run_id=RUN, clock=lambda: datetime.now(UTC)
    )


def rehearsed(client: KubernetesClient) -> tuple[Rehearsed, tuple[Finding, ...]]:
    """Back up, restore beside, compare; and what an operator is told."""
    (before,) = look_at(client, SETTINGS)
    backup = backed_up(client)
    (after,) = look_at(client, SETTINGS)
    restore = begun(client, backup)
    ended(client, "restores", restore.restore.name)
    found = compare_copy(
        client, SETTINGS, "apps", begun=restore, asked=backup.created, before=before, after=after, run_id=RUN
    )
    return found, rehearsal_findings("shop", found.compared, found.left_out, found.unreadable)


def errors(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.text for finding in findings if finding.severity == "error"]


def test_a_faithful_copy_has_no_difference(velero: Velero, client: KubernetesClient) -> None:
    found, findings = rehearsed(client)
    counted = {one.kind: (one.before, one.after, one.restored) for one in found.compared if one.after}
    assert counted == {"configmaps": (1, 1, 1), "secrets": (1, 1, 1), "services": (1, 1, 1)}
    assert errors(findings) == []
    assert [(one.kind, one.objects) for one in found.left_out] == [("ingresses.networking.k8s.io", 1)]


def test_a_strange_object_in_the_copy_is_an_error(velero: Velero, client: KubernetesClient) -> None:
    velero.invents = ["stranger"]
    _, findings = rehearsed(client)
    assert errors(findings) == ["shop: 1 configmaps in the restored copy that is not in the namespace: stranger"]


def test_what_changes_during_the_backup_is_explained_and_no_error(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    def change() -> None:
        kubernetes.delete("v1", "configmaps", "shop", "settings", None)
        put(kubernetes, "ConfigMap", "newer", seconds_ago=-5)

    velero.meanwhile = change
    _, findings = rehearsed(client)
    assert errors(findings) == []
    assert any("came or went during the backup, in it or not: newer, settings" in finding.text for finding in findings)


def test_services_are_not_rehearsed_when_one_has_a_load_balancer(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    kubernetes.merge("v1", "services", "shop", "api", {"spec": {"type": "LoadBalancer"}})
    found, _ = rehearsed(client)
    assert "services" not in kubernetes.select("velero.io/v1", "restores", "velero", {})[0]["spec"]["includedResources"]
    assert "api would get a load balancer" in {one.kind: one.why for one in found.left_out}["services"]


def test_a_kind_that_may_not_be_listed_is_restored_and_a_warning_says_that_nobody_compared_it(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    (before,) = look_at(client, SETTINGS)
    backup = backed_up(client)
    kubernetes.fail("GET", "namespaces/shop/secrets", 403)
    (after,) = look_at(client, SETTINGS)
    restore = begun(client, backup)
    ended(client, "restores", restore.restore.name)
    found = compare_copy(
        client, SETTINGS, "apps", begun=restore, asked=backup.created, before=before, after=after, run_id=RUN
    )
    findings = rehearsal_findings("shop", found.compared, found.left_out, found.unreadable)
    assert "secrets" not in {one.kind for one in found.compared}
    assert [finding.severity for finding in findings if "secrets were not compared" in finding.text] == ["warning"]


def test_a_killed_rehearsal_goes_on_with_its_own_restore(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    backup = backed_up(client)
    first = begun(client, backup)
    uid = kubernetes.read("v1", "namespaces", "", "scratch")["metadata"]["uid"]
    again = begun(client, backup)
    assert (again.restore.name, again.kinds) == (first.restore.name, first.kinds)
    assert kubernetes.read("v1", "namespaces", "", "scratch")["metadata"]["uid"] == uid


def test_a_restore_whose_copy_is_gone_or_anothers_is_made_again_under_a_new_name(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    backup = backed_up(client)
    assert begun(client, backup).restore.name == "b-shop-1"
    remove_namespace(client, SETTINGS, "apps", RUN)
    assert begun(client, backup).restore.name == "b-shop-2"
    make_namespace(client, SETTINGS, "apps", RUN, namespace="another", now=datetime.now(UTC))
    assert begun(client, backup).restore.name == "b-shop-3"
    assert kubernetes.read("v1", "namespaces", "", "scratch")["metadata"]["labels"] == owner_labels("apps", RUN)
