"""What the items of the checklist before a release are asked with: a release to come, and a web server that answers as a test scripts it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from core.environment import Environment
from core.environment_release import Release
from core.image_reference import ResolvedImage
from tasks.kubernetes_client import KubernetesClient
from tasks.preflight_item import Preflight
from tests.fix_kubernetes import Document, KubernetesApi
from tests.fix_kubernetes_objects import KINDS
from tests.fix_object_store import S3Server, environment_for

NAMESPACE, COMMIT = "apps", "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "registry.example.com/team/api"
KEY = "deployment/api"
NEW, OLD = f"sha256:{'1a' * 32}", f"sha256:{'0b' * 32}"
NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)

Answer = tuple[int, Any] | Callable[[dict[str, str]], tuple[int, Any]]


class ScriptedWeb:
    """Answers by path: (status, document or text), or a function of the query. What is not scripted is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        # Seconds before each answer; None: the connection is closed without one.
        self.seconds: float | None = 0.0
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: ScriptedWeb
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        """As the base class; a client that did not wait is no error."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.web.requests.append((address.path, query, dict(self.headers.items())))
        if self.web.seconds is None:
            self.close_connection = True
            return
        time.sleep(self.web.seconds)
        scripted = self.web.answers.get(address.path, (404, {"message": "Not Found"}))
        status, content = scripted(query) if callable(scripted) else scripted
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedWeb]:
    """A web server of the test's own; nobody waits long for it."""
    monkeypatch.setattr("tasks.web_api.READ_SECONDS", 0.3)
    monkeypatch.setattr("tasks.web_api._backoff", lambda _state: 0.01)
    server = ScriptedWeb()
    yield server
    server.close()


def release_with(workloads: list[dict[str, Any]] | None = None, **settings: Any) -> Release:
    """A release of api in the namespace; further arguments are keys of [release]."""
    document = {"namespace": NAMESPACE, "repository": REPOSITORY, "workloads": workloads or [{"name": "api"}]}
    return Release.model_validate({**document, **settings})


def preflight_for(
    release: Release | None = None,
    *,
    client: KubernetesClient | None = None,
    environment: Environment | None = None,
    live: dict[str, str] | None = None,
    images: dict[str, ResolvedImage] | None = None,
    commit: str = COMMIT,
    clock: Callable[[], datetime] = lambda: NOW,
    **checks: Any,
) -> Preflight:
    """A release to come; further arguments are tables of [release.checks]."""
    return Preflight(
        environment or environment_for("none", "http://127.0.0.1:9"),
        release or release_with(checks=checks),
        client or _Nobody(),  # type: ignore[arg-type]
        NAMESPACE,
        commit,
        {KEY: ResolvedImage(repository=REPOSITORY, tag="1.5", digest=NEW)} if images is None else images,
        live or {},
        clock=clock,
    )


class _Nobody:
    """A client that no item should need."""


@pytest.fixture
def apps(
    kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[KubernetesApi, KubernetesClient]]:
    """The fake API with the namespace and the kinds that the checklist reads, and a client of it that does not wait between tries."""
    for version, plural, kind, namespaced in (
        ("external-secrets.io/v1", "externalsecrets", "ExternalSecret", True),
        ("external-secrets.io/v1beta1", "externalsecrets", "ExternalSecret", True),
        ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True),
        ("v1", "nodes", "Node", False),
    ):
        monkeypatch.setitem(KINDS, version, {**KINDS.get(version, {}), plural: (kind, namespaced)})
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    with KubernetesClient.open(None) as client:
        client._sleep = lambda _seconds: None
        yield kubernetes, client


def deployment(name: str = "api", *, image: str = f"{REPOSITORY}@{OLD}", replicas: int = 2, **spec: Any) -> Document:
    """A Deployment as the API stores it."""
    container = {"name": "main", "image": image, "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}}}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "generation": 3},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **spec,
        },
        "status": {"observedGeneration": 3, "replicas": replicas},
    }


def pod(name: str, image: str, image_id: str = "", *, app: str = "api", ready: bool = True, **spec: Any) -> Document:
    """A Pod of a Deployment, as a node reports it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": image}], **spec},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "main", "image": image, "imageID": image_id}],
        },
    }


@pytest.fixture
def aws_of_test(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process' default chain of AWS leads to moto's server."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
