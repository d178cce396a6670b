"""A small stateful Kubernetes API over HTTP: what the tests of a client need when there is no cluster. What runs on both is held to a real one in tests/cluster.

It keeps objects with uid, resourceVersion and creationTimestamp; lists with selectors, pages and metadata only; creates (409, dryRun), merges (409 on another
resourceVersion), writes status, deletes with a uid precondition; watches from a resource version, with 410 for one that is too old; asks for a token (401).
Of the controllers it plays two: a new namespace gets its ConfigMap and ServiceAccount, a ResourceQuota its status. Faults are scripted by `fail` and `cut_watches`.
It does not: validate, default, apply, check rights (every SelfSubjectAccessReview is allowed but those in `denied`), or enforce quotas.
"""

import copy
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

Document = dict[str, Any]

# group/version → plural: (kind, namespaced)
KINDS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "namespaces": ("Namespace", False),
        "configmaps": ("ConfigMap", True),
        "secrets": ("Secret", True),
        "services": ("Service", True),
        "serviceaccounts": ("ServiceAccount", True),
        "pods": ("Pod", True),
        "resourcequotas": ("ResourceQuota", True),
        "events": ("Event", True),
    },
    "apps/v1": {"deployments": ("Deployment", True), "replicasets": ("ReplicaSet", True)},
    # As in Kubernetes 1.20: the preferred version of a group need not have all of its kinds.
    "batch/v1": {"jobs": ("Job", True)},
    "batch/v1beta1": {"cronjobs": ("CronJob", True)},
    "networking.k8s.io/v1": {"ingresses": ("Ingress", True)},
    "velero.io/v1": {
        "backups": ("Backup", True),
        "restores": ("Restore", True),
        "backupstoragelocations": ("BackupStorageLocation", True),
    },
}


class ApiError(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


@dataclass
class Fault:
    """Answers to come: for requests of a method whose path ends with or contains `part`."""

    method: str
    part: str
    code: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


class KubernetesApi:
    """The state behind the HTTP server, and what a test does with it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.objects: dict[tuple[str, str, str, str], Document] = {}
        self.log: list[tuple[int, str, Document]] = []
        self.version, self.oldest = 100, 0
        self.tokens = {"first-token"}
        self.denied: set[tuple[str, str]] = set()
        self.requests: list[tuple[str, str]] = []
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

    def put(self, document: Document, *, seconds_ago: int = 0) -> Document:
        """Create an object directly, as another client would have so many seconds ago."""
        group_version, plural = _where(document["apiVersion"], document["kind"])
        namespace, name = document["metadata"].get("namespace", ""), document["metadata"]["name"]
        made = self.create(group_version, plural, namespace, document)
        if seconds_ago:
            earlier = {"metadata": {"creationTimestamp": _now(seconds_ago)}}
            made = self.merge(group_version, plural, namespace, name, earlier)
        return made

    def set_status(self, group_version: str, plural: str, namespace: str, name: str, **status: Any) -> Document:
        """Write into an object's status, as its controller would."""
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            return self._store((group_version, plural, namespace, name), {**there, "status": {**there.get("status", {}), **status}}, "MODIFIED")  # fmt: skip

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

    # What requests do

    def read(self, group_version: str, plural: str, namespace: str, name: str) -> Document:
        key = (group_version, plural, namespace, name)
        if key not in self.objects:
            raise ApiError(404, "NotFound", f'{plural} "{name}" not found')
        return copy.deepcopy(self.objects[key])

    def create(
        self, group_version: str, plural: str, namespace: str, document: Document, *, dry_run: bool = False
    ) -> Document:
        with self.changed:
            document = copy.deepcopy(document)
            name = document["metadata"]["name"]
            key = (group_version, plural, namespace, name)
            if key in self.objects:
                raise ApiError(409, "AlreadyExists", f'{plural} "{name}" already exists')
            if namespace and ("v1", "namespaces", "", namespace) not in self.objects:
                raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found')
            document["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
            document["metadata"] |= {"namespace": namespace} if namespace else {}
            if dry_run:
                return document
            self._store(key, document, "ADDED")
            self._play_controllers(plural, namespace or name, document)
            return self.read(*key)

    def merge(self, group_version: str, plural: str, namespace: str, name: str, patch: Document) -> Document:
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            expected = patch.get("metadata", {}).get("resourceVersion")
            if expected and expected != there["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", f'{plural} "{name}": the object has been modified')
            return self._store((group_version, plural, namespace, name), _merged(there, patch), "MODIFIED")

    def delete(self, group_version: str, plural: str, namespace: str, name: str, uid: str | None) -> Document:
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            if uid and there["metadata"]["uid"] != uid:
                raise ApiError(409, "Conflict", "the UID in the precondition does not match")
            if plural == "namespaces":
                for key in [key for key in self.objects if key[2] == name]:
                    self._remove(key)
            self._remove((group_version, plural, namespace, name))
            return there

    def select(self, group_version: str, plural: str, namespace: str, query: dict[str, str]) -> list[Document]:
        return [
            copy.deepcopy(document)
            for key, document in sorted(self.objects.items())
            if key[:2] == (group_version, plural)
            and (not namespace or key[2] == namespace)
            and _chosen(document, query)
        ]

    def events_after(self, version: int) -> list[tuple[int, str, Document]]:
        if version < self.oldest:
            raise ApiError(410, "Expired", f"too old resource version: {version} ({self.oldest})")
        return [event for event in self.log if event[0] > version]

    def fault_for(self, method: str, path: str, *, after: bool) -> Fault | None:
        for fault in self._faults:
            if fault.times and fault.after == after and fault.method == method and fault.part in path:
                fault.times -= 1
                return fault
        return None

    def _store(self, key: tuple[str, str, str, str], document: Document, kind: str) -> Document:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = document
        self.log.append((self.version, kind, copy.deepcopy(document)))
        self.changed.notify_all()
        return copy.deepcopy(document)

    def _remove(self, key: tuple[str, str, str, str]) -> None:
        document = self.objects.pop(key)
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, "DELETED", document))
        self.changed.notify_all()

    def _play_controllers(self, plural: str, namespace: str, document: Document) -> None:
        if plural == "namespaces":
            for kind, name in (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")):
                self.put({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}})
        if plural == "resourcequotas":
            self.set_status("v1", plural, namespace, document["metadata"]["name"], hard=document["spec"]["hard"])


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
            if query.get("watch"):
                return self._watch(_parts(address.path), query)
            document = self._carry_out(method, address.path, query, body)
            if fault := self.api.fault_for(method, self.path, after=True):
                return self._fault(fault)
            self._send(201 if method == "POST" else 200, document)
        except ApiError as error:
            self._send(error.code, error.status)

    def _carry_out(self, method: str, path: str, query: dict[str, str], body: Document) -> Document:  # noqa: PLR0911 - one a verb
        if method == "GET" and (found := _discovery(path)) is not None:
            return found
        if path.endswith("/selfsubjectaccessreviews"):
            attributes = body["spec"]["resourceAttributes"]
            return {**body, "status": {"allowed": (attributes["verb"], attributes["resource"]) not in self.api.denied}}
        group_version, namespace, plural, name = _parts(path)
        if plural not in KINDS.get(group_version, {}):
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
                if same and _chosen(document, query):
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


def _discovery(path: str) -> Document | None:
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
    ]
    return {
        "groupVersion": version,
        "resources": [*resources, {"name": "pods/log", "namespaced": True, "verbs": ["get"]}],
    }


def _where(api_version: str, kind: str) -> tuple[str, str]:
    return api_version, next(plural for plural, (each, _) in KINDS[api_version].items() if each == kind)


def _chosen(document: Document, query: dict[str, str]) -> bool:
    labels = document["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = term.partition("=")
        if labels.get(key) != value:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, differs, value = (*term.partition("!="),) if "!=" in term else (*term.partition("="),)
        actual = document["metadata"].get("name") if key == "metadata.name" else document.get(key, "Opaque")
        if (actual == value) == (differs == "!="):
            return False
    return True


def _merged(there: Document, patch: Document) -> Document:
    """JSON merge patch (RFC 7386)."""
    for key, value in patch.items():
        if value is None:
            there.pop(key, None)
        elif isinstance(value, dict) and isinstance(there.get(key), dict):
            there[key] = _merged(there[key], value)
        else:
            there[key] = value
    return there


def _now(seconds_ago: int = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    """A Kubernetes API of the test's own, with the namespaces `velero` and `default`; KUBECONFIG leads to it."""
    api = KubernetesApi()
    for name in ("default", "velero"):
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path)))
    yield api
    api.close()
