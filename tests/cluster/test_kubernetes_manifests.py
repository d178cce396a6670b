"""The files of deployments/kubernetes/ as a real cluster takes them, and what the worker's account may do."""

from pathlib import Path

import pytest

from core.access_right import AccessRight
from tasks.access_review import lacking_rights
from tasks.kubeconfig import find_connection
from tasks.kubernetes_client import KubernetesClient
from tests.cluster.test_rbac import token_kubeconfig, wait_for_rights
from tests.fix_cluster import Removals
from tests.fix_manifests import Document, collection_of, documents
from tests.test_kubernetes_files import OURS, job

pytestmark = pytest.mark.cluster


def served(cluster: KubernetesClient, document: Document) -> Document:
    """A document in the version that the cluster serves: policy/v1 is there from Kubernetes 1.21 on, with the same fields."""
    if document["apiVersion"] != "policy/v1":
        return document
    versions = {one["groupVersion"] for group in cluster.get("/apis")["groups"] for one in group["versions"]}
    return document if "policy/v1" in versions else {**document, "apiVersion": "policy/v1beta1"}


def test_the_cluster_takes_every_document_and_the_job_of_the_template(
    cluster: KubernetesClient, drill_namespace: str
) -> None:
    taken = 0
    for name in OURS:
        for document in documents(name, drill_namespace):
            if document["kind"] == "Namespace":
                continue
            cluster.create(collection_of(document), served(cluster, document), dry_run=True)
            taken += 1
    made = job(namespace=drill_namespace, name="a-run")
    cluster.create(f"/apis/batch/v1/namespaces/{drill_namespace}/jobs", made, dry_run=True)
    assert taken > 20


def test_the_worker_may_do_what_it_needs_and_nothing_beside_it(
    cluster: KubernetesClient, drill_namespace: str, tmp_path: Path
) -> None:
    here = drill_namespace
    with Removals(cluster) as removals:
        for document in documents("worker.yaml", here):
            if document["kind"] != "Deployment":
                removals.create(collection_of(document), document)
        kubeconfig = token_kubeconfig(cluster, here, "nightshift-worker", tmp_path)
        wait_for_rights(kubeconfig, AccessRight("create", "jobs", "batch", here))
        variables = {"KUBECONFIG": str(kubeconfig)}
        with KubernetesClient(lambda: find_connection(None, variables)) as worker:
            needed = [
                *(AccessRight(verb, "jobs", "batch", here) for verb in ("get", "list", "watch", "create", "delete")),
                *(AccessRight(verb, "pods", namespace=here) for verb in ("get", "list", "watch")),
                AccessRight("get", "pods/log", namespace=here),
            ]
            assert not lacking_rights(worker, needed)
            denied = [
                *(AccessRight(verb, "secrets", namespace=here) for verb in ("get", "list", "create", "patch")),
                *(AccessRight(verb, "pods", namespace=here) for verb in ("create", "delete", "patch")),
                AccessRight("create", "pods/exec", namespace=here),
                AccessRight("get", "configmaps", namespace=here),
                AccessRight("patch", "jobs", "batch", here),
                AccessRight("create", "jobs", "batch", "default"),
                AccessRight("list", "pods", namespace="default"),
                AccessRight("create", "rolebindings", "rbac.authorization.k8s.io", here),
                AccessRight("list", "namespaces"),
            ]
            assert lacking_rights(worker, denied) == tuple(denied)
