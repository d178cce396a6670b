"""A client of Prometheus' HTTP API (prometheus.io, "HTTP API"), and of what speaks like it (Thanos, Mimir, VictoriaMetrics): reads only.

What is asked goes by POST, so that long selectors fit. An answer is taken whole or not at all: one with warnings (a store did not answer) or marked as partial is
an error, one that is too large too, and one whose time is not the time that was asked for (a cache before Prometheus). A client never waits longer in all than its
`patience`: who asks has a decision to make, and "Prometheus did not answer" is one.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    wait_random_exponential,
)

from core.counters import Sample, Series
from core.environment_gates import Gates
from core.errors import ConfigurationError, PermanentError, TemporaryError
from tasks.prometheus_access import sign_in, trust
from tasks.prometheus_answers import (
    REACH,
    BusyError,
    Rule,
    error_of,
    message_of,
    rule_of,
    sample_of,
    series_of,
)

ATTEMPTS = 3
CONNECT_SECONDS, REQUEST_SECONDS, PATIENCE_SECONDS = 5.0, 30.0, 60.0
# About 700,000 samples, which take some hundred MB once parsed.
LARGEST_ANSWER = 16 * 1024 * 1024
# An instant query's samples carry the time that was asked for, to the millisecond.
_SAME_TIME_SECONDS = 1.0
# Remarks on the query itself, of Prometheus since 2.48: the data are whole.
_REMARK = "PromQL info"
_backoff = wait_random_exponential(multiplier=0.3, max=3)
Form = Mapping[str, str]
T = TypeVar("T")


class PartialAnswerError(TemporaryError):
    """Prometheus, or what stands before several, answered with a part of the data."""


class PrometheusClient:
    """Queries to one Prometheus. Use it as a context manager, within one task."""

    def __init__(
        self,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address.rstrip("/")
        self._clock, self._sleep, self._deadline = clock, sleep, clock() + patience
        self._apart: float | None = None
        self._http = httpx.Client(
            verify=verify, headers={"User-Agent": "nightshift", **(headers or {})}, follow_redirects=False
        )

    @property
    def clock_apart(self) -> float | None:
        """How many seconds the clock of who answered last goes before ours (RFC 9110, "Date"); None when it did not tell."""
        return self._apart

    @classmethod
    def open(cls, gates: Gates, *, patience: float = PATIENCE_SECONDS) -> PrometheusClient:
        """Given the table [release.gates], return a client. No request is made. Raise ConfigurationError when there is no address, secret or CA file."""
        if gates.prometheus_url is None:
            raise ConfigurationError(
                "ask Prometheus", "release.gates.prometheus_url", "it is empty", "Give its address"
            )
        return cls(gates.prometheus_url, headers=sign_in(gates), verify=trust(gates), patience=patience)

    def __enter__(self) -> PrometheusClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def query(self, promql: str, at: float) -> tuple[Sample, ...]:
        """Given an instant query and a time (seconds since the epoch), return its samples; none is (), which is not 0. Values may be NaN or infinite.

        Raise TemporaryError when Prometheus is away, PartialAnswerError for a part, PermanentError with its own message for a bad query.
        """
        kind, result = self._asked("query", {"query": promql, "time": _time(at)}, promql)
        if kind == "scalar":
            result = [{"metric": {}, "value": result}]
        elif kind != "vector":
            raise self._wrong(promql, f"a {kind}, not a vector")
        samples = self._read(promql, lambda: tuple(sample_of(one) for one in result))
        for one in samples:
            if abs(one.at - at) > _SAME_TIME_SECONDS:
                found = f"the answer is of another time, {one.at - at:+.0f} s from the one asked for"
                raise TemporaryError("query Prometheus", self._on(promql), found, "Look for a cache before Prometheus")
        return samples

    def samples(self, selector: str, *, seconds: int, at: float) -> tuple[Series, ...]:
        """Given a selector, return its series with the samples themselves, as they were scraped, of so many seconds before a time."""
        promql = f"{selector}[{seconds}s]"
        kind, result = self._asked("query", {"query": promql, "time": _time(at)}, promql)
        if kind != "matrix":
            raise self._wrong(promql, f"a {kind}, not a matrix")
        return self._series(promql, result, at - seconds, at)

    def query_range(self, promql: str, *, start: float, end: float, step: int) -> tuple[Series, ...]:
        """Given a query, return its value every `step` seconds from start to end (at most 11,000 of them, Prometheus' own bound)."""
        form = {"query": promql, "start": _time(start), "end": _time(end), "step": str(step)}
        kind, result = self._asked("query_range", form, promql)
        if kind != "matrix":
            raise self._wrong(promql, f"a {kind}, not a matrix")
        return self._series(promql, result, start, end)

    def rules(self) -> tuple[Rule, ...]:
        """The recording and alerting rules that are loaded."""
        data = self._patiently("GET", "/api/v1/rules", {}, "rules")
        groups = data.get("groups") if isinstance(data, dict) else None
        if not isinstance(groups, list):
            raise self._wrong("rules", "no groups of rules")
        return self._read("rules", lambda: tuple(rule_of(group, one) for group in groups for one in group["rules"]))

    def retention(self) -> str | None:
        """How long it keeps what it has, in its own words (`15d`, `5w or 512MB`); None where it does not say: only Prometheus itself has this page."""
        try:
            data = self._patiently("GET", "/api/v1/status/runtimeinfo", {}, "how long it keeps data")
        except (ConfigurationError, PermanentError):
            return None
        told = data.get("storageRetention") if isinstance(data, dict) else None
        return told if isinstance(told, str) and told else None

    def ready(self) -> None:
        """Return when Prometheus serves queries. Raise TemporaryError when it does not yet. What has no /-/ready is asked for a number."""
        try:
            self._patiently("GET", "/-/ready", {}, "readiness", parsed=False)
        except ConfigurationError:
            if self.query("vector(1)", time.time()) == ():
                raise self._wrong("vector(1)", "nothing") from None

    def _series(self, promql: str, result: Any, start: float, end: float) -> tuple[Series, ...]:
        series = self._read(promql, lambda: tuple(series_of(one) for one in result))
        bounds = (start - _SAME_TIME_SECONDS, end + _SAME_TIME_SECONDS)
        if any(not bounds[0] <= time <= bounds[1] for one in series for time, _ in one.points):
            found = "samples of another time than the one asked for"
            raise TemporaryError("query Prometheus", self._on(promql), found, "Look for a cache before Prometheus")
        return series

    def _asked(self, endpoint: str, form: Form, promql: str) -> tuple[str, Any]:
        data = self._patiently("POST", f"/api/v1/{endpoint}", form, promql)
        if not isinstance(data, dict) or "result" not in data:
            raise self._wrong(promql, "no result")
        kind, result = str(data.get("resultType")), data["result"]
        if not isinstance(result, list):
            raise self._wrong(promql, "no list of results")
        return kind, result

    def _patiently(self, method: str, path: str, form: Form, about: str, *, parsed: bool = True) -> Any:
        retrying = Retrying(
            retry=retry_if_exception_type(TemporaryError),
            stop=lambda state: state.attempt_number >= ATTEMPTS or self._left() <= 0,
            wait=_pause,
            sleep=lambda seconds: self._sleep(min(seconds, max(0.0, self._left()))),
            reraise=True,
        )
        return retrying(self._once, method, path, form, about, parsed)

    def _once(self, method: str, path: str, form: Form, about: str, parsed: bool) -> Any:
        seconds = min(REQUEST_SECONDS, self._left())
        if seconds <= 0:
            raise TemporaryError("query Prometheus", self._on(about), "it did not answer in time", REACH)
        limits = {"timeout": f"{seconds:.0f}s"} if method == "POST" and seconds >= 1 else {}
        ends = self._clock() + seconds
        try:
            with self._http.stream(
                method,
                self.address + path,
                data={**form, **limits} if method == "POST" else None,
                timeout=httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            ) as response:
                self._apart = _apart(response)
                text = self._whole(response, about, ends)
        except (httpx.RequestError, httpx.StreamError) as error:
            found = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise TemporaryError("query Prometheus", self._on(about), found, REACH) from error
        if not response.is_success:
            raise error_of(response, text, self._on(about))
        return self._data(text, about) if parsed else None

    def _whole(self, response: httpx.Response, about: str, ends: float) -> bytes:
        parts, size = [], 0
        for part in response.iter_bytes():
            size += len(part)
            if size > LARGEST_ANSWER:
                found = f"the answer is larger than {LARGEST_ANSWER // 1024**2} MiB"
                raise PermanentError(
                    "query Prometheus", self._on(about), found, "Choose fewer series or a shorter window"
                )
            if self._clock() > ends:
                raise TemporaryError("query Prometheus", self._on(about), "the answer did not end in time", REACH)
            parts.append(part)
        return b"".join(parts)

    def _data(self, text: bytes, about: str) -> Any:
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as error:
            found = "the answer is no JSON"
            raise TemporaryError(
                "query Prometheus", self._on(about), found, "Is the address Prometheus' own?"
            ) from error
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise self._wrong(about, f"no success: {message_of(text)}")
        warnings = [str(one) for one in answer.get("warnings") or () if not str(one).startswith(_REMARK)]
        if warnings or answer.get("isPartial") is True:
            found = f"only a part of the data: {'; '.join(warnings)[:300] or 'isPartial'}"
            raise PartialAnswerError("query Prometheus", self._on(about), found, "Look at the stores behind it")
        return answer.get("data")

    def _read(self, about: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self._wrong(about, f"a result of an unknown form ({type(error).__name__})") from error

    def _wrong(self, about: str, found: str) -> PermanentError:
        return PermanentError("query Prometheus", self._on(about), f"it answered {found}", "Look at the query")

    def _on(self, about: str) -> str:
        return f"{about[:200]} at {self.address}"

    def _left(self) -> float:
        return self._deadline - self._clock()


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, BusyError) else 0.0
    return asked or _backoff(state)


def _apart(response: httpx.Response) -> float | None:
    try:
        return parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()
    except (KeyError, ValueError):
        return None


def _time(at: float) -> str:
    return f"{at:.3f}"
