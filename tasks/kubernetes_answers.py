"""What the Kubernetes API answers when it does not do what was asked, and our error for it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.fence import Document

LONGEST_RETRY_AFTER = 60
REACH = "Check that the worker reaches the API server, and the cluster's health"
ATTEMPTED = {"GET": "read", "POST": "create", "PATCH": "change", "DELETE": "delete"}


class MissingError(PermanentError):
    """404: there is no such object, or no such kind."""


class ExistsError(PermanentError):
    """409: an object of this name exists, or it changed since it was read."""


class ForbiddenError(PermanentError):
    """403: our role may not do this."""


class GoneError(TemporaryError):
    """410: the resource version is too old to watch from; list again."""


class BusyError(TemporaryError):
    """429 or 503 with Retry-After: the API server did not take the request, and says when to come back (seconds)."""

    retry_after: float = 0.0


_MISTAKES: dict[int, tuple[type[NightshiftError], str]] = {
    401: (ConfigurationError, "The credentials of the kubeconfig are not accepted; renew them"),
    403: (
        ForbiddenError,
        "Give the worker's account this right, see deployments/kubernetes/rbac.yaml, drill-pods.yaml and docs/app-state.md",
    ),
    404: (MissingError, ""),
    409: (ExistsError, ""),
    410: (GoneError, ""),
}


def error_of(response: httpx.Response, method: str, on: str) -> NightshiftError:
    """Given a bad answer, return our error: the API server's own message, and what to do."""
    status, attempted = response.status_code, ATTEMPTED[method]
    found = f"{status}: {_message_of(response)}"
    retry_after = _retry_after(response)
    if status == httpx.codes.TOO_MANY_REQUESTS or (status == httpx.codes.SERVICE_UNAVAILABLE and retry_after):
        busy = BusyError(attempted, on, found, REACH)
        busy.retry_after = retry_after
        return busy
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.REQUEST_TIMEOUT:
        return TemporaryError(attempted, on, found, REACH)
    kind, next_step = _MISTAKES.get(status, (PermanentError, ""))
    return kind(attempted, on, found, next_step)


def changed_objects(event: Document, on: str) -> Iterator[Document]:
    """Given a line of a watch, return the object that it tells of, if any. Raise GoneError when the version watched from is too old, TemporaryError for another end."""
    kind, document = event.get("type"), event.get("object") or {}
    if kind == "ERROR":
        if document.get("code") == httpx.codes.GONE:
            raise GoneError("watch", on, "the resource version is too old")
        raise TemporaryError("watch", on, str(document.get("message") or "the API server ended it with an error"))
    if kind in {"ADDED", "MODIFIED"}:
        yield document
    elif kind == "DELETED":
        yield {**document, "deleted": True}


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("Retry-After", "0")), LONGEST_RETRY_AFTER)
    except ValueError:
        return 0.0


def _message_of(response: httpx.Response) -> str:
    try:
        message = response.json().get("message")
    except (ValueError, AttributeError, RecursionError):
        message = None
    return str(message or response.text[:200] or response.reason_phrase)


def told(error: Exception) -> str:
    """An error of the connection in a few words."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
