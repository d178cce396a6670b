"""A real S3 API (moto server, one a session), a fresh bucket per test, and a proxy before it that breaks requests as told."""

import http.client
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from core.environment import Backups, Environment, Signing, Store
from core.environment_database import Database
from tasks.object_store import ObjectStore
from tasks.s3_client import make_client

REGION = "us-east-1"


@dataclass
class Fault:
    """What to do with the next `times` requests that match, after letting `after` of them through."""

    matches: Callable[[str, str], bool]
    kind: str
    times: int = 1
    after: int = 0
    status: int = 503
    body: bytes = b""
    body_bytes: int = 0
    hits: int = 0


@dataclass
class FaultProxy:
    """An HTTP proxy before the S3 server. `endpoint` is its address; `requests` tells (method, path with query) of all that came."""

    endpoint: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, method: str, part: str = "", *, times: int = 1, after: int = 0, **more: Any) -> Fault:
        """Answer with `status` (503) and `body` instead of asking the server."""
        return self._add(Fault(_matcher(method, part), "refuse", times, after, **more))

    def lose_answer(self, method: str, part: str = "", *, times: int = 1, after: int = 0) -> Fault:
        """Let the server do it, then close the connection without an answer."""
        return self._add(Fault(_matcher(method, part), "lose", times, after))

    def cut_body(self, method: str, part: str = "", *, body_bytes: int, times: int = 1, after: int = 0) -> Fault:
        """Let so many bytes of the answer's body through, then close the connection."""
        return self._add(Fault(_matcher(method, part), "cut", times, after, body_bytes=body_bytes))

    def count(self, method: str, part: str = "") -> int:
        """How many requests of this kind came."""
        return sum(_matcher(method, part)(*request) for request in self.requests)

    def _add(self, fault: Fault) -> Fault:
        with self.lock:
            self.faults.append(fault)
        return fault

    def fault_for(self, method: str, path: str) -> Fault | None:
        """Note a request, and say what is to happen to it."""
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if not fault.matches(method, path):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    fault.hits += 1
                    return fault
        return None


def _matcher(method: str, part: str) -> Callable[[str, str], bool]:
    return lambda its_method, path: its_method == method and part in path


class _Handler(BaseHTTPRequestHandler):
    """Passes one request on, with what the proxy says is to happen to it. The two class attributes are set by a subclass per proxy."""

    protocol_version = "HTTP/1.1"
    proxy: FaultProxy
    port: int

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        """As the base class; a client that went away is no error."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault_for(self.command, self.path)
        if fault is not None and fault.kind == "refuse":
            self._answer(fault.status, [("Content-Type", "application/xml")], fault.body, None)
            return
        server = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            server.request(self.command, self.path, body, dict(self.headers.items()))
            answer = server.getresponse()
            content, headers = answer.read(), answer.getheaders()
        finally:
            server.close()
        if fault is not None and fault.kind == "lose":
            self.close_connection = True
            return
        self._answer(answer.status, headers, content, fault)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, fault: Fault | None) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if fault is not None:
            content = content[: fault.body_bytes]
            self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 - names that http.server looks up


@dataclass
class S3Server:
    """The S3 server of the session: its address, and a client that nothing breaks."""

    endpoint: str
    port: int
    client: Any


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """moto's server, in this process, on a free port; and keys that it accepts, as the environment's references name them."""
    os.environ.update({"NIGHTSHIFT_TEST_S3_KEY": "testing", "NIGHTSHIFT_TEST_S3_SECRET": "testing-secret"})
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing-secret",
    )
    yield S3Server(endpoint, port, client)
    client.close()
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """A new bucket's name."""
    name = f"test-{secrets.token_hex(6)}"
    s3_server.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def locking_bucket(s3_server: S3Server) -> str:
    """A new bucket's name, versioned and with Object Lock enabled."""
    name = f"test-{secrets.token_hex(6)}"
    s3_server.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture(scope="session")
def _s3_proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    handler = type("Handler", (_Handler,), {"port": s3_server.port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy = FaultProxy(f"http://127.0.0.1:{server.server_address[1]}")
    handler.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield proxy
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def s3_faults(_s3_proxy: FaultProxy) -> FaultProxy:
    """A proxy before the S3 server that lets everything through until told otherwise."""
    _s3_proxy.faults.clear()
    _s3_proxy.requests.clear()
    return _s3_proxy


def environment_for(
    bucket: str,
    endpoint: str,
    *,
    backups: Backups | None = None,
    databases: dict[str, Database] | None = None,
    **store: Any,
) -> Environment:
    """An environment whose store is this bucket; further arguments are fields of [store]."""
    os.environ.setdefault("NIGHTSHIFT_TEST_SIGNING_KEY", "a signing key of more than thirty-two characters")
    return Environment(
        name="local",
        store=Store(
            bucket=bucket,
            endpoint_url=endpoint,
            access_key_id="env:NIGHTSHIFT_TEST_S3_KEY",
            secret_access_key="env:NIGHTSHIFT_TEST_S3_SECRET",
            **store,
        ),
        signing=Signing(key="env:NIGHTSHIFT_TEST_SIGNING_KEY"),
        databases=databases or {"app": Database(host="127.0.0.1", name="app", user="backup")},
        backups=backups or Backups(part_mib=5),
    )


@pytest.fixture(scope="session")
def _clients() -> Iterator[dict[str, Any]]:
    """One client an endpoint: making one takes botocore some tenths of a second."""
    clients: dict[str, Any] = {}
    yield clients
    for client in clients.values():
        client.close()


def _store(clients: dict[str, Any], bucket: str, endpoint: str) -> ObjectStore:
    environment = environment_for(bucket, endpoint)
    if endpoint not in clients:
        clients[endpoint] = make_client(environment)
    return ObjectStore(environment, clients[endpoint])


@pytest.fixture
def store(s3_server: S3Server, bucket: str, _clients: dict[str, Any]) -> ObjectStore:
    """A store on the new bucket, without faults; parts of 5 MiB, S3's smallest."""
    return _store(_clients, bucket, s3_server.endpoint)


@pytest.fixture
def faulty_store(s3_faults: FaultProxy, bucket: str, _clients: dict[str, Any]) -> ObjectStore:
    """A store on the new bucket through the proxy."""
    return _store(_clients, bucket, s3_faults.endpoint)


def nothing_left(store: ObjectStore) -> bool:
    """Whether a bucket has neither objects nor uploads that were begun."""
    return not list(store.list("")) and not store.list_uploads("")
