"""A small stateful Kubernetes API over HTTP: what the tests of a client need when there is no cluster. What runs on both is held to a real one in tests/cluster.

It keeps objects with uid, resourceVersion and creationTimestamp; lists with selectors, pages and metadata only; creates (409, dryRun), merges (409 on another
resourceVersion), writes status, deletes with a uid precondition; watches from a resource version, with 410 for one that is too old; asks for a token (401).
Of the controllers it plays two: a new namespace gets its ConfigMap and ServiceAccount, a ResourceQuota its status. Faults are scripted by `fail` and `cut_watches`.
It does not: validate, default, apply, check rights (every SelfSubjectAccessReview is allowed but those in `denied`), or enforce quotas.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.fix_kubernetes_objects import KINDS, ApiError, Document, Objects, chosen

__all__ = ["Document", "KubernetesApi", "kubernetes"]


@dataclass
class Fault:
    """Answers to come: for requests of a method whose path ends with or contains `part`."""

    method: str
    part: str
    code: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


class KubernetesApi(Objects):
    """The state, the HTTP server before it, and what a test does with both."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = {"first-token"}
        self.denied: set[tuple[str, str]] = set()
        # Kinds (plurals) that this cluster does not have.
        self.absent: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        # Pods' logs, by name: what each request is answered with, in turn; the last one stays. None at its end: the connection is cut there.
        self.logs: dict[str, list[list[str | None]]] = {}
        self._faults: list[Fault] = []
        self._watch_generation = 0
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    # What a test scripts

    def fail(self, method: str, part: str, code: int, *, times: int = 1, after: bool = False, **headers: str) -> None:
        """Answer the next requests so. `code` 0: the connection is closed without an answer; `after`: once the request was carried out."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(method, part, code, times, named, after))

    def cut_watches(self) -> None:
        """Break every watch that stands, in the middle."""
        with self.changed:
            self._watch_generation += 1
            self.changed.notify_all()

    def forget_history(self) -> None:
        """Compact: every resource version until now is too old to watch from."""
        with self.changed:
            self.version += 1
            self.oldest = self.version

    def count(self, method: str, part: str) -> int:
        """How many requests of a method had this in their path."""
        return sum(1 for done, path in self.requests if done == method and part in path)

    def kubeconfig(self, folder: Path, token: str = "first-token") -> Path:  # noqa: S107 - of nobody
        """Write a kubeconfig for this API and return its path."""
        file = folder / "kubeconfig"
        document = {
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.address}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        }
        file.write_text(yaml.safe_dump(document))
        return file

    def close(self) -> None:
        """End the server and every watch."""
        self.cut_watches()
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, method: str, path: str, *, after: bool) -> Fault | None:
        for fault in self._faults:
            if fault.times and fault.after == after and fault.method == method and fault.part in path:
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    api: KubernetesApi
    protocol_version = "HTTP/1.1"
    # Without it each answer waits 40 ms for the acknowledgement of its headers.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _answer(self, method: str) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.api.requests.append((method, self.path))
        try:
            if fault := self.api.fault_for(method, self.path, after=False):
                return self._fault(fault)
            if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.api.tokens:
                raise ApiError(401, "Unauthorized", "Unauthorized")  # noqa: TRY301 - answered below
            if address.path.endswith("/log"):
                return self._log(address.path.split("/")[-2])
            if query.get("watch"):
                return self._watch(_parts(address.path), query)
            document = self._carry_out(method, address.path, query, body)
            if fault := self.api.fault_for(method, self.path, after=True):
                return self._fault(fault)
            self._send(201 if method == "POST" else 200, document)
        except ApiError as error:
            self._send(error.code, error.status)

    def _carry_out(self, method: str, path: str, query: dict[str, str], body: Document) -> Document:  # noqa: PLR0911 - one a verb
        if method == "GET" and (found := _discovery(path, self.api.absent)) is not None:
            return found
        if path.endswith("/selfsubjectaccessreviews"):
            attributes = body["spec"]["resourceAttributes"]
            return {**body, "status": {"allowed": (attributes["verb"], attributes["resource"]) not in self.api.denied}}
        group_version, namespace, plural, name = _parts(path)
        if plural not in KINDS.get(group_version, {}) or plural in self.api.absent:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        match method:
            case "GET" if name:
                return self.api.read(group_version, plural, namespace, name)
            case "GET":
                return self._list(group_version, plural, namespace, query)
            case "POST":
                return self.api.create(group_version, plural, namespace, body, dry_run="dryRun" in query)
            case "PATCH":
                return self.api.merge(group_version, plural, namespace, name, body)
            case _:
                return self.api.delete(
                    group_version, plural, namespace, name, (body.get("preconditions") or {}).get("uid")
                )

    def _list(self, group_version: str, plural: str, namespace: str, query: dict[str, str]) -> Document:
        with self.api.changed:
            items = self.api.select(group_version, plural, namespace, query)
            version = str(self.api.version)
        begin, limit = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(items)
        page, metadata = items[begin : begin + limit], {"resourceVersion": version}
        if begin + limit < len(items):
            metadata["continue"] = str(begin + limit)
        kind, api_version = f"{KINDS[group_version][plural][0]}List", group_version
        if "as=PartialObjectMetadataList" in self.headers.get("Accept", ""):
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            page = [{"metadata": item["metadata"]} for item in page]
        # As the real one: items of built-in kinds do not repeat their kind.
        bare = [{name: value for name, value in item.items() if name not in {"kind", "apiVersion"}} for item in page]
        return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": bare}

    def _log(self, pod: str) -> None:
        answers = self.api.logs.get(pod)
        if not answers:
            raise ApiError(400, "BadRequest", "container is waiting to start")
        lines = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            if line is None:
                self.close_connection = True
                return
            text = f"{line}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.wfile.write(b"0\r\n\r\n")

    def _watch(self, parts: tuple[str, str, str, str], query: dict[str, str]) -> None:
        group_version, namespace, plural, _ = parts
        kind = KINDS[group_version][plural][0]
        version, generation = int(query["resourceVersion"]), self.api._watch_generation
        ends = datetime.now(UTC).timestamp() + float(query["timeoutSeconds"])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while (left := ends - datetime.now(UTC).timestamp()) > 0:
            with self.api.changed:
                if generation != self.api._watch_generation:
                    # In the middle of a line, as a connection breaks.
                    self.wfile.write(b'{"type": "MODIF')
                    return
                try:
                    events = self.api.events_after(version)
                except ApiError as error:
                    self._write({"type": "ERROR", "object": error.status})
                    return
                if not events:
                    self.api.changed.wait(min(left, 0.5))
            for number, change, document in events:
                version = number
                same = document["kind"] == kind and document["metadata"].get("namespace", "") == namespace
                if same and chosen(document, query):
                    self._write({"type": change, "object": document})

    def _write(self, event: Document) -> None:
        self.wfile.write(json.dumps(event).encode() + b"\n")
        self.wfile.flush()

    def _fault(self, fault: Fault) -> None:
        if not fault.code:
            self.close_connection = True
            return
        message = {"kind": "Status", "code": fault.code, "message": f"scripted {fault.code}"}
        self._send(fault.code, message, fault.headers)

    def _send(self, code: int, document: Document, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _parts(path: str) -> tuple[str, str, str, str]:
    """A path's group/version, namespace, plural and name."""
    steps = path.strip("/").split("/")
    group_version, rest = (steps[1], steps[2:]) if steps[0] == "api" else ("/".join(steps[1:3]), steps[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    return group_version, namespace, rest[0], rest[1] if len(rest) > 1 else ""


def _discovery(path: str, absent: set[str]) -> Document | None:
    if path == "/apis":
        groups: dict[str, list[dict[str, str]]] = {}
        for version in KINDS:
            if "/" in version:
                groups.setdefault(version.split("/")[0], []).append({"groupVersion": version})
        return {
            "groups": [{"name": name, "versions": each, "preferredVersion": each[0]} for name, each in groups.items()]
        }
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in KINDS:
        return None
    resources = [
        {"name": plural, "namespaced": namespaced, "kind": kind, "verbs": ["get", "list", "watch", "create", "delete"]}
        for plural, (kind, namespaced) in KINDS[version].items()
        if plural not in absent
    ]
    return {
        "groupVersion": version,
        "resources": [*resources, {"name": "pods/log", "namespaced": True, "verbs": ["get"]}],
    }


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    """A Kubernetes API of the test's own, with the namespaces `velero` and `default`; KUBECONFIG leads to it."""
    api = KubernetesApi()
    for name in ("default", "velero"):
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path)))
    yield api
    api.close()
