"""docs/operating.md, *Who is told what* and *One machine*, as a reader types them: what the page promises is looked at."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from deployments.local.ports import free_port
from deployments.local.supervised import Supervised, marked
from tests.fix_reader_home import Home
from tests.fix_webhook import REPOSITORY_ID, body_of, deployment, github_headers
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]
PAGE = "operating.md"
HOOK_SECRET = "a secret that both sides know"


def up(home: Home) -> None:
    home.reader.types(PAGE, "make up", stands_for=home.reader.up)


def begins(home: Home, flow: str, **parameters: Any) -> str:
    """Start a run as the UI does, and return its id."""
    deployment_id = home.ask("GET", f"/deployments/name/{flow}/mine")["id"]
    return str(home.ask("POST", f"/deployments/{deployment_id}/create_flow_run", {"parameters": parameters})["id"])


def ends(home: Home, run: str, state: str) -> None:
    """Wait until a run is at its end, and hold that it is this one."""
    ended = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    wait_until(lambda: home.ask("GET", f"/flow_runs/{run}")["state_type"] in ended, "the run has ended", seconds=200)
    found = home.ask("GET", f"/flow_runs/{run}")
    assert found["state_type"] == state, found["state"]


@contextmanager
def a_backup_under_way(home: Home) -> Iterator[str]:
    """A backup that waits in its middle, for a lock that somebody else has, until the block ends; its run."""
    with home.postgres.connect("shop", autocommit=False) as session:
        session.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        run = begins(home, "nightly-backup")
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"

        def waiting() -> bool:
            with home.postgres.connect("shop") as other:
                return other.execute(waits).fetchone() != (0,)

        wait_until(waiting, "the backup waits", seconds=120)
        yield run


def test_who_is_told(home: Home) -> None:
    reader, told = home.reader, []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as chat:
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        # The page's step in the UI: the block, here a *Custom Webhook*.
        made = (
            "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block; "
            f"Block(name='oncall', url='http://127.0.0.1:{chat.server_port}/', json_data={{'text': '{{{{body}}}}'}}).save('oncall')"
        )
        saved = reader.shell(f'. .nightshift/server/client.env; python -W ignore -c "{made}"')
        assert saved.returncode == 0, saved.stderr
        own = {"slack-webhook/oncall": "custom-webhook/oncall"}
        reader.types(PAGE, "nightshift automations --notify slack-webhook/oncall", stands_for=own)
        # *Try it* once.
        run = begins(home, "nightly-backup", databases=["no such database"])
        ends(home, run, "FAILED")
        wait_until(lambda: told, "its message arrives", seconds=60)
        assert "no such database" in told[0] and "backup.md" in told[0] and run in told[0]
        chat.shutdown()


def test_one_machine_with_other_ports_and_a_proxy_hears_github(home: Home) -> None:
    reader = home.reader
    assert "it runs already" in reader.types(PAGE, "make up", stands_for=reader.up)
    reader.types(PAGE, "nightshift status")
    reader.shell(f"export READERS_HOOK_SECRET='{HOOK_SECRET}'")
    trigger = {"event": "deployment", "flow": "nightly-backup", "refs": ["main"], "github_environment": "staging"}
    repository = {"id": REPOSITORY_ID, "repository": "acme/api", "triggers": [trigger]}
    home.add(webhook={"secrets": ["env:READERS_HOOK_SECRET"], "repositories": {"api": repository}})
    # The receiver is started by `make up`, and by nothing else.
    assert "no receiver runs" in reader.types(PAGE, "nightshift status", code=1)
    reader.types(PAGE, "make down")
    assert marked(home.server) == []
    server, hook = free_port(), free_port()
    other = {"4300": str(server), "127.0.0.1:8090": f"127.0.0.1:{hook}"}
    reader.types(PAGE, "nightshift up --port 4300 --listen 127.0.0.1:8090 --proxy 10.0.0.7", stands_for=other)
    reader.types(PAGE, "nightshift status")
    reader.types(PAGE, ". .nightshift/server/client.env")
    assert reader.shell("prefect work-pool ls").returncode == 0
    assert any("10.0.0.7" in one.cmdline() for one in marked(home.server))

    runs = len(home.runs("nightly-backup"))
    assert deliver(hook, hook).status_code == httpx.codes.ACCEPTED
    wait_until(lambda: len(home.runs("nightly-backup")) == runs + 1, "GitHub's run has begun", seconds=120)
    ends(home, home.runs("nightly-backup")[0], "COMPLETED")

    with a_backup_under_way(home) as run:
        down = threading.Thread(target=reader.types, args=(PAGE, "nightshift down --wait 3600"))
        down.start()
        wait_until(lambda: "webhook" not in running(home), "it has begun to end")
    down.join(200)
    assert marked(home.server) == []
    up(home)
    # It was waited for.
    assert home.ask("GET", f"/flow_runs/{run}")["state_type"] == "COMPLETED"
    home.drop("webhook")
    # The shell knows the other ports' server.
    reader.types(PAGE, ". .nightshift/server/client.env")


def running(home: Home) -> set[str]:
    return {one.name for one in Supervised(home.server).programs() if one.pid}


def deliver(port: int, number: int) -> httpx.Response:
    """GitHub's word of one deployment."""
    body = body_of(deployment(number))
    headers = github_headers(body, "deployment", HOOK_SECRET)
    return httpx.post(
        f"http://127.0.0.1:{port}/github/mine", content=body, headers=headers, timeout=30, trust_env=False
    )


def test_a_supervisor_that_is_killed_loses_and_doubles_nothing(home: Home) -> None:
    reader = home.reader
    runs, backups = home.runs("nightly-backup"), backups_of(home)
    with a_backup_under_way(home) as run:
        os.kill(Supervised(home.server).pid, signal.SIGKILL)
        assert "its supervisor is gone" in reader.types(PAGE, "nightshift status", code=1)
        up(home)
        assert running(home) == {"prefect-server", "prefect-worker"}
        servers = [one for one in marked(home.server, runs=False) if "start" in one.cmdline()]
        assert len([one for one in servers if "worker" in one.cmdline()]) == 1
    ends(home, run, "COMPLETED")
    assert home.runs("nightly-backup") == [run, *runs]
    assert home.ask("GET", f"/flow_runs/{run}")["run_count"] == 1
    assert len(backups_of(home)) == len(backups) + 1
    reader.types(PAGE, "nightshift status")


def backups_of(home: Home) -> list[str]:
    """The keys of the backups' manifests, in order."""
    return sorted((key for key in home.objects() if key.endswith("/manifest.json")), key=lambda key: key.split("/")[-2])
