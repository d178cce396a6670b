"""Requests to a web API that is not Kubernetes' and not AWS': registries, GitHub, Prometheus, Alertmanager, Grafana, a page.

What is read (GET) is asked for again when the server was away. What is written (`post`) is sent once: whether it came through, the caller looks up.
"""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from core.errors import NightshiftError, PermanentError, TemporaryError
from tasks.bounded_call import call_within

ATTEMPTS = 3
CONNECT_SECONDS, READ_SECONDS = 10, 20
# An answer that comes drop by drop.
LONGEST_ANSWER_SECONDS = 60
# Past a client's patience: the errors of a time-out say more than that it passed.
_GRACE_SECONDS = 0.5
# Who asks for a longer pause gets none: the step fails, and says for how long.
LONGEST_RETRY_AFTER = 30.0
# The rules and targets of a large Prometheus are some MiB; past this it is no answer to our question.
LARGEST_ANSWER_BYTES = 32 * 1024 * 1024

_backoff = wait_exponential_jitter(multiplier=0.5, max=5, jitter=0.5)
Parameters = Mapping[str, str | int | list[str]]


@dataclass(frozen=True)
class Limits:
    """How patient a client is. Seconds, and bytes of an answer.

    `patience_seconds`: for all attempts of a request together; None: as long as they take.
    """

    attempts: int
    connect_seconds: float
    read_seconds: float
    answer_seconds: float
    answer_bytes: int
    patience_seconds: float | None = None


# For what is looked at every few minutes beside other things: the next look is the next attempt.
QUICK = Limits(
    attempts=2,
    connect_seconds=1,
    read_seconds=1.5,
    answer_seconds=2,
    answer_bytes=8 * 1024 * 1024,
    patience_seconds=2.5,
)


class BusyError(TemporaryError):
    """The server did not do it, and may have said when to come back (seconds)."""

    retry_after: float = 0.0


class Answer:
    """An answer that was read to its end."""

    def __init__(self, response: httpx.Response, body: bytes) -> None:
        self.status, self.headers, self.body = response.status_code, response.headers, body

    @property
    def media_type(self) -> str:
        """Its Content-Type without parameters."""
        return str(self.headers.get("Content-Type", "")).partition(";")[0].strip().lower()

    def told(self) -> str:
        """The first words of its body, for a message."""
        return " ".join(self.body[:2000].decode("utf-8", "replace").split())[:200]


class WebApi:
    """Requests to one server, within one task. `next_steps` says by status what an operator can do; `what` is how messages call the server.

    `verify` is what certifies an https address, `limits` how patient the client is: a minute for each of three attempts, where nothing else is said.
    """

    def __init__(
        self,
        address: str,
        *,
        what: str,
        headers: Mapping[str, str] | None = None,
        next_steps: Mapping[int, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address, self.what = address.rstrip("/"), what
        self._next_steps, self._sleep = next_steps or {}, sleep
        self._limits = limits or Limits(
            ATTEMPTS, CONNECT_SECONDS, READ_SECONDS, LONGEST_ANSWER_SECONDS, LARGEST_ANSWER_BYTES
        )
        self._http = httpx.Client(
            headers={"User-Agent": "nightshift", **(headers or {})}, verify=verify, follow_redirects=False
        )

    def __enter__(self) -> "WebApi":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(
        self,
        path: str,
        parameters: Parameters | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        accepted: frozenset[int] = frozenset(),
    ) -> Answer:
        """Read a path of the server (or a whole address). An answer of 2xx or of an `accepted` status is returned.

        Raise TemporaryError when the server stays away, is busy (429: after its Retry-After, up to 30 s) or broken, PermanentError for any other answer.
        """
        url = path if path.startswith(("https://", "http://")) else f"{self.address}{path}"
        ends = self._deadline()
        retrying = Retrying(
            retry=retry_if_exception(_worth_another_try),
            # An attempt that patience does not reach is none: who was told to come back later has the answer now.
            stop=lambda state: (
                state.attempt_number >= self._limits.attempts or time.monotonic() + state.upcoming_sleep >= ends
            ),
            wait=_pause,
            sleep=self._sleep,
            reraise=True,
        )
        request = self._request("GET", url, params=parameters or None, headers=headers)
        return self._patiently(request, lambda: retrying(self._once, request, accepted, ends))

    def post(self, path: str, document: Any, *, headers: Mapping[str, str] | None = None) -> Any:
        """Send a JSON document, once, and return the JSON of the answer. Raise as `get`; after a TemporaryError it may have been done all the same."""
        return self._parsed(path, self.send(path, document, headers=headers))

    def send(
        self,
        path: str,
        document: Any,
        parameters: Parameters | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        accepted: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send a JSON document, once, and return the answer, whatever it is. Raise as `post`."""
        request = self._request(
            "POST", f"{self.address}{path}", params=parameters or None, json=document, headers=headers
        )
        return self._patiently(request, lambda: self._once(request, accepted, self._deadline()))

    def json(self, path: str, parameters: Parameters | None = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """Read a path as JSON. Raise PermanentError when the answer is something else, a sign-in page say."""
        return self._parsed(path, self.get(path, parameters, headers=headers))

    def _parsed(self, path: str, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            found = f"the answer is no JSON but {answer.media_type or 'of no type'}: {answer.told()}"
            raise PermanentError(
                f"ask {self.what}", _shown(f"{self.address}{path}"), found, f"Look at the address of {self.what}"
            ) from error

    def _patiently(self, request: httpx.Request, call: Callable[[], Answer]) -> Answer:
        """What httpx has no bound for: a name server that does not answer, headers that come letter by letter."""
        seconds = self._limits.patience_seconds
        if seconds is None:
            return call()
        try:
            return call_within(seconds + _GRACE_SECONDS, call)
        except TimeoutError as error:
            found = f"it did not answer within {seconds:g} s"
            raise TemporaryError(f"ask {self.what}", _shown(str(request.url)), found, "Check its health") from error

    def _deadline(self) -> float:
        seconds = self._limits.patience_seconds
        return float("inf") if seconds is None else time.monotonic() + seconds

    def _request(self, method: str, url: str, **content: Any) -> httpx.Request:
        try:
            return self._http.build_request(method, url, **content)
        except httpx.InvalidURL as error:
            raise PermanentError(
                f"ask {self.what}", _shown(url), f"the address is not valid: {error}", "Correct it"
            ) from error

    def _once(self, request: httpx.Request, accepted: frozenset[int], ends: float) -> Answer:
        attempted, on = f"ask {self.what}", _shown(str(request.url))
        limits, begun = self._limits, time.monotonic()
        left = max(0.01, ends - begun)
        seconds = httpx.Timeout(min(limits.read_seconds, left), connect=min(limits.connect_seconds, left))
        request.extensions["timeout"] = seconds.as_dict()
        longest = min(limits.answer_seconds, left)
        try:
            response = self._http.send(request, stream=True)
            try:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > begun + longest:
                        raise TemporaryError(attempted, on, f"the answer did not end within {longest:.0f} s")
                    if len(body) > limits.answer_bytes:
                        found = f"the answer is larger than {limits.answer_bytes // 1024**2} MiB"
                        raise PermanentError(attempted, on, found, "Look at the address")
            finally:
                response.close()
        except (httpx.HTTPError, httpx.StreamError) as error:
            found = f"no answer: {type(error).__name__} {error}".rstrip()
            raise TemporaryError(attempted, on, found, "Check that the worker reaches it, and its health") from error
        answer = Answer(response, bytes(body))
        if response.is_success or answer.status in accepted:
            return answer
        raise self._error(answer, attempted, on)

    def _error(self, answer: Answer, attempted: str, on: str) -> NightshiftError:
        found = f"it answered {answer.status}: {answer.told()}".rstrip(": ")
        next_step = self._next_steps.get(answer.status, "")
        wait = _retry_after(answer)
        if answer.status == httpx.codes.TOO_MANY_REQUESTS:
            found += f"; it asks to wait {wait:.0f} s" if wait else ""
        if answer.status in {408, 429} or answer.status >= httpx.codes.INTERNAL_SERVER_ERROR:
            busy = BusyError(attempted, on, found, next_step or "Try again later")
            busy.retry_after = wait
            return busy
        return PermanentError(attempted, on, found, next_step or f"Look at the address of {self.what}")


def _retry_after(answer: Answer) -> float:
    """Seconds; the form that is a date counts as none (RFC 9110, "Retry-After")."""
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0


def _worth_another_try(error: BaseException) -> bool:
    long = isinstance(error, BusyError) and error.retry_after > LONGEST_RETRY_AFTER
    return isinstance(error, TemporaryError) and not long


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return (error.retry_after if isinstance(error, BusyError) else 0.0) or _backoff(state)


def _shown(url: str) -> str:
    """An address without query: tokens may stand there."""
    return url.partition("?")[0]
