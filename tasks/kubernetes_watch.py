"""Waiting for one object to become what is hoped for, by list and watch as the Kubernetes API concepts describe it ("Efficient detection of changes")."""

import time
from collections.abc import Callable
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, wait_random

from core.errors import TemporaryError
from core.fence import Document
from tasks.kubernetes_client import KubernetesClient

# The API server ends a watch after so long, and we begin the next one with a list: what was missed for any reason is seen then.
WATCH_SECONDS = 60.0
# Between two rounds, so that an API server that ends each watch at once is not flooded.
_PAUSE = wait_random(0.2, 1.0)

Finished = Callable[[Document | None], bool]


class NotInTimeError(Exception):
    """The object did not become what was hoped for. `last`: as it was last seen (None: it is not there); `error`: why it could not be seen at the end, if so."""

    def __init__(self, last: Document | None, error: str) -> None:
        super().__init__("not in time")
        self.last, self.error = last, error


def wait_for_object(
    client: KubernetesClient,
    collection: str,
    name: str,
    finished: Finished,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Document | None:
    """Given a collection's path, a name and a predicate, return the object once the predicate holds of it (of None: it does not exist).

    An API server that is away, a watch that breaks and a resource version that is too old (410) are waited out by listing again. A mistake that does
    not mend itself (403, 404 of the kind, credentials refused twice) is raised at once. Raise NotInTimeError after so many seconds.
    """
    deadline = clock() + seconds
    seen: list[Document | None] = [None]
    chosen = {"fieldSelector": f"metadata.name={name}"}

    def look(document: Document | None) -> bool:
        seen[0] = document
        return finished(document)

    def one_round() -> bool:
        listed = client.get(collection, **chosen)
        items = listed.get("items") or []
        if look(_with_kind(items[0], listed) if items else None):
            return True
        left = min(WATCH_SECONDS, deadline - clock())
        version = str((listed.get("metadata") or {}).get("resourceVersion") or "")
        changes = client.watch(collection, version, seconds=left, **chosen) if left > 0 else iter(())
        return any(look(None if document.pop("deleted", False) else document) for document in changes)

    def too_late(_state: RetryCallState) -> bool:
        return clock() >= deadline

    def give_up(state: RetryCallState) -> Any:
        error = state.outcome.exception() if state.outcome else None
        raise NotInTimeError(seen[0], str(error or "")) from error

    retrying = Retrying(
        retry=retry_if_exception_type(TemporaryError) | retry_if_result(lambda done: not done),
        stop=too_late,
        wait=_PAUSE,
        sleep=sleep,
        retry_error_callback=give_up,
    )
    retrying(one_round)
    return seen[0]


def _with_kind(item: Document, listed: Document) -> Document:
    """An item of a list as it stands by itself: in lists of built-in kinds, items come without their kind."""
    return {"apiVersion": listed.get("apiVersion"), "kind": str(listed.get("kind", "")).removesuffix("List"), **item}
