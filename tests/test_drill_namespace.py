"""The scratch namespace: nothing can start in it, and only our own is ever removed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.environment_restore import AppState
from core.errors import PermanentError
from core.velero import Document, owner_labels
from tasks.drill_namespace import QUOTA, holds_copy, make_namespace, remove_namespace
from tasks.kubernetes_client import KubernetesClient
from tests.fix_kubernetes import KubernetesApi

SETTINGS = AppState(namespaces=("staging",), drill_namespace="scratch", timeout_minutes=60)
MINE, OTHER = "11111111-run", "22222222-run"


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    with KubernetesClient.open(None) as opened:
        yield opened


def namespace(*, labels: dict[str, str] | None = None) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "scratch", "labels": labels or {}}}


def make(client: KubernetesClient, run_id: str = MINE, of: str = "staging") -> None:
    make_namespace(client, SETTINGS, "staging", run_id, namespace=of, now=datetime.now(UTC))


def there(kubernetes: KubernetesApi) -> list[Document]:
    return [each for each in kubernetes.select("v1", "namespaces", "", {}) if each["metadata"]["name"] == "scratch"]


def test_it_is_labelled_as_ours_and_lets_nothing_start(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    make(client)
    assert there(kubernetes)[0]["metadata"]["labels"] == owner_labels("staging", MINE)
    quota = kubernetes.read("v1", "resourcequotas", "scratch", QUOTA)
    assert quota["spec"]["hard"] == {"pods": "0", "persistentvolumeclaims": "0", "services.loadbalancers": "0"}


def test_nothing_is_restored_before_the_quota_is_enforced(
    kubernetes: KubernetesApi, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.drill_namespace.QUOTA_SECONDS", 0.3)
    monkeypatch.setattr(kubernetes, "_play_controllers", lambda *_: None)
    with pytest.raises(PermanentError, match="quota is not enforced"):
        make(client)


def test_it_is_removed_with_all_that_is_in_it(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    make(client)
    assert remove_namespace(client, SETTINGS, "staging", MINE)
    assert there(kubernetes) == []
    assert not remove_namespace(client, SETTINGS, "staging", MINE)


def test_a_namespace_that_is_not_ours_is_neither_used_nor_removed(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.put(namespace(labels={"team": "payments"}), seconds_ago=10**7)
    with pytest.raises(PermanentError, match="not made by a rehearsal"):
        make(client)
    assert not remove_namespace(client, SETTINGS, "staging", MINE)
    assert there(kubernetes)


def test_that_of_another_environment_is_not_ours(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.put(namespace(labels=owner_labels("production", OTHER)), seconds_ago=10**7)
    with pytest.raises(PermanentError, match="not made by a rehearsal of this environment"):
        make(client)


def test_that_of_a_rehearsal_that_may_go_on_is_left_alone(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    make(client, OTHER)
    with pytest.raises(PermanentError, match=f"run {OTHER} made it and may still go on"):
        make(client)
    assert not remove_namespace(client, SETTINGS, "staging", MINE)
    assert there(kubernetes)


def test_what_a_killed_run_left_is_swept_once_it_cannot_go_on(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.put(
        namespace(labels=owner_labels("staging", OTHER)), seconds_ago=int(timedelta(hours=24).total_seconds())
    )
    make(client)
    assert there(kubernetes)[0]["metadata"]["labels"] == owner_labels("staging", MINE)


def test_a_run_that_begins_again_makes_its_own_anew(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    make(client)
    first = there(kubernetes)[0]["metadata"]["uid"]
    make(client)
    assert there(kubernetes)[0]["metadata"]["uid"] != first


def test_it_knows_whose_copy_it_holds(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    assert not holds_copy(client, SETTINGS, "staging", MINE, "staging")
    make(client, of="staging")
    assert holds_copy(client, SETTINGS, "staging", MINE, "staging")
    assert not holds_copy(client, SETTINGS, "staging", MINE, "another")
    assert not holds_copy(client, SETTINGS, "staging", OTHER, "staging")


def test_one_that_does_not_go_is_told_with_what_keeps_it(
    kubernetes: KubernetesApi, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(client)
    condition = {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "Some content has a finalizer: x"}
    kubernetes.set_status("v1", "namespaces", "", "scratch", phase="Terminating", conditions=[condition])
    monkeypatch.setattr(kubernetes, "delete", lambda *_: {})
    with pytest.raises(PermanentError, match="Some content has a finalizer: x"):
        remove_namespace(client, SETTINGS, "staging", MINE, seconds=0.3)
