"""The receiver as a process: what may be wrong is found before it listens; SIGTERM lets what is being answered end; kill -9 loses nothing that was accepted."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvicorn

from core.errors import NightshiftError, PermanentError
from deployments.webhook.audit import Audit
from deployments.webhook.dispatcher import Dispatcher
from deployments.webhook.figures import Figures
from deployments.webhook.github_status import GitHubApi, GitHubDeployments
from deployments.webhook.inbox import Inbox
from deployments.webhook.key_sets import KeySets
from deployments.webhook.listening import Listening, listen_to
from deployments.webhook.patient_protocol import PatientProtocol
from deployments.webhook.prefect_runs import PrefectRuns, Runs
from deployments.webhook.reading import Sources
from deployments.webhook.receiver import Receiver, application
from deployments.webhook.reporter import Reporter

SETTINGS_SECONDS = 60.0
# A thread that has not moved for so long is stuck: Prefect's client gives up much earlier.
STUCK_SECONDS = 600.0
MOST_CONNECTIONS = 200


class Service:
    """The parts of a receiver, put together."""

    def __init__(
        self, names: Sequence[str], folder: Path, *, audit: str, a_minute: int, runs: Runs | None = None
    ) -> None:
        self._names = names
        self._listening = listen_to(names)
        self._githubs = _githubs_of(self._listening)
        self.inbox = Inbox(folder)
        self.audit, self.figures = Audit(audit or str(folder / "audit.jsonl")), Figures()
        runs = runs or PrefectRuns(next(iter(self._listening)))
        self._dispatcher = Dispatcher(
            self.inbox, runs, lambda: self._githubs, self._start_within, audit=self.audit, figures=self.figures
        )
        self._reporter = Reporter(self.inbox, runs, lambda: self._githubs, audit=self.audit, figures=self.figures)
        self._ending = threading.Event()
        works = {"dispatcher": self._dispatcher.work, "reporter": self._reporter.work, "settings": self._read_anew}
        self._threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in works.items()]
        self.receiver = Receiver(
            lambda: self._listening,
            self.inbox,
            KeySets(),
            Sources(a_minute),
            self.audit,
            self.figures,
            self._dispatcher.wake,
            self._unwell,
            runs.page,
        )

    def serve(self, host: str, port: int, proxies: Sequence[str]) -> None:
        """Listen until SIGTERM or Ctrl-C. Raise PermanentError when the address is not free."""
        config = uvicorn.Config(
            application(self.receiver),
            host=host,
            port=port,
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            # Nobody's word on where a request came from counts but a named proxy's.
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=15,
            h11_max_incomplete_event_size=32 * 1024,
        )
        try:
            listener = config.bind_socket()
        except SystemExit as error:
            raise PermanentError(
                "listen",
                f"{host}:{port}",
                "the address is not free",
                "End what listens there, or give --listen another one (to `nightshift up`, if that starts it)",
            ) from error
        for thread in self._threads:
            thread.start()
        try:
            self.audit.tell(
                "listening", address=f"{host}:{listener.getsockname()[1]}", environments=", ".join(self._listening)
            )
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            self.end()
            listener.close()

    def end(self) -> None:
        """End the threads, and write what waits."""
        self._ending.set()
        self._dispatcher.end()
        self._reporter.end()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(20)
        self.audit.tell("ended")
        self.inbox.close()
        self.audit.close()

    def _start_within(self, environment: str) -> float:
        one = self._listening.get(environment)
        # Of an environment that is listened to no longer, nothing is started.
        return one.webhook.start_within_hours * 3600.0 if one else 0.0

    def _read_anew(self) -> None:
        while not self._ending.wait(SETTINGS_SECONDS):
            try:
                self._listening = listen_to(self._names)
                self._githubs = _githubs_of(self._listening)
                self.figures.settings_current.set(1)
            except Exception as error:  # noqa: BLE001 - told, and tried again: a thread that ends would not see the file that is mended
                self.figures.settings_current.set(0)
                # Of an error that nobody foresaw its kind alone: its words may quote the file.
                reason = str(error) if isinstance(error, NightshiftError) else type(error).__name__
                self.audit.tell("settings are wrong, the earlier ones count", reason=reason)

    def _unwell(self) -> str:
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        if dead:
            return f"{dead[0]} has ended"
        if not self.inbox.alive or not self.inbox.writable:
            return "the inbox cannot be written"
        last = min(self._dispatcher.beat, self._reporter.beat)
        return "dispatcher or reporter is stuck" if time.monotonic() - last > STUCK_SECONDS else ""


def _githubs_of(listening: Mapping[str, Listening]) -> Mapping[str, GitHubDeployments]:
    return {name: GitHubApi(one.webhook.github) for name, one in listening.items() if one.webhook.github is not None}
