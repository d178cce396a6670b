"""What `nightshift status` says of a program: that a process lives is no proof that it does its work."""

import configparser
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from deployments.local import wellbeing
from deployments.local.running import RunningPlatform
from deployments.local.server_folder import ServerFolder
from deployments.local.supervised import RECEIVER, SERVER, WORKER, WORKER_NAME, Program, configuration
from deployments.webhook.figures import Figures

Answer = Callable[[str], tuple[int, Any]]


@contextmanager
def answering(answer: Answer) -> Iterator[int]:
    """A server of this process that gives these answers; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(document if isinstance(document, bytes) else json.dumps(document).encode())

        do_POST = do_GET  # noqa: N815 - as the base class wants it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent() -> Iterator[int]:
    """A port of this process that takes connections and says nothing, as a process does that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def told(tmp_path: Path, name: str, port: int, *, pid: int = 0, state: str = "STARTING") -> str:
    """What is said of a program whose server, or which itself, is at this port."""
    folder = ServerFolder(tmp_path)
    api = f"http://127.0.0.1:{port}/api"
    folder.write_record(
        RunningPlatform(process_id=1, ui_url="", api_url=api, auth_string="nightshift:a password", variables={})
    )
    folder.configuration.write_text(configuration(folder, port, ["--listen", f"127.0.0.1:{port}"]))
    log = tmp_path / "program.log"
    log.write_text("Traceback\nthe last line\n")
    return wellbeing.ailment(Program(name, state, pid or os.getpid(), log), folder)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wellbeing, "_ANSWER_SECONDS", 0.5)


@pytest.mark.parametrize("name", [SERVER, RECEIVER, WORKER])
def test_a_program_that_lives_and_hangs_is_not_well(tmp_path: Path, name: str) -> None:
    with silent() as port:
        said = told(tmp_path, name, port, state="RUNNING")
    assert "does not answer" in said
    assert "the last line" in said
    assert "a password" not in said


def test_a_program_that_dies_again_and_again_is_not_well_while_it_starts(tmp_path: Path) -> None:
    ours = [sys.executable, "-c", "import time; time.sleep(60)"]
    with answering(lambda _: (200, {"status": "ok"})) as port, subprocess.Popen(ours) as process:
        try:
            # Another process answers there.
            assert "does not listen" in told(tmp_path, RECEIVER, port, pid=process.pid)
        finally:
            process.kill()
    assert told(tmp_path, RECEIVER, 1, state="BACKOFF") == "BACKOFF: Traceback | the last line"


def test_a_receiver_that_says_what_is_wrong_is_quoted(tmp_path: Path) -> None:
    with answering(lambda _: (503, {"status": "the inbox cannot be written"})) as port:
        assert "the inbox cannot be written" in told(tmp_path, RECEIVER, port)
    with answering(lambda _: (200, {"status": "ok"})) as port:
        assert not told(tmp_path, RECEIVER, port)


@pytest.mark.parametrize(("current", "well"), [(1, True), (0, False)])
def test_a_receiver_that_goes_by_earlier_settings_is_not_well(tmp_path: Path, current: int, well: bool) -> None:
    figures = Figures()
    figures.settings_current.set(current)
    answers = {"/healthz": (200, {"status": "ok"}), "/metrics": (200, generate_latest(figures.registry))}
    with answering(answers.__getitem__) as port:
        said = told(tmp_path, RECEIVER, port)
    assert (not said, "audit.jsonl has the reason" in said) == (well, not well)


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_server_that_cannot_answer_from_its_database_is_not_well(tmp_path: Path, status: int) -> None:
    with answering(lambda path: (200 if path == "/api/health" else status, {})) as port:
        assert f"it answers {status}" in told(tmp_path, SERVER, port)
        assert str(status) in told(tmp_path, WORKER, port)
    with answering(lambda _: (200, 1)) as port:
        assert not told(tmp_path, SERVER, port)


def test_a_worker_is_well_once_this_very_process_has_told_the_server(tmp_path: Path) -> None:
    def workers(beat: datetime, status: str = "ONLINE", name: str = WORKER_NAME) -> Answer:
        return lambda _: (200, [{"name": name, "status": status, "last_heartbeat_time": beat.isoformat()}])

    now = datetime.now(UTC)
    for answer, well in [
        (workers(now), True),
        (workers(now - timedelta(days=400)), False),
        (workers(now, status="OFFLINE"), False),
        (workers(now, name="another"), False),
        (lambda _: (200, []), False),
    ]:
        with answering(answer) as port:
            assert (not told(tmp_path, WORKER, port)) is well


@pytest.mark.parametrize(
    ("answer", "paused"),
    [((200, {"is_paused": True}), True), ((200, {"is_paused": False}), False), ((503, {}), False), ((200, []), False)],
)
@pytest.mark.parametrize(
    ("path", "told_of", "command"),
    [
        ("/work_pools/nightshift", "the work pool nightshift is paused", "work-pool resume nightshift"),
        (
            "/work_pools/nightshift/queues/default",
            "the work queue default of the pool nightshift is paused",
            "work-queue resume default --pool nightshift",
        ),
    ],
)
def test_a_pool_or_its_queue_that_somebody_paused_is_told(  # noqa: PLR0917 - parameters
    tmp_path: Path, path: str, told_of: str, command: str, answer: tuple[int, Any], paused: bool
) -> None:
    others = (200, {"is_paused": False})
    with answering(lambda asked: answer if asked.endswith(path) else others) as port:
        told(tmp_path, SERVER, port)
        said = wellbeing.paused(ServerFolder(tmp_path))
        assert said == (f"{told_of}: no run begins. prefect {command}" if paused else "")
    assert not wellbeing.paused(ServerFolder(tmp_path))


def test_a_pool_whose_limit_is_0_is_told(tmp_path: Path) -> None:
    with answering(lambda _asked: (200, {"is_paused": False, "concurrency_limit": 0})) as port:
        told(tmp_path, SERVER, port)
        said = wellbeing.paused(ServerFolder(tmp_path))
    assert said.startswith("the work pool nightshift lets no run begin")
    assert said.endswith("prefect work-pool clear-concurrency-limit nightshift")


def test_a_queue_whose_limit_is_0_is_told(tmp_path: Path) -> None:
    def answer(asked: str) -> tuple[int, Any]:
        return 200, {"is_paused": False, "concurrency_limit": 0 if asked.endswith("/queues/default") else None}

    with answering(answer) as port:
        told(tmp_path, SERVER, port)
        said = wellbeing.paused(ServerFolder(tmp_path))
    assert said.startswith("the work queue default of the pool nightshift lets no run begin")
    assert said.endswith("prefect work-queue clear-concurrency-limit default --pool nightshift")


def test_the_worker_is_killed_and_not_asked_to_end_which_would_kill_its_runs(tmp_path: Path) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(configuration(ServerFolder(tmp_path), 4200, ["--listen", "127.0.0.1:8088"]))
    assert {name: parser[f"program:{name}"]["stopsignal"] for name in (SERVER, WORKER, RECEIVER)} == {
        SERVER: "TERM",
        WORKER: "KILL",
        RECEIVER: "TERM",
    }
