"""What Prometheus' answers hold: samples, series, rules, and its errors.

The errors' codes are those of its web/api/v1/api.go: 400 bad_data, 422 execution, 499 canceled, 500 internal, 503 timeout or unavailable.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from core.counters import Sample, Series
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError

REACH = "Check that the worker reaches Prometheus, and its health"
_LONGEST_RETRY_AFTER = 10.0


@dataclass(frozen=True)
class Rule:
    """A rule as Prometheus has loaded it.

    `kind`: alerting or recording. `health`: ok, err or unknown; `error`: its last one. `state`: of an alerting rule firing, pending or inactive.
    """

    group: str
    name: str
    kind: str
    health: str
    error: str
    state: str


class BusyError(TemporaryError):
    """429 or 503 with Retry-After: ask again after so many seconds."""

    retry_after: float = 0.0


def sample_of(one: Mapping[str, Any]) -> Sample:
    """A sample of a vector: {"metric": {…}, "value": [time, "text"]}. The text may be NaN, +Inf or -Inf."""
    at, value = one["value"]
    return Sample(_labels(one), float(at), _number(value))


def series_of(one: Mapping[str, Any]) -> Series:
    """A series of a matrix: {"metric": {…}, "values": [[time, "text"], …]}. Native histograms ("histograms") are not counters: KeyError."""
    return Series(_labels(one), tuple((float(at), _number(value)) for at, value in one["values"]))


def rule_of(group: Mapping[str, Any], one: Mapping[str, Any]) -> Rule:
    """A rule of a group of /api/v1/rules."""
    return Rule(
        group=str(group["name"]),
        name=str(one["name"]),
        kind=str(one["type"]),
        health=str(one["health"]),
        error=str(one.get("lastError", "")),
        state=str(one.get("state", "")),
    )


def error_of(response: httpx.Response, text: bytes, on: str) -> NightshiftError:
    """Given a bad answer, return our error: Prometheus' own message, and whether asking again may help."""
    status = response.status_code
    found = f"{status}: {message_of(text) or response.reason_phrase}"
    retry_after = _retry_after(response)
    if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE} and retry_after:
        busy = BusyError("query Prometheus", on, found, REACH)
        busy.retry_after = retry_after
        return busy
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in {408, 429, 499}:
        return TemporaryError("query Prometheus", on, found, REACH)
    if status in {401, 403}:
        next_step = "Look at release.gates.prometheus_token or prometheus_username, and at what they may read"
        return ConfigurationError("query Prometheus", on, found, next_step)
    if status == httpx.codes.NOT_FOUND or response.is_redirect:
        return ConfigurationError("query Prometheus", on, found, "Look at release.gates.prometheus_url")
    return PermanentError("query Prometheus", on, found, "Look at the query")


def message_of(text: bytes) -> str:
    """What an answer says in one line: its "error", or how it begins."""
    try:
        message = json.loads(text)["error"]
    except (ValueError, RecursionError, KeyError, TypeError):
        message = text[:200].decode(errors="replace")
    return " ".join(str(message).split())[:300]


def _labels(one: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in one["metric"].items()}


def _number(text: Any) -> float:
    if not isinstance(text, str):
        raise TypeError("a value that is no text")
    return float(text)


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("Retry-After", "0")), _LONGEST_RETRY_AFTER)
    except ValueError:
        return 0.0
