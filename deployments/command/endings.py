"""How a command that started servers comes to its end: Ctrl-C, SIGTERM and a closed terminal all unwind it, so that what it started is stopped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def unwinding_signals() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise SystemExit (128 + number), as SIGINT raises KeyboardInterrupt."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A shell without job control starts background commands with SIGINT ignored; Python then leaves it so.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
