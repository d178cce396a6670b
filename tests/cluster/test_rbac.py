"""The roles of deployments/kubernetes/rbac.yaml on a real cluster: the account may do what releases need, and nothing beside it."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.access_right import AccessRight
from core.environment_release import Release
from tasks.access_review import lacking_rights
from tasks.kubeconfig import find_connection
from tasks.kubernetes_answers import ForbiddenError
from tasks.kubernetes_client import KubernetesClient
from tasks.release_rights import check_rights
from tests.fix_cluster import Removals
from tests.test_release_rights import EVERYTHING, RBAC
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster
SECRET = "api-server-env"
PLURALS = {
    "ServiceAccount": "v1/serviceaccounts",
    "Role": "rbac.authorization.k8s.io/v1/roles",
    "RoleBinding": "rbac.authorization.k8s.io/v1/rolebindings",
    "ClusterRole": "rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1/clusterrolebindings",
}
Document = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """The ServiceAccount of releases with the roles of the file, its client, and the settings with its namespaces."""

    client: KubernetesClient
    release: Release


def _path(document: Document) -> str:
    version, _, plural = PLURALS[document["kind"]].rpartition("/")
    namespace = document["metadata"].get("namespace")
    root = "/apis" if "/" in version else "/api"
    return f"{root}/{version}{f'/namespaces/{namespace}' if namespace else ''}/{plural}"


def make_account(removals: Removals, workloads: str, control: str, folder: Path) -> Path:
    """Apply the file with these namespaces, and return a kubeconfig of its account."""
    text = RBAC.read_text().replace("namespace: nightshift}", f"namespace: {control}}}")
    text = text.replace("namespace: production}", f"namespace: {workloads}}}")
    text = text.replace("nightshift-release-nodes", f"nightshift-test-{secrets.token_hex(4)}")
    for wanted in yaml.safe_load_all(text):
        removals.create(_path(wanted), wanted)
    file = token_kubeconfig(removals.client, control, "nightshift-release", folder)
    # One of each role.
    rights = (
        AccessRight("create", "leases", "coordination.k8s.io", control),
        AccessRight("patch", "deployments", "apps", workloads),
        AccessRight("list", "nodes"),
    )
    wait_for_rights(file, *rights)
    return file


def wait_for_rights(kubeconfig: Path, *rights: AccessRight) -> None:
    """Wait until an API server that is busy knows the roles that were just bound to an account."""
    with KubernetesClient(lambda: find_connection(None, {"KUBECONFIG": str(kubeconfig)})) as client:
        wait_until(lambda: not lacking_rights(client, rights), "the roles are known")


@pytest.fixture
def account(cluster: KubernetesClient, drill_namespace: str, tmp_path: Path) -> Iterator[Account]:
    """The file as it is, with namespaces of the test's own and a name of its own for what the whole cluster sees."""
    with Removals(cluster) as removals:
        control = removals.namespace(f"{drill_namespace}-control")
        variables = {"KUBECONFIG": str(make_account(removals, drill_namespace, control, tmp_path))}
        settings = EVERYTHING.model_copy(update={"namespace": drill_namespace, "control_namespace": control})
        with KubernetesClient(lambda: find_connection(None, variables)) as client:
            yield Account(client, settings)


def test_the_account_may_do_all_that_releases_need(account: Account) -> None:
    for release in (account.release, _with_traffic(account.release, "alb")):
        check = check_rights(account.client, release, secrets=(SECRET,), external_secrets=True)
        assert (check.state, check.found.partition(" ")[0]) == ("passed", "all")


def test_the_account_may_nothing_beside_it(account: Account) -> None:
    workloads, control = account.release.namespace, account.release.control_namespace
    denied = [
        AccessRight("list", "secrets", namespace=workloads),
        AccessRight("get", "secrets", namespace=workloads, name="another"),
        AccessRight("get", "secrets", namespace=control),
        *(AccessRight("delete", "pods", namespace=each) for each in (workloads, control, "default")),
        AccessRight("create", "pods", namespace=workloads),
        AccessRight("create", "pods/exec", namespace=workloads),
        AccessRight("create", "pods/portforward", namespace=workloads),
        AccessRight("create", "pods/proxy", namespace=workloads),
        AccessRight("get", "services/proxy", namespace=workloads),
        AccessRight("delete", "deployments", "apps", workloads),
        AccessRight("update", "deployments", "apps", workloads),
        AccessRight("patch", "deployments", "apps", control),
        AccessRight("patch", "deployments", "apps", "default"),
        AccessRight("delete", "jobs", "batch", workloads),
        AccessRight("create", "cronjobs", "batch", workloads),
        AccessRight("delete", "configmaps", namespace=workloads),
        AccessRight("watch", "configmaps", namespace=control),
        AccessRight("delete", "leases", "coordination.k8s.io", control),
        AccessRight("get", "leases", "coordination.k8s.io", workloads),
        AccessRight("create", "rolebindings", "rbac.authorization.k8s.io", workloads),
        AccessRight("patch", "nodes"),
        AccessRight("list", "namespaces"),
        AccessRight("create", "backups", "velero.io", "velero"),
    ]
    assert lacking_rights(account.client, denied) == tuple(denied)


def test_the_api_server_holds_the_account_to_it(account: Account, cluster: KubernetesClient) -> None:
    path = f"/api/v1/namespaces/{account.release.namespace}/secrets"
    for name in (SECRET, "another"):
        cluster.create(path, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})
    assert account.client.get(f"{path}/{SECRET}")["metadata"]["name"] == SECRET
    with pytest.raises(ForbiddenError, match="secrets"):
        account.client.get(f"{path}/another")
    with pytest.raises(ForbiddenError, match="cannot list resource"):
        list(account.client.list(path))


def _with_traffic(release: Release, kind: str) -> Release:
    return release.model_copy(update={"traffic": release.traffic.model_copy(update={"kind": kind})})


def token_kubeconfig(client: KubernetesClient, namespace: str, account: str, folder: Path) -> Path:
    """Given a ServiceAccount, write a kubeconfig with a token of it and nothing else, and return its path."""
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    return _token_only(client.create(path, asked)["status"]["token"], folder)


def _token_only(token: str, folder: Path) -> Path:
    """The administrator's kubeconfig with this token in place of its own credentials (a certificate would be taken first)."""
    there = Path(os.environ["KUBECONFIG"].partition(os.pathsep)[0])
    document = yaml.safe_load(there.read_text())
    for each in document["clusters"]:
        if "certificate-authority" in each["cluster"]:
            each["cluster"]["certificate-authority"] = str(there.parent / each["cluster"]["certificate-authority"])
    document["users"] = [{"name": user["name"], "user": {"token": token}} for user in document["users"]]
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file
