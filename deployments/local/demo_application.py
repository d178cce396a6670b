"""The application that the demo releases: two Pods behind a Service in a namespace of its own, and what can be seen of it there."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core.environment import Environment
from core.errors import PermanentError, TemporaryError
from core.fence import Document
from core.release_journal import Journal
from core.release_lease import Holder, holder_of
from core.release_plan import COMMIT
from deployments.local.supervisor import Tell, signals_wait
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.release_journal import Journals
from tasks.release_lease import Lease
from tasks.release_run import release_of
from tasks.secrets import signing_keys

NAME, REPLICAS = "hello", 2
FIRST_COMMIT = "1" * 40
_READY_SECONDS, _GONE_SECONDS = 120.0, 60.0


@dataclass(frozen=True)
class SideSeen:
    """A Deployment as it is: its image, how many Pods it should have and how many are ready, and whether the Service's users reach it."""

    name: str
    image: str
    ready: int
    replicas: int
    serves: bool


@dataclass(frozen=True)
class Namespaces:
    """The application's own, and nightshift's."""

    application: str
    control: str


@contextmanager
def demo_namespaces(tell: Tell) -> Iterator[Namespaces]:
    """Two namespaces with names that nobody else has, for the length of the block; all that is in them goes with them."""
    mark = secrets.token_hex(4)
    names = Namespaces(f"nightshift-demo-{mark}", f"nightshift-demo-control-{mark}")
    uids: dict[str, str] = {}
    try:
        with KubernetesClient.open(None) as client:
            for name in (names.application, names.control):
                document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                uids[name] = client.create("/api/v1/namespaces", document)["metadata"]["uid"]
        yield names
    finally:
        with signals_wait():
            tell("removing the demo's namespaces")
            _remove(uids, tell)


def deploy_first(namespace: str, image: str) -> None:
    """Deploy an image as `kubectl apply` would have, before anybody released anything, and wait until its Pods are ready. Raise PermanentError when they do not come."""
    with KubernetesClient.open(None) as client:
        for document in documents(image):
            client.create(find_kind(client, document["kind"]).path(namespace), document)
        path = find_kind(client, "Deployment").path(namespace, NAME)
        ends = time.monotonic() + _READY_SECONDS
        while (client.get(path).get("status") or {}).get("readyReplicas") != REPLICAS:
            if time.monotonic() > ends:
                raise PermanentError(
                    "deploy the first version",
                    f"{namespace}/{NAME}",
                    f"its Pods were not ready within {_READY_SECONDS:.0f} s",
                    "Can the nodes pull its image, and does it answer GET /ready on port 8080?",
                )
            time.sleep(0.3)


def documents(image: str) -> list[Document]:
    """The Deployment and the Service of the application."""
    labels = {"app": NAME}
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": "http"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
    }
    pod = {"terminationGracePeriodSeconds": 5, "containers": [container]}
    deployment: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "labels": labels, "annotations": {COMMIT: FIRST_COMMIT}},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "progressDeadlineSeconds": 120,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    return [deployment, service]


def sides_of(namespace: str) -> tuple[SideSeen, ...]:
    """The application's Deployments as they are, those that serve first."""
    with KubernetesClient.open(None) as client:
        selector = client.get(f"/api/v1/namespaces/{namespace}/services/{NAME}")["spec"]["selector"]
        found = [_side(one, selector) for one in client.list(find_kind(client, "Deployment").path(namespace))]
    return tuple(sorted(found, key=lambda one: (not one.serves, one.name)))


def holder_and_journals(environment: Environment) -> tuple[Holder | None, tuple[Journal, ...]]:
    """Who holds the lease (None: nobody), and all journals, verified."""
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        journals = Journals(client, release, environment.name, signing_keys(environment))
        found = tuple(journals.parse(one) for one in (*journals.closed_documents(), *journals.open_documents()))
        return holder_of(Lease(client, release, environment.name).read()), found


def _side(deployment: Document, selector: dict[str, str]) -> SideSeen:
    template = deployment["spec"]["template"]
    replicas = int(deployment["spec"].get("replicas") or 0)
    chosen = selector.items() <= (template["metadata"].get("labels") or {}).items()
    return SideSeen(
        name=str(deployment["metadata"]["name"]),
        image=str(template["spec"]["containers"][0]["image"]),
        ready=int((deployment.get("status") or {}).get("readyReplicas") or 0),
        replicas=replicas,
        serves=chosen and replicas > 0,
    )


def _remove(uids: dict[str, str], tell: Tell) -> None:
    try:
        with KubernetesClient.open(None) as client:
            for name, uid in uids.items():
                client.delete(f"/api/v1/namespaces/{name}", uid=uid)
            ends = time.monotonic() + _GONE_SECONDS
            for name in uids:
                while _is_there(client, name) and time.monotonic() < ends:
                    time.sleep(0.5)
            left = [name for name in uids if _is_there(client, name)]
    except (PermanentError, TemporaryError) as error:
        left = [f"{', '.join(uids)} ({error})"]
    if left:
        tell(f"still there: {', '.join(left)}; look with kubectl get namespaces, and delete them")


def _is_there(client: KubernetesClient, name: str) -> bool:
    try:
        client.get(f"/api/v1/namespaces/{name}")
    except MissingError:
        return False
    return True
