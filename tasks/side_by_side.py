"""Asking several at once, within a time that does not depend on any of them."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def ask_all(asks: Mapping[str, Callable[[], T]], *, seconds: float) -> dict[str, T]:
    """Given questions by name, return the answers that came within so many seconds. Who is late is left behind: it keeps neither us nor the process' end waiting."""
    answers: dict[str, T] = {}

    def ask(name: str, question: Callable[[], T]) -> None:
        answers[name] = question()

    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in asks.items()]
    ends = time.monotonic() + seconds
    for one in threads:
        one.start()
    for one in threads:
        one.join(max(0.0, ends - time.monotonic()))
    return dict(answers)
