"""A write that carries the version it read, made again when somebody else wrote in between (optimistic concurrency, as Kubernetes' API conventions have it)."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from core.errors import TemporaryError
from tasks.kubernetes_answers import ExistsError

# A busy object (an HPA, a controller writing status) costs a few rounds, seldom more.
_ATTEMPTS = 8
R = TypeVar("R")


def write_again(once: Callable[[], R], attempted: str, path: str) -> R:
    """Given a step that reads an object anew and then writes it, do it until its write meets no conflict and its answer is not lost, and return what it does.

    After a lost answer nobody knows: looking again tells. What else the step raises is not repeated. Raise TemporaryError when the object never held still.
    """
    retrying = Retrying(
        retry=retry_if_exception_type((ExistsError, TemporaryError)),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random(0.05, 0.5),
        reraise=True,
    )
    try:
        return retrying(once)
    except ExistsError as error:
        found = f"it changed under each of {_ATTEMPTS} writes: {error.found}"
        raise TemporaryError(attempted, path, found, "Find out who writes it all the time") from error
