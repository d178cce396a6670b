"""The files of deployments/kubernetes/, and what makes one of their documents an object in a namespace of a test's own."""

from typing import Any

import yaml

from deployments.local.data_folder import CHECKOUT

FOLDER = CHECKOUT / "deployments" / "kubernetes"
NAMESPACE = "nightshift"
Document = dict[str, Any]

# The API's folder and the plural of each kind, and whether it lies in a namespace.
_KINDS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "ExternalSecret": "/apis/external-secrets.io/v1/namespaces/{}/externalsecrets",
    # Of policy/v1, which clusters have from 1.21 on; a field has the same meaning in both.
    "PodDisruptionBudget": "/apis/policy/v1beta1/namespaces/{}/poddisruptionbudgets",
}


def documents(name: str, namespace: str = NAMESPACE) -> list[Document]:
    """The documents of a file, with another namespace in place of `nightshift`."""
    text = (FOLDER / name).read_text().replace(f"namespace: {NAMESPACE}\n", f"namespace: {namespace}\n")
    text = text.replace(f"namespace: {NAMESPACE}}}", f"namespace: {namespace}}}")
    return [one for one in yaml.safe_load_all(text) if one]


def collection_of(document: Document) -> str:
    """Where an object is made."""
    return _KINDS[document["kind"]].format(document["metadata"].get("namespace", ""))
