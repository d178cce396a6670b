"""A call that is given up after a while, whatever it waits for: a name server, a header that comes letter by letter, a library's own connection."""

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Outcome(Generic[T]):
    value: T
    error: BaseException | None = None
    ended = False


def call_within(seconds: float, call: Callable[[], T]) -> T:
    """Given a call, return what it returns and raise what it raises. Raise TimeoutError when it has not ended after so many seconds.

    It then goes on in a thread of its own that nobody waits for, not even the end of the process: only for what may be left undone. It sees the caller's context.
    """
    outcome = _Outcome[T]()

    def run() -> None:
        try:
            outcome.value = call()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.error = error
        outcome.ended = True

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="nightshift-bounded-call", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome.ended:
        raise TimeoutError(f"it has not ended within {seconds:g} s")
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
