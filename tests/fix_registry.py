"""A small image registry over HTTP: manifests and tags that a test pushes and moves, sign-in by token or password, scripted faults.

It knows of the OCI distribution specification what a client needs that reads manifests: GET and HEAD of /v2/NAME/manifests/REFERENCE, and /token.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Fault:
    """Answers to come, for requests whose path contains `part`."""

    part: str
    code: int
    times: int
    body: bytes = b'{"errors": [{"code": "SCRIPTED", "message": "scripted"}]}'
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class ImageRegistry:
    """The state, the HTTP server before it, and what a test does with both."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        # "none": anybody may read. "token": by a token of /token. "basic": by user and password.
        self.sign_in = "none"
        self.users = {"puller": "pull-password"}
        # Whether /token gives a token to somebody without a password.
        self.anonymous_tokens = True
        self.claimed_digest: str | None = ""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._faults: list[Fault] = []
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.address = f"http://{self.host}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def push(self, repository: str, tag: str | None = None, *, content: str = "", media_type: str = OCI_INDEX) -> str:
        """Put a manifest with some content there (and a tag on it), and return its digest."""
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "annotations": {"content": content}}).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.manifests[repository, digest] = (media_type, body)
        if tag is not None:
            self.tags[repository, tag] = digest
        return digest

    def move_tag(self, repository: str, tag: str, digest: str) -> None:
        """Put a tag on another manifest that is there."""
        assert (repository, digest) in self.manifests
        self.tags[repository, tag] = digest

    def remove(self, repository: str, digest: str) -> None:
        """Take a manifest away, with the tags on it, as a registry's clean-up does."""
        del self.manifests[repository, digest]
        self.tags = {key: its for key, its in self.tags.items() if not (key[0] == repository and its == digest)}

    def fail(
        self, part: str, code: int, *, times: int = 1, body: bytes | None = None, seconds: float = 0.0, **headers: str
    ) -> None:
        """Answer the next requests so. `code` 0: the connection is closed without an answer, after so many seconds."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fault = Fault(part, code, times, headers=named, seconds=seconds)
        if body is not None:
            fault.body = body
        self._faults.append(fault)

    def count(self, part: str) -> int:
        """How many requests had this in their path."""
        return sum(1 for _, path, _ in self.requests if part in path)

    def fault_for(self, path: str) -> Fault | None:
        for fault in self._faults:
            if fault.times and fault.part in path:
                fault.times -= 1
                return fault
        return None

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    registry: ImageRegistry
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        registry = self.registry
        registry.requests.append((self.command, self.path, dict(self.headers.items())))
        if fault := registry.fault_for(self.path):
            time.sleep(fault.seconds)
            if fault.code:
                self._answer(fault.code, fault.body, {"Content-Type": "application/json", **fault.headers})
            else:
                self.close_connection = True
            return
        address = urlsplit(self.path)
        if address.path == "/token":
            self._token(parse_qs(address.query))
        elif not self._may_read():
            realm = f'Bearer realm="{registry.address}/token",service="{registry.host}",scope="repository:{_name(address.path)}:pull"'
            challenge = realm if registry.sign_in == "token" else 'Basic realm="the registry"'
            self._answer(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}', {"WWW-Authenticate": challenge})
        elif address.path == "/v2/":
            self._answer(200, b"{}", {"Content-Type": "application/json"})
        else:
            self._manifest(_name(address.path), address.path.rpartition("/")[2])

    do_GET = do_HEAD = _serve  # noqa: N815 - names that http.server looks up

    def _manifest(self, repository: str, reference: str) -> None:
        registry = self.registry
        digest = registry.tags.get((repository, reference), reference)
        there = registry.manifests.get((repository, digest))
        if there is None or there[0] not in self.headers.get("Accept", ""):
            self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}', {})
            return
        claimed = {None: {}, "": {"Docker-Content-Digest": digest}}.get(
            registry.claimed_digest, {"Docker-Content-Digest": str(registry.claimed_digest)}
        )
        self._answer(200, there[1], {"Content-Type": there[0], **claimed})

    def _token(self, query: dict[str, list[str]]) -> None:
        user = self._user()
        if user is None and not (self.registry.anonymous_tokens and "Authorization" not in self.headers):
            self._answer(401, b'{"details": "incorrect username or password"}', {})
            return
        token = f"token-of-{user or 'anybody'}-for-{query['scope'][0]}"
        self._answer(
            200, json.dumps({"token": token, "expires_in": 300}).encode(), {"Content-Type": "application/json"}
        )

    def _may_read(self) -> bool:
        match self.registry.sign_in:
            case "token":
                given = self.headers.get("Authorization", "").removeprefix("Bearer ")
                return given.startswith("token-of-") and f"repository:{_name(urlsplit(self.path).path)}:pull" in given
            case "basic":
                return self._user() is not None
            case _:
                return True

    def _user(self) -> str | None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user if self.registry.users.get(user) == password else None

    def _answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _name(path: str) -> str:
    """The repository in /v2/NAME/manifests/REFERENCE."""
    return path.removeprefix("/v2/").rpartition("/manifests/")[0]


@pytest.fixture
def image_registry() -> Iterator[ImageRegistry]:
    """An empty registry of the test's own."""
    registry = ImageRegistry()
    yield registry
    registry.close()
