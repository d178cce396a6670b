"""A client of the Kubernetes API for one task: plain JSON documents over HTTP, with the few rules that every caller needs.

A client never outlives a task: credentials last minutes (EKS: 15). A 401 rebuilds it once, with fresh credentials. What may be repeated is repeated here, at most
five times, with Retry-After or back-off and jitter: reads always; writes only when the API server said that it did not take them (429). After any other
failure of a write nobody knows whether it happened: the caller looks before it writes again (TemporaryError: the step is tried again, and looks first).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from core.errors import TemporaryError
from core.fence import Document
from tasks.kubeconfig import Connection, find_connection
from tasks.kubernetes_answers import ATTEMPTED, REACH, BusyError, changed_objects, error_of, told

Connect = Callable[[], Connection]

ATTEMPTS = 5
CONNECT_SECONDS, READ_SECONDS = 10, 60
PAGE = 500
# Of an answer that is nobody's document, so much is read.
ANSWER_BYTES = 4096
# A watch that is silent for so long after its own end is a connection that died unnoticed.
WATCH_GRACE_SECONDS = 15
# Who owns what we write, as `kubectl get --show-managed-fields` tells.
FIELD_MANAGER = "nightshift"
# Names, labels, owners and times only: the content of Secrets does not travel.
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

_backoff = wait_exponential_jitter(multiplier=0.5, max=10, jitter=1)


@dataclass(frozen=True)
class _Request:
    """What is asked for; `stream`: the answer is read as it comes."""

    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Document | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    read_seconds: float = READ_SECONDS


class KubernetesClient:
    """Requests to one API server. Use it as a context manager, within one task."""

    def __init__(self, connect: Connect, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._connect, self._sleep = connect, sleep
        self._connection = connect()
        self._http = _http_of(self._connection)

    @classmethod
    def open(cls, context: str | None) -> KubernetesClient:
        """Given a context of the kubeconfig (None: the current one, or the Pod's service account), return a client. No request is made.

        Raise ConfigurationError when there is no such context.
        """
        return cls(lambda: find_connection(context))

    def __enter__(self) -> KubernetesClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    @property
    def address(self) -> str:
        """The API server's address, for messages."""
        return self._connection.server

    def get(self, path: str, **parameters: str) -> Document:
        """Read a path (`/api/v1/namespaces/x`). Raise MissingError, ForbiddenError, or TemporaryError when the API server stays away."""
        return self._patiently(_Request("GET", path, parameters))

    def list(self, path: str, *, metadata_only: bool = False, **parameters: str) -> Iterator[Document]:
        """The items of a collection, page by page. `metadata_only`: without spec, status and data, which then do not even travel.

        A list that expires while it is paged through (410) raises GoneError: the step begins it again.
        """
        headers = {"Accept": METADATA_ONLY} if metadata_only else {}
        following = ""
        while True:
            paging = {"limit": str(PAGE), **({"continue": following} if following else {})}
            page = self._patiently(_Request("GET", path, {**parameters, **paging}, headers=headers))
            yield from page.get("items") or ()
            following = (page.get("metadata") or {}).get("continue") or ""
            if not following:
                return

    def create(self, path: str, document: Document, *, dry_run: bool = False) -> Document:
        """POST a document to its collection. Raise ExistsError when the name is taken. `dry_run`: the API server checks it and keeps nothing."""
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        return self._patiently(_Request("POST", path, query, body=document))

    def merge(self, path: str, document: Document, *, strategic: bool = False, dry_run: bool = False) -> Document:
        """PATCH an object. With metadata.resourceVersion in it, raise ExistsError when the object changed since that was read.

        JSON merge patch, which every kind knows and which replaces lists as a whole; `strategic`: Kubernetes' own, built-in kinds only, which
        merges containers by their names. `dry_run`: the API server answers as if it had, and keeps nothing.
        """
        kind = "strategic-merge-patch" if strategic else "merge-patch"
        headers = {"Content-Type": f"application/{kind}+json"}
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        return self._patiently(_Request("PATCH", path, query, body=document, headers=headers))

    def lines(self, path: str, *, seconds: float, **parameters: str) -> Iterator[str]:
        """The lines of a text (a log; with follow="true" as they come). Raise TemporaryError when nothing came for so many seconds or the connection broke."""
        on = self._on(path)
        try:
            response = self._send(_Request("GET", path, parameters, stream=True, read_seconds=seconds))
            try:
                yield from response.iter_lines()
            finally:
                response.close()
        except (httpx.TransportError, httpx.StreamError) as error:
            raise TemporaryError("read", on, f"the connection broke: {told(error)}") from error

    def answer(self, path: str, *, seconds: float, most: int = ANSWER_BYTES, **parameters: str) -> tuple[int, str]:
        """Status and beginning of the text (at most so many bytes) of whoever answers at a path, good or bad: a Pod behind its proxy, its log. Not repeated.

        Raise TemporaryError when nobody does in time.
        """
        on, ends, text = self._on(path), time.monotonic() + seconds, bytearray()
        try:
            response = self._exchanged(_Request("GET", path, parameters, stream=True, read_seconds=seconds))
            try:
                for part in response.iter_bytes():
                    text += part
                    if len(text) >= most or time.monotonic() > ends:
                        break
            finally:
                response.close()
        except (httpx.TransportError, httpx.StreamError, httpx.DecodingError) as error:
            raise TemporaryError("read", on, f"no answer: {told(error)}") from error
        return response.status_code, text[:most].decode(errors="replace")

    def delete(self, path: str, *, uid: str) -> None:
        """Delete the object at a path if it is still the one with this uid, in the background. Raise MissingError when it is gone, ExistsError for another."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}, "propagationPolicy": "Background"}  # fmt: skip
        self._patiently(_Request("DELETE", path, body=body))

    def watch(self, path: str, resource_version: str, *, seconds: float, **parameters: str) -> Iterator[Document]:
        """The objects of a collection as they change after a resource version, for at most so many seconds; a deleted object comes with `deleted: true`.

        Ends when the API server ends it. Raise GoneError when the version is too old, TemporaryError when the connection breaks. Not repeated here.
        """
        lasting = max(1, round(seconds))
        query = {**parameters, "watch": "1", "resourceVersion": resource_version, "timeoutSeconds": str(lasting)}
        on = self._on(path)
        try:
            response = self._send(_Request("GET", path, query, stream=True, read_seconds=lasting + WATCH_GRACE_SECONDS))
            try:
                for line in response.iter_lines():
                    yield from changed_objects(json.loads(line), on)
            finally:
                response.close()
        except (httpx.TransportError, httpx.StreamError, ValueError) as error:
            raise TemporaryError("watch", on, f"the connection broke: {told(error)}") from error

    def _patiently(self, asked: _Request) -> Document:
        def repeatable(error: BaseException) -> bool:
            return isinstance(error, BusyError) or (asked.method == "GET" and type(error) is TemporaryError)

        retrying = Retrying(
            retry=retry_if_exception(repeatable),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_pause,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._once, asked)

    def _once(self, asked: _Request) -> Document:
        attempted, on = ATTEMPTED[asked.method], self._on(asked.path)
        try:
            document = self._send(asked).json()
        except (httpx.RequestError, httpx.StreamError) as error:
            unknown = "" if asked.method == "GET" else "; whether it happened is not known"
            raise TemporaryError(attempted, on, f"{told(error)}{unknown}", REACH) from error
        except (ValueError, RecursionError) as error:
            raise TemporaryError(attempted, on, "the answer is no JSON", REACH) from error
        return document if isinstance(document, dict) else {}

    def _send(self, asked: _Request) -> httpx.Response:
        """The answer to one request, when it is a good one; else raise."""
        response = self._exchanged(asked)
        if response.is_success:
            return response
        response.read()
        response.close()
        raise error_of(response, asked.method, self._on(asked.path))

    def _exchanged(self, asked: _Request) -> httpx.Response:
        """The answer to one request. A first 401 rebuilds the client: the token may simply be old."""
        response = self._http.send(self._built(asked), stream=asked.stream)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            response.close()
            self._rebuild()
            response = self._http.send(self._built(asked), stream=asked.stream)
        return response

    def _built(self, asked: _Request) -> httpx.Request:
        name = self._connection.tls_server_name
        written = {} if asked.body is None else {"Content-Type": "application/json"}
        return self._http.build_request(
            asked.method,
            self._connection.server + asked.path,
            params=dict(asked.parameters),
            headers={**written, **asked.headers},
            content=None if asked.body is None else json.dumps(asked.body),
            timeout=httpx.Timeout(asked.read_seconds, connect=min(CONNECT_SECONDS, asked.read_seconds)),
            extensions={"sni_hostname": name} if name else {},
        )

    def _rebuild(self) -> None:
        self._http.close()
        self._connection = self._connect()
        self._http = _http_of(self._connection)

    def _on(self, path: str) -> str:
        return f"{self._connection.server}{path}"


def _http_of(connection: Connection) -> httpx.Client:
    authorization = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
    return httpx.Client(
        verify=connection.tls,
        proxy=connection.proxy,
        headers={"Accept": "application/json", "User-Agent": "nightshift", **authorization},
        follow_redirects=False,
    )


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the API server asked for, else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, BusyError) else 0.0
    return asked or _backoff(state)
