"""Searching Elasticsearch, or OpenSearch: one POST /INDEX/_search at a time, within a time of its own, its answer whole or none.

Whatever the other side answers, what comes out is a checked answer (core.log_search) or one of our errors, in a sentence. Nothing is tried again here: a watch
looks again in five minutes anyhow.
"""

import base64
import json
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from core.environment_watch_logs import WatchLogs
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.log_lines import cut_to_bytes, value_at
from core.log_search import PARTIAL_PARAMETERS, Document, PartialError, UnusableError, checked
from core.redaction import register_secret
from tasks.secrets import resolve

CONNECT_SECONDS = 2.0
# 10,000 lines of a KiB and a half.
LARGEST_ANSWER = 16 * 1024 * 1024
_ATTEMPTED = "search the logs"
_NEXT_STEPS: dict[int, tuple[type[NightshiftError], str]] = {
    400: (PermanentError, "Look at the fields' names, query and errors in [watch.logs]"),
    401: (
        ConfigurationError,
        "The sign-in is not accepted: look at api_key, or username and password, in [watch.logs]",
    ),
    403: (PermanentError, "Give the sign-in the privilege read on the index"),
    404: (PermanentError, "Look at index in [watch.logs], and at the address"),
    408: (TemporaryError, "Look at its health"),
    429: (TemporaryError, "It has too much to do; look at its health"),
}


class ElasticsearchClient:
    """Searches of one server. Use it as a context manager, within one task."""

    def __init__(self, logs: WatchLogs) -> None:
        if logs.address is None:
            raise ConfigurationError(_ATTEMPTED, "watch.logs.address", "it is empty", "Give its address")
        self._logs, self._address = logs, logs.address
        self._http = httpx.Client(
            headers={"User-Agent": "nightshift", **_sign_in(logs)}, verify=_trust(logs), follow_redirects=False
        )

    def __enter__(self) -> "ElasticsearchClient":
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def search(self, body: Document, *, seconds: float) -> Document:
        """Given a search's body, return its answer, which is from all of the data. It takes so many seconds at most.

        Raise TemporaryError when the server is away, slow, busy, or answers from a part of the data; PermanentError for anything that stays so.
        """
        ends = time.monotonic() + seconds
        try:
            with self._http.stream(
                "POST",
                f"{self._address}/{quote(self._logs.index, safe='*,')}/_search",
                params=PARTIAL_PARAMETERS,
                json=body,
                timeout=httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            ) as response:
                text = self._whole(response, ends)
        except httpx.InvalidURL as error:
            raise PermanentError(_ATTEMPTED, self._on, f"the address is not valid: {error}", "Correct it") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            found = f"no answer: {type(error).__name__} {error}".rstrip()
            raise TemporaryError(
                _ATTEMPTED, self._on, found, "Check that the worker reaches it, and its health"
            ) from error
        answer = _json(text)
        if not response.is_success:
            raise self._refused(response.status_code, answer, text)
        try:
            return checked(answer)
        except PartialError as error:
            raise TemporaryError(_ATTEMPTED, self._on, str(error), "Look at its health") from error
        except UnusableError as error:
            raise self.unusable(error) from error

    def unusable(self, error: UnusableError) -> PermanentError:
        """The error of an answer that is of no use."""
        found = f"its answer is of no use: {error}"
        return PermanentError(
            _ATTEMPTED, self._on, found, "Look at address, index and the fields' names in [watch.logs]"
        )

    @property
    def _on(self) -> str:
        return f"{self._logs.index} at {self._address}"

    def _whole(self, response: httpx.Response, ends: float) -> bytes:
        text = bytearray()
        for part in response.iter_bytes():
            text += part
            if len(text) > LARGEST_ANSWER:
                found = f"the answer is larger than {LARGEST_ANSWER // 1024**2} MiB"
                raise PermanentError(_ATTEMPTED, self._on, found, "Choose fewer lines in [watch.logs]")
            if time.monotonic() > ends:
                raise TemporaryError(_ATTEMPTED, self._on, "the answer did not end in time", "Look at its health")
        return bytes(text)

    def _refused(self, status: int, answer: Any, text: bytes) -> NightshiftError:
        kind, next_step = _NEXT_STEPS.get(status, (PermanentError, "Look at the address in [watch.logs]"))
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            kind, next_step = TemporaryError, "Look at its health"
        return kind(_ATTEMPTED, self._on, f"it answered {status}: {_reason(answer, text)}".rstrip(": "), next_step)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _reason(answer: Any, text: bytes) -> str:
    """The server's own words, briefly: of the first cause, else of the error, else what came."""
    error = value_at(answer, "error")
    causes = value_at(error, "root_cause")
    first = causes[0] if isinstance(causes, list) and causes else error
    told = [value_at(first, key) for key in ("type", "reason")]
    words = ": ".join(one for one in told if isinstance(one, str)) or (error if isinstance(error, str) else "")
    return cut_to_bytes(" ".join((words or text[:500].decode("utf-8", "replace")).split()), 200)


def _sign_in(logs: WatchLogs) -> dict[str, str]:
    if logs.api_key is not None:
        key = resolve(logs.api_key).get_secret_value().strip()
        if not key.isascii() or not key.isprintable():
            found, next_step = "the secret is no API key: it has line breaks or the like", "Put the encoded key there"
            raise ConfigurationError("sign in to Elasticsearch", "watch.logs.api_key", found, next_step)
        return {"Authorization": f"ApiKey {key}"}
    if logs.username is None or logs.password is None:
        return {}
    user, password = (resolve(one).get_secret_value() for one in (logs.username, logs.password))
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    register_secret(encoded)
    return {"Authorization": f"Basic {encoded}"}


def _trust(logs: WatchLogs) -> ssl.SSLContext | bool:
    if logs.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=Path(logs.ca_file).expanduser())
    except (OSError, ssl.SSLError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ConfigurationError(
            "load a CA file", f"watch.logs.ca_file = {logs.ca_file}", found, "Give the path of a PEM file on the worker"
        ) from error
