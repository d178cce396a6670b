"""What the tests' small Kubernetes API (fix_kubernetes) and a real one do alike: each check runs on both (test_kubernetes_conformance, cluster/test_conformance)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tasks.kubeconfig import find_connection
from tasks.kubernetes_client import KubernetesClient
from tests.waiting import wait_until

Document = dict[str, Any]
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class World:
    """One of both APIs: a namespace of the test's own, images, and where kinds are served that came late."""

    client: KubernetesClient
    namespace: str
    # Two versions that run well, one that nobody made, one whose Job succeeds, one whose Job fails.
    first: str
    second: str
    missing: str
    good_job: str
    bad_job: str
    slices: str
    progress_deadline: int

    def path(self, group_version: str, plural: str, name: str = "", subresource: str = "") -> str:
        root = "apis" if "/" in group_version else "api"
        steps = ("", root, group_version, "namespaces", self.namespace, plural, name, subresource)
        return "/".join(step for number, step in enumerate(steps) if step or not number)

    def ask(self, method: str, path: str, body: Document | None = None, kind: str = "application/json") -> tuple[int, Document]:  # fmt: skip
        """One bare request: code and answer."""
        connection = find_connection(None)
        bearer = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
        with httpx.Client(verify=connection.tls, timeout=30) as http:
            content = None if body is None else json.dumps(body)
            headers = {"Content-Type": kind, "User-Agent": "conformance/1", **bearer}
            answer = http.request(method, connection.server + path, content=content, headers=headers)
        return answer.status_code, answer.json()

    def make(self, group_version: str, plural: str, document: Document) -> Document:
        return self.client.create(self.path(group_version, plural), document)

    def wait(self, path: str, holds: Callable[[Document], object], name: str) -> Document:
        seen: list[Document] = [{}]

        def look() -> object:
            seen[0] = self.client.get(path)
            return holds(seen[0])

        wait_until(look, name, seconds=120)
        return seen[0]


def deployment(world: World, image: str, **spec: Any) -> Document:
    """A Deployment `api` with two containers' worth of a template."""
    hello = {
        "name": "api",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 5},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api"},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 180,
            "selector": {"matchLabels": {"app": "api"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "api"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [hello]},
            },
            **spec,
        },
    }


def config_map(name: str = "a", **data: str) -> Document:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def job(image: str, *command: str) -> Document:
    container = {"name": "migrate", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["python3", "-c", *command]}  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "migrate"},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def conditions_of(document: Document) -> dict[str, Document]:
    """An object's conditions by type."""
    return {one["type"]: one for one in (document.get("status") or {}).get("conditions") or ()}


def told(document: Document, kind: str) -> tuple[str, str]:
    """The status and reason of a condition; empty when there is none."""
    condition = conditions_of(document).get(kind) or {}
    return condition.get("status", ""), condition.get("reason", "")


def rolled_out(world: World) -> Document:
    """The Deployment `api` once its newest template is out."""
    path = world.path("apps/v1", "deployments", "api")
    return world.wait(path, _is_out, "the Deployment is rolled out")


def _is_out(document: Document) -> bool:
    status, wanted = document.get("status") or {}, document["spec"]["replicas"]
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    done = told(document, "Progressing") == ("True", "NewReplicaSetAvailable") and counts == [wanted] * 3
    return done and status.get("observedGeneration") == document["metadata"]["generation"]
