"""Whether a program of this machine's server does its work. A process that lives proves nothing: it may hang, wait for the server, or die of the same mistake again
and again."""

from datetime import UTC, datetime
from typing import Any

import httpx
import psutil

from deployments.local.ports import HOST
from deployments.local.prefect_server import WORK_POOL
from deployments.local.running import RunningPlatform
from deployments.local.server_folder import ServerFolder
from deployments.local.service import log_tail
from deployments.local.supervised import RECEIVER, SERVER, WORKER, WORKER_NAME, Program, receiver_address

RUNNING = {"RUNNING", "STARTING"}
_ANSWER_SECONDS = 5.0
# Where prefect.yaml names none, Prefect puts a pool's runs into this one.
_QUEUE = "default"
# Of the receiver's metrics (deployments/webhook/figures.py).
_WRONG_SETTINGS = "nightshift_webhook_settings_current 0.0"
_ANYWHERE = {"0.0.0.0": HOST, "::": "::1"}  # noqa: S104 - where it listens; we ask it on this machine


def ailment(program: Program, folder: ServerFolder) -> str:
    """Given a program as the supervisor has it, return what is wrong with it in a sentence; "" when it answers, or has told the server that it is there."""
    if program.state not in RUNNING:
        return f"{program.state}: {log_tail(program.log)}"
    record = RunningPlatform.model_validate_json(folder.record.read_bytes())
    try:
        if program.name == RECEIVER:
            wrong = _receiver(program, folder)
        elif program.name == SERVER:
            wrong = _server(program, record)
        else:
            wrong = _worker(program, record)
    except httpx.HTTPError as error:
        wrong = f"{'the server' if program.name == WORKER else 'it'} does not answer ({type(error).__name__})"
    except psutil.NoSuchProcess:
        wrong = "it has just ended"
    return f"{wrong}; its log: {log_tail(program.log)}" if wrong else ""


def _server(program: Program, record: RunningPlatform) -> str:
    if not _listens(program.pid, httpx.URL(record.api_url).port):
        return "it does not listen (yet)"
    # Of the database, not only of the process: /health answers from memory.
    answer = _ask(record, "POST", "/work_pools/count", {})
    return "" if answer.is_success else f"it answers {answer.status_code}"


def _worker(program: Program, record: RunningPlatform) -> str:
    answer = _ask(record, "POST", f"/work_pools/{WORK_POOL}/workers/filter", {})
    if not answer.is_success:
        return f"the server knows nothing of it ({answer.status_code})"
    began = datetime.fromtimestamp(psutil.Process(program.pid).create_time(), UTC)
    beats = [
        datetime.fromisoformat(one["last_heartbeat_time"])
        for one in answer.json()
        if one["name"] == WORKER_NAME and one["status"] == "ONLINE" and one["last_heartbeat_time"]
    ]
    return "" if any(beat >= began for beat in beats) else "it has not told the server (yet) that it is there"


def paused(folder: ServerFolder) -> str:
    """What somebody paused or closed so that no run begins, the work pool or the queue in it that runs go to, with the command that ends it; "" when neither is.

    A server that does not answer has a line of its own.
    """
    record = RunningPlatform.model_validate_json(folder.record.read_bytes())
    try:
        for path, what, command, of in (
            (f"/work_pools/{WORK_POOL}", f"the work pool {WORK_POOL}", "work-pool", WORK_POOL),
            (
                f"/work_pools/{WORK_POOL}/queues/{_QUEUE}",
                f"the work queue {_QUEUE} of the pool {WORK_POOL}",
                "work-queue",
                f"{_QUEUE} --pool {WORK_POOL}",
            ),
        ):
            answer = _ask(record, "GET", path)
            if not answer.is_success:
                continue
            if answer.json()["is_paused"] is True:
                return f"{what} is paused: no run begins. prefect {command} resume {of}"
            if answer.json().get("concurrency_limit") == 0:
                return f"{what} lets no run begin: its limit of runs at a time is 0. prefect {command} clear-concurrency-limit {of}"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        pass
    return ""


def _receiver(program: Program, folder: ServerFolder) -> str:
    named, _, port = receiver_address(folder).rpartition(":")
    if not _listens(program.pid, int(port)):
        return "it does not listen (yet)"
    host = _ANYWHERE.get(named.strip("[]"), named.strip("[]") or HOST)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    answer = httpx.get(f"{address}/healthz", timeout=_ANSWER_SECONDS, trust_env=False)
    if not answer.is_success:
        return f"it says: {_status(answer)}"
    # No word of it on /healthz: a restart would not mend it, and it goes on.
    figures = httpx.get(f"{address}/metrics", timeout=_ANSWER_SECONDS, trust_env=False)
    if _WRONG_SETTINGS in figures.text.splitlines():
        return f"what the environments' files say now is wrong, and it goes by what they said before: {folder.webhook / 'audit.jsonl'} has the reason"
    return ""


def _status(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["status"])
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)


def _listens(pid: int, port: int | None) -> bool:
    """Whether the process, or one of its children, listens on the port: somebody else's answer there says nothing of it."""
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        try:
            if any(
                each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in one.net_connections("tcp")
            ):
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def _ask(record: RunningPlatform, method: str, path: str, body: Any = None) -> httpx.Response:
    user, _, password = record.auth_string.partition(":")
    address = f"{record.api_url}{path}"
    return httpx.request(method, address, json=body, auth=(user, password), timeout=_ANSWER_SECONDS, trust_env=False)
