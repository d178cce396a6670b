"""A call that is given up after a while."""

import contextvars
import threading
import time

import pytest

from tasks.bounded_call import call_within

_name: contextvars.ContextVar[str] = contextvars.ContextVar("name")


def test_a_call_in_time_returns_and_raises_as_it_would() -> None:
    _name.set("ada")
    assert call_within(5, _name.get) == "ada"
    with pytest.raises(KeyError, match="gone"):
        call_within(5, lambda: {}["gone"])


def test_one_that_waits_is_given_up() -> None:
    let_go = threading.Event()
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        call_within(0.1, let_go.wait)
    assert time.monotonic() - begun < 5
    let_go.set()
