"""The servers of a platform together: ended in reverse order, looked after, started again when one dies (a few times)."""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deployments.local.service import Service

RESTARTS = 3
Tell = Callable[[str], None]


class Supervisor:
    """Servers in the order in which they were started."""

    def __init__(self, tell: Tell) -> None:
        """Given whom to tell, in a sentence, that a server died and is started again, begin with no servers."""
        self._tell = tell
        self._services: list[Service] = []
        self._after_restart: dict[str, Callable[[], None]] = {}
        self._restarts: Counter[str] = Counter()

    def add(
        self, service: Service, start: Callable[[], None], *, after_restart: Callable[[], None] = lambda: None
    ) -> None:
        """Start a server by `start`; from its first moment on it is one that `stop` ends. `after_restart` is called when it was started again."""
        self._services.append(service)
        self._after_restart[service.name] = after_restart
        start()

    def check(self) -> None:
        """Raise the error of the first server that is not running."""
        for service in self._services:
            if not service.running:
                raise service.death()

    def watch(self, until: threading.Event, *, every_seconds: float = 1.0) -> None:
        """Look after the servers until the event is set. Raise the error of one that has died more often than RESTARTS."""
        while not until.wait(every_seconds):
            for service in self._services:
                if not service.running:
                    self._start_again(service)

    def stop(self) -> None:
        """End all, the last one started first."""
        while self._services:
            self._services[-1].stop()
            self._services.pop()

    def _start_again(self, service: Service) -> None:
        error = service.death()
        self._restarts[service.name] += 1
        if self._restarts[service.name] > RESTARTS:
            raise error
        self._tell(f"{error}. Starting it again ({self._restarts[service.name]} of {RESTARTS})")
        service.start()
        self._after_restart[service.name]()


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within the block, signals that ask this process to end are ignored; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
