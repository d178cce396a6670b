"""A scripted Elasticsearch: POST /INDEX/_search over lines that a test puts there, answered as its reference says, and every way to answer badly."""

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

Document = dict[str, Any]


class ElasticsearchApi:
    """What lines there are (`lines`: documents), what it was asked, and how it fails. `level`: which levels count as errors to its query strings."""

    def __init__(self) -> None:
        self.lines: list[Document] = []
        self.extra: Document = {}
        self.always: tuple[int, str, dict[str, str]] | None = None
        self.slow_seconds = 0.0
        self.drip = False
        self.asked: list[tuple[str, Document, dict[str, str]]] = []
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()

    def log(
        self, at: datetime, message: str, *, level: str | int | None = "error", pod: str = "api-7f5d9c-aaaaa"
    ) -> None:
        """Have a line there, as Filebeat ships it."""
        document: Document = {"@timestamp": at.isoformat().replace("+00:00", "Z"), "message": message}
        document["kubernetes"] = {"pod": {"name": pod}}
        if level is not None:
            document["log"] = {"level": level}
        self.lines.append(document)

    def answer(self, body: Document) -> Document:
        """The answer to a search, with the fields that the reference names."""
        found = [one for one in self.lines if _fits(one, body["query"])]
        post = body.get("post_filter")
        hits = sorted((one for one in found if post is None or _fits(one, post)), key=_at, reverse=True)
        shown = [{"_index": "logs-1", "_id": str(number), "_source": one} for number, one in enumerate(hits)]
        answer: Document = {
            "took": 3,
            "timed_out": False,
            "_shards": {"total": 2, "successful": 2, "skipped": 0, "failed": 0},
            "hits": {"max_score": None, "hits": shown[: body.get("size", 10)]},
        }
        if "aggs" in body:
            answer["aggregations"] = {name: _aggregated(found, one) for name, one in body["aggs"].items()}
        return answer


def _at(line: Document) -> datetime:
    return datetime.fromisoformat(line["@timestamp"])


def _value(line: Document, field: str) -> Any:
    for part in field.removesuffix(".keyword").split("."):
        line = line.get(part) if isinstance(line, dict) else None  # type: ignore[assignment]
    return line


def _fits(line: Document, query: Document) -> bool:
    (kind, inner), *_ = query.items()
    match kind:
        case "bool":
            return all(_fits(line, one) for one in inner["filter"])
        case "range":
            ((_, bounds),) = inner.items()
            return datetime.fromisoformat(bounds["gte"]) <= _at(line) < datetime.fromisoformat(bounds["lt"])
        case "regexp":
            ((field, pattern),) = inner.items()
            return re.fullmatch(pattern["value"], str(_value(line, field))) is not None
        case "exists":
            return _value(line, inner["field"]) is not None
        case _:
            return _fits_query_string(line, inner["query"])


def _fits_query_string(line: Document, text: str) -> bool:
    """`FIELD:(WORD OR WORD …)` and `FIELD:"WORDS"`."""
    field, _, wanted = text.partition(":")
    return str(_value(line, field.replace("\\", ""))) in set(wanted.strip('()"').split(" OR "))


def _aggregated(lines: list[Document], aggregation: Document) -> Document:
    if "cardinality" in aggregation:
        return {"value": len({_value(one, aggregation["cardinality"]["field"]) for one in lines})}
    if "filter" in aggregation:
        return {"doc_count": sum(_fits(one, aggregation["filter"]) for one in lines)}
    buckets = []
    for one in aggregation["date_range"]["ranges"]:
        begin, end = datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["to"])
        inside = [line for line in lines if begin <= _at(line) < end]
        inner = {name: _aggregated(inside, more) for name, more in aggregation.get("aggs", {}).items()}
        times = {"from": begin.timestamp() * 1000, "from_as_string": one["from"], "to": end.timestamp() * 1000}
        buckets.append({"key": one["key"], **times, "to_as_string": one["to"], "doc_count": len(inside), **inner})
    return {"buckets": sorted(buckets, key=lambda one: one["from"])}


class _Handler(BaseHTTPRequestHandler):
    api: ElasticsearchApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.api.asked.append((self.path, body, headers))
        time.sleep(self.api.slow_seconds)
        if self.api.always is not None:
            code, text, more = self.api.always
            self._send(code, text, more)
            return
        assert parse_qs(urlsplit(self.path).query)["allow_partial_search_results"] == ["false"]
        self._send(200, json.dumps({**self.api.answer(body), **self.api.extra}), {})

    def _send(self, code: int, text: str, more: dict[str, str]) -> None:
        raw = text.encode("utf-8", "surrogateescape")
        self.send_response_only(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        step = 1 if self.api.drip else len(raw) or 1
        try:
            for begin in range(0, len(raw), step):
                self.wfile.write(raw[begin : begin + step])
                time.sleep(0.05 if self.api.drip else 0)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        pass


def refusal(status: int, kind: str, reason: str) -> tuple[int, str, dict[str, str]]:
    """An error as Elasticsearch tells it."""
    cause = {"type": kind, "reason": reason}
    return status, json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}), {}


@pytest.fixture
def elasticsearch_api() -> Iterator[ElasticsearchApi]:
    """A scripted Elasticsearch on loopback, for one test."""
    api = ElasticsearchApi()
    yield api
    api.close()
