"""What is asked of Elasticsearch (or OpenSearch), and what its answers mean: JSON bodies of POST /INDEX/_search, and nothing that is not closed yet.

As its reference has it ("Search API", "Range query", "Query string query", "Date range aggregation", "Filter aggregation", "Post filter"):
- `timed_out`: true, or `_shards.failed` above 0, marks an answer from a part of the data; the same goes for clusters that were skipped in a search over several.
  Such an answer is not used. `allow_partial_search_results=false` asks for an error in its place, which older servers do not all give.
- `_shards.total` 0: no index is of that name; a wildcard that fits none is otherwise an answer with nothing in it.
- a date range's `from` is part of it, its `to` is not. Times go in UTC.
- `post_filter` holds for the hits, not for the aggregations: one search counts all lines and reads those that tell an error.
- `lenient` in a query string: a word that is no value of a numeric field fits nothing, in place of an error (levels are words or numbers).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.environment_watch_logs import LEVEL, WatchLogs
from core.log_lines import value_at, with_cause

Document = dict[str, Any]
Span = tuple[datetime, datetime]
Spans = Mapping[int, Span]
PARTIAL_PARAMETERS = {"allow_partial_search_results": "false", "allow_no_indices": "false"}


class UnusableError(ValueError):
    """The answer is of a form that is none; its text says what."""


class PartialError(ValueError):
    """The answer is from a part of the data; its text says of what."""


@dataclass(frozen=True)
class Hit:
    """One error line: when, on which Pod, and its text."""

    at: datetime
    pod: str
    message: str


@dataclass(frozen=True)
class Counted:
    """Of one bucket: all lines, those with a level, and those that tell an error."""

    lines: int
    levelled: int
    errors: int


def counting_search(logs: WatchLogs, pods: str, spans: Spans, *, size: int, seconds: float) -> Document:
    """Given times by number, return a search that counts their lines and errors, and reads the newest errors, so many at most."""
    ranges = [{"key": str(number), "from": _time(begin), "to": _time(end)} for number, (begin, end) in spans.items()]
    counted = {
        "errors": {"filter": _query_string(logs.errors_query)},
        "levelled": {"filter": _exists(logs.level_field)},
    }
    whole = min(begin for begin, _ in spans.values()), max(end for _, end in spans.values())
    return {
        "timeout": f"{max(1, round(seconds * 1000))}ms",
        "size": size,
        "track_total_hits": False,
        "query": _filtered(logs, pods, *whole),
        "post_filter": _query_string(logs.errors_query),
        "sort": [{logs.timestamp_field: {"order": "desc", "unmapped_type": "date"}}],
        "_source": _read_fields(logs),
        "aggs": {
            "spans": {"date_range": {"field": logs.timestamp_field, "ranges": ranges}, "aggs": counted},
            "pods": {"cardinality": {"field": logs.pod_field}},
        },
    }


def reading_search(logs: WatchLogs, pods: str, span: Span, *, size: int, seconds: float) -> Document:
    """Return a search that reads the error lines of a time, at most so many."""
    query = _filtered(logs, pods, *span)
    query["bool"]["filter"].append(_query_string(logs.errors_query))
    return {
        "timeout": f"{max(1, round(seconds * 1000))}ms",
        "size": size,
        "track_total_hits": False,
        "query": query,
        "sort": [{logs.timestamp_field: {"order": "desc", "unmapped_type": "date"}}],
        "_source": _read_fields(logs),
    }


def checked(answer: Any) -> Document:
    """Given an answer, return it when it is one, from all of the data. Raise PartialError or UnusableError."""
    if not isinstance(answer, dict) or not isinstance(answer.get("timed_out"), bool):
        raise UnusableError("no answer of a search")
    shards = _document(answer, "_shards")
    failed, total = _count(shards.get("failed")), _count(shards.get("total"))
    if answer["timed_out"]:
        raise PartialError("the search ran out of time, and its answer is from a part of the lines")
    if failed:
        raise PartialError(f"{failed} of {total} shards failed{_failure(shards)}")
    clusters = answer.get("_clusters")
    if isinstance(clusters, dict) and any(clusters.get(one) for one in ("skipped", "partial", "failed")):
        raise PartialError("other clusters did not answer in whole")
    if not total:
        raise UnusableError("there is no such index")
    return answer


def counts_of(logs: WatchLogs, answer: Document, numbers: Iterable[int]) -> dict[int, Counted]:
    """Given a checked answer to `counting_search`, return what was counted, by number. Raise UnusableError when one is missing.

    And when there are lines, but none has a level to tell an error by: they would all pass as good.
    """
    listed = _document(_document(answer, "aggregations"), "spans").get("buckets")
    if not isinstance(listed, list):
        raise UnusableError("no counts by time")
    by_key = {str(one.get("key")): one for one in listed if isinstance(one, dict)}
    found = {number: _counted(by_key, number) for number in numbers}
    lines = sum(one.lines for one in found.values())
    if LEVEL in logs.errors and lines and not any(one.levelled or one.errors for one in found.values()):
        raise UnusableError(f"none of {lines} lines has a level in the field {logs.level_field}")
    return found


def _counted(by_key: dict[str, Document], number: int) -> Counted:
    one = by_key.get(str(number))
    if one is None:
        raise UnusableError(f"no count of part {number}")
    inner = [_count(_document(one, name).get("doc_count")) for name in ("levelled", "errors")]
    return Counted(_count(one.get("doc_count")), *inner)


def pods_of(answer: Document) -> int:
    """How many Pods wrote lines, about."""
    return _count(_document(_document(answer, "aggregations"), "pods").get("value"))


def hits_of(logs: WatchLogs, answer: Document) -> list[Hit]:
    """Given a checked answer, return its lines. Raise UnusableError when none of them has a text: the field is called otherwise."""
    listed = _document(answer, "hits").get("hits")
    if not isinstance(listed, list):
        raise UnusableError("no list of lines")
    found = [hit for hit in (_hit(logs, one) for one in listed) if hit is not None]
    if listed and not any(hit.message for hit in found):
        raise UnusableError(
            f"none of {len(listed)} lines has a text in the field {logs.message_field} and a time in {logs.timestamp_field}"
        )
    return found


def _hit(logs: WatchLogs, one: Any) -> Hit | None:
    source = one.get("_source") if isinstance(one, dict) else None
    at = _moment(_first(value_at(source, logs.timestamp_field)))
    if at is None:
        return None
    message = _first(value_at(source, logs.message_field))
    pod = _first(value_at(source, logs.pod_field.removesuffix(".keyword")))
    text = message if isinstance(message, str) else ""
    # A line that was shipped as it is holds its cause itself.
    told = text if text.startswith("{") else with_cause(text, source)
    return Hit(at, pod if isinstance(pod, str) else "", told)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _moment(value: Any) -> datetime | None:
    """A time as documents have it: ISO 8601, or milliseconds since 1970."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _filtered(logs: WatchLogs, pods: str, begin: datetime, end: datetime) -> Document:
    filters: list[Document] = [
        {
            "range": {
                logs.timestamp_field: {"gte": _time(begin), "lt": _time(end), "format": "strict_date_optional_time"}
            }
        },
        {"regexp": {logs.pod_field: {"value": pods}}},
    ]
    if logs.query is not None:
        filters.append(_query_string(logs.query))
    return {"bool": {"filter": filters}}


def _query_string(text: str) -> Document:
    return {"query_string": {"query": text, "lenient": True, "analyze_wildcard": False}}


def _exists(field: str) -> Document:
    return {"exists": {"field": field}}


def _read_fields(logs: WatchLogs) -> list[str]:
    pod = logs.pod_field.removesuffix(".keyword")
    return [logs.timestamp_field, logs.message_field, pod, "error.type", "error.message"]


def _failure(shards: Document) -> str:
    failures = shards.get("failures")
    reason = value_at(failures[0], "reason") if isinstance(failures, list) and failures else None
    told = value_at(reason, "reason") if isinstance(reason, dict) else None
    return f" ({told[:200]})" if isinstance(told, str) else ""


def _document(of: Document, key: str) -> Document:
    found = of.get(key)
    if not isinstance(found, dict):
        raise UnusableError(f"an answer without {key}")
    return found


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UnusableError("a count that is none")
    return value


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
