"""A whole drill on a scratch Pod of a real cluster, by the account of drill-pods.yaml: from the backup in S3 to a proven backup, with nothing left."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.access_right import AccessRight
from tasks import drill_pod
from tasks.kubeconfig import find_connection
from tasks.kubernetes_answers import ForbiddenError
from tasks.kubernetes_client import KubernetesClient
from tasks.postgres_binaries import installed_servers
from tests.cluster.test_rbac import token_kubeconfig, wait_for_rights
from tests.fix_cluster import Removals, objects_of
from tests.fix_manifests import Document, collection_of, documents
from tests.fix_nightly import Night
from tests.fix_postgres import PostgresServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600), pytest.mark.xdist_group("prefect")]

ROWS = 250_000
TABLE = "CREATE TABLE public.large AS SELECT g AS id, md5(g::text) || repeat('x', 68) AS text FROM generate_series(1, 250000) AS g"


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's drills make the folders of their sockets: in /tmp itself, others come and go meanwhile."""
    with tempfile.TemporaryDirectory(prefix="ns-", dir="/tmp") as folder:
        monkeypatch.setattr("tasks.scratch_folder.SOCKET_PARENT", Path(folder))
        yield Path(folder)


@dataclass(frozen=True)
class Account:
    """The account of drill-pods.yaml: its kubeconfig, its own namespace, the one of the Pods, and what its Role grants."""

    kubeconfig: Path
    control: str
    pods: str
    rules: list[Document]


@pytest.fixture
def account(cluster: KubernetesClient, drill_namespace: str, tmp_path: Path) -> Iterator[Account]:
    """The file as it is, with namespaces of the test's own."""
    with Removals(cluster) as removals:
        control = removals.namespace(f"{drill_namespace}-control")
        rules: list[Document] = []
        for document in documents("drill-pods.yaml", control):
            if document["kind"] == "Namespace":
                continue
            if document["metadata"]["namespace"] == "nightshift-drills":
                document["metadata"]["namespace"] = drill_namespace
            removals.create(collection_of(document), document)
            rules += document.get("rules", ())
        folder = tmp_path / "account"
        folder.mkdir()
        kubeconfig = token_kubeconfig(cluster, control, "nightshift-drill-pods", folder)
        wait_for_rights(kubeconfig, AccessRight("create", "pods", namespace=drill_namespace))
        yield Account(kubeconfig, control, drill_namespace, rules)


def test_a_backup_is_proven_on_a_pod_by_the_shipped_role_and_nothing_is_left_of_it(  # noqa: PLR0917 - fixtures
    night: Night,
    postgres_15: PostgresServer,
    fresh_database: Callable[..., str],
    cluster: KubernetesClient,
    account: Account,
    postgres_image: str,
    sockets: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert installed_servers()[0].major >= 15, "the image's PostgreSQL is older than the source"
    monkeypatch.setenv("KUBECONFIG", str(account.kubeconfig))
    # Marked often, so that the right to do so is asked for however fast the drill is: without it there would be a warning.
    monkeypatch.setattr(drill_pod, "_SEEN_SECONDS", 1.0)
    # A busy node takes more than a minute to end a Pod now and then; there would be a warning, too.
    monkeypatch.setattr(drill_pod, "_GONE_SECONDS", 180.0)
    name = fresh_database(postgres_15, TABLE)
    night.settings["databases"] = {"first": postgres_15.database(name).model_dump(exclude_defaults=True)}
    # A part of the node's processors: a limit is a request, too, and Pods of other tests must fit beside it.
    pod = {"namespace": account.pods, "image": postgres_image, "memory": "512Mi", "cpu": "500m", "disk": "2Gi"}
    night.settings["drill"] = {"scratch": "pod", "pod": pod}
    assert night.run(databases=["first"]).is_completed()
    with caplog.at_level(logging.WARNING, logger=drill_pod.__name__):
        state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    assert [record for record in caplog.records if record.name == drill_pod.__name__] == []
    facts = next(step.facts for step in night.report.steps if step.name == "judge")
    print(facts["phases"])  # noqa: T201
    assert facts["rows"] == ROWS
    controls = next(step.facts["controls"] for step in night.report.steps if step.name == "negative controls")
    assert all(control["detected"] for control in controls)
    assert objects_of(cluster, account.pods) == []
    assert list(sockets.iterdir()) == []


def test_the_account_may_that_and_nothing_else_anywhere(account: Account) -> None:
    with KubernetesClient(lambda: find_connection(None, {"KUBECONFIG": str(account.kubeconfig)})) as client:
        assert granted(client, account.pods) == granted_by(account.rules)
        for namespace in (account.control, "default", "kube-system"):
            assert granted(client, namespace) == set()
        for path in (
            f"/api/v1/namespaces/{account.control}/secrets",
            f"/api/v1/namespaces/{account.pods}/configmaps",
            "/api/v1/pods",
            "/api/v1/namespaces",
        ):
            with pytest.raises(ForbiddenError, match="cannot list resource"):
                list(client.list(path))


def granted(client: KubernetesClient, namespace: str) -> set[tuple[str, str, str]]:
    """What the API server says that this account may in a namespace, but for what every account may: to ask what it may."""
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    told: dict[str, Any] = client.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", asked)["status"]
    assert not told["incomplete"]
    return {one for one in granted_by(told["resourceRules"]) if one[0] != "authorization.k8s.io"}


def granted_by(rules: list[Document]) -> set[tuple[str, str, str]]:
    """Rules as (group, resource, verb). None is for single names."""
    assert not [rule for rule in rules if rule.get("resourceNames")]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
