"""The HTTP side of the small Kubernetes API of the tests (fix_kubernetes): paths, verbs, content types, lists, watches, logs, proxies."""

import json
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.fix_kubernetes_faults import DroppedError, Fault
from tests.fix_kubernetes_kinds import KINDS, Document, discovery, is_absent, is_custom, kept_version
from tests.fix_kubernetes_patch import MERGE, STRATEGIC
from tests.fix_kubernetes_rules import ApiError
from tests.fix_kubernetes_selection import chosen

if TYPE_CHECKING:
    from tests.fix_kubernetes import KubernetesApi


@dataclass(frozen=True)
class Target:
    """What a path names. `rest`: what follows a proxy's."""

    group_version: str
    namespace: str
    plural: str
    name: str = ""
    subresource: str = ""
    rest: str = ""

    @classmethod
    def of(cls, path: str) -> "Target":
        steps = path.strip("/").split("/")
        group_version, left = (steps[1], steps[2:]) if steps[0] == "api" else ("/".join(steps[1:3]), steps[3:])
        if not left:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        namespace = ""
        if left[0] == "namespaces" and len(left) > 2 and left[2] not in {"status", "finalize"}:
            namespace, left = left[1], left[2:]
        plural, name, subresource = (*left[:3], "", "")[:3]
        return cls(group_version, namespace, plural, name, subresource, "/" + "/".join(left[3:]))

    @property
    def place(self) -> tuple[str, str, str, str]:
        return self.group_version, self.plural, self.namespace, self.name


class Handler(BaseHTTPRequestHandler):
    """One connection. `api` is set by the server that it belongs to."""

    api: "KubernetesApi"
    protocol_version = "HTTP/1.1"
    # Without it each answer waits 40 ms for the acknowledgement of its headers.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _answer(self, method: str) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.api.requests.append((method, self.path))
        try:
            self.api.meet(method, self.path, after=False)
            if fault := self.api.fault_for(method, self.path, after=False):
                return self._fault(fault)
            if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.api.tokens:
                raise ApiError(401, "Unauthorized", "Unauthorized")  # noqa: TRY301 - answered below
            if query.get("watch"):
                return self._watch(Target.of(address.path), query)
            if address.path.endswith("/log"):
                return self._log(Target.of(address.path), query)
            if "/proxy" in address.path:
                return self._send_bytes(*self.api.proxied(method, Target.of(address.path)))
            document = self._carry_out(method, address.path, query, json.loads(sent or b"{}"))
            self.api.meet(method, self.path, after=True)
            if fault := self.api.fault_for(method, self.path, after=True):
                return self._fault(fault)
            self._send(201 if method == "POST" else 200, document)
        except ApiError as error:
            self._send(error.code, error.status)
        except DroppedError:
            self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            # Who asked is gone: killed, as tests do.
            self.close_connection = True

    def _carry_out(self, method: str, path: str, query: dict[str, str], body: Document) -> Document:  # noqa: PLR0911 - one a verb
        if method == "GET" and (found := discovery(path, self.api.absent)) is not None:
            return found
        if "/selfsubject" in path:
            return self.api.rules_reviewed(body) if path.endswith("rulesreviews") else self.api.reviewed(body)
        target = Target.of(path)
        if is_absent(target.group_version, target.plural, self.api.absent):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        agent = self.headers.get("User-Agent", "").partition("/")[0]
        how = {"dry_run": "dryRun" in query, "manager": query.get("fieldManager") or agent or "unknown"}
        if target.subresource == "scale":
            return self.api.scaled(target.namespace, target.name, None if method == "GET" else body, **how)
        match method:
            case "GET" if target.name:
                return self.api.read(*target.place)
            case "GET":
                return self._list(target, query)
            case "POST":
                return self.api.create(*target.place[:3], body, **how)
            case "PUT":
                return self.api.replace(*target.place, body, subresource=target.subresource, **how)
            case "PATCH":
                strategic = self._is_strategic(target)
                return self.api.merge(*target.place, body, strategic=strategic, subresource=target.subresource, **how)
            case _:
                only = body.get("preconditions") or {}
                more = {"version": only.get("resourceVersion"), "dry_run": how["dry_run"]}
                given = {key: value for key, value in more.items() if value}
                return self.api.delete(*target.place, only.get("uid"), **given)

    def _is_strategic(self, target: Target) -> bool:
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        if kind not in {MERGE, STRATEGIC} or (kind == STRATEGIC and is_custom(target.group_version)):
            raise ApiError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
        return kind == STRATEGIC

    def _list(self, target: Target, query: dict[str, str]) -> Document:
        with self.api.changed:
            items = self.api.select(target.group_version, target.plural, target.namespace, query)
            version = str(self.api.version)
        begin, limit = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(items)
        page, metadata = items[begin : begin + limit], {"resourceVersion": version}
        if begin + limit < len(items):
            metadata["continue"] = str(begin + limit)
        kind, api_version = f"{KINDS[target.group_version][target.plural][0]}List", target.group_version
        if "as=PartialObjectMetadataList" in self.headers.get("Accept", ""):
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            page = [{"metadata": item["metadata"]} for item in page]
        # As the real one: items of built-in kinds do not repeat their kind.
        bare = [{name: value for name, value in item.items() if name not in {"kind", "apiVersion"}} for item in page]
        return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": bare}

    def _watch(self, target: Target, query: dict[str, str]) -> None:
        if is_absent(target.group_version, target.plural, self.api.absent):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        kind, kept = KINDS[target.group_version][target.plural][0], kept_version(target.group_version, target.plural)
        version, generation = int(query["resourceVersion"]), self.api.watch_generation
        ends = time.monotonic() + float(query["timeoutSeconds"])
        self._begin_stream("application/json")
        while (left := ends - time.monotonic()) > 0:
            with self.api.changed:
                if generation != self.api.watch_generation:
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
                there = document["metadata"].get("namespace", "")
                same = (document["apiVersion"], document["kind"]) == (kept, kind)
                if same and target.namespace in {"", there} and chosen(document, query):
                    self._write({"type": change, "object": {**document, "apiVersion": target.group_version}})

    def _log(self, target: Target, query: dict[str, str]) -> None:
        """A Pod's text; with follow, its lines as they come, until the Pod has ended."""
        if scripted := self.api.scripted_logs.get(target.name):
            return self._scripted_log(scripted.pop(0) if len(scripted) > 1 else scripted[0])
        text, ended = self.api.log_of(target.namespace, target.name, previous="previous" in query)
        if query.get("follow") != "true":
            last = text.splitlines(keepends=True)[-int(query["tailLines"]) :] if "tailLines" in query else [text]
            if since := query.get("sinceTime"):
                # Of lines that begin with their time, as with timestamps=true.
                last = [one for one in text.splitlines(keepends=True) if one[: len(since) - 1] >= since[:-1]]
            sent = "".join(last).encode("utf-8", "surrogateescape")
            return self._send_bytes(200, sent[: int(query.get("limitBytes", len(sent)))], "text/plain")
        self._begin_stream("text/plain")
        sent = 0
        while True:
            self.wfile.write(text[sent:].encode())
            self.wfile.flush()
            sent = len(text)
            if ended:
                return None
            with self.api.changed:
                self.api.changed.wait(0.1)
            text, ended = self.api.log_of(target.namespace, target.name, gone=(text, True))

    def _scripted_log(self, lines: list[str | None]) -> None:
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

    def _begin_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

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
        self._send_bytes(code, json.dumps(document).encode(), "application/json", headers)

    def _send_bytes(self, code: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
