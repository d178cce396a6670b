"""No secret is in a process list, a log, a report or the Prefect server, while backup, drill, restore, receiver and a release with a front end run."""

import base64
import os
import secrets
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import tomli_w
from prefect.client.orchestration import SyncPrefectClient

from deployments.command.follow import follow_run, start_deployment
from deployments.command.prefect_api import server_of
from deployments.local.platform import BUCKET
from tests.fix_office import PRODUCTION, Office, image_of, production_settings
from tests.fix_platform import start_nightshift
from tests.fix_process_list import ProcessList
from tests.fix_vercel import NEW, TOKEN, PublicAddress, Vercel
from tests.fix_web_script import Asked, Reply, WebScript
from tests.fix_webhook import REPOSITORY_ID, SHA, body_of, deployment, github_headers
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.services,
    pytest.mark.platform,
    pytest.mark.xdist_group("process-list"),
    pytest.mark.timeout(600),
]
# What runs: each must have been seen, or the list was not looked at well enough.
PROGRAMS = ("pg_dump ", "pg_dumpall", "pg_restore", "postgres ", "prefect worker", "-m prefect.engine", "webhook production")  # fmt: skip


class GitHub:
    """GitHub's API as far as it is asked: checks of a commit that succeeded, and statuses of a deployment."""

    def __init__(self, tokens: dict[str, str]) -> None:
        self.web, self.tokens, self.told = WebScript(), tokens, list[str]()
        self.web.reply = self._reply

    def _reply(self, asked: Asked) -> Reply:
        reporting = asked.path.endswith("/statuses")
        if asked.headers.get("authorization") != f"Bearer {self.tokens['report' if reporting else 'checks']}":
            return Reply({"message": "Bad credentials"}, 401)
        if reporting:
            self.told.append(asked.document["state"])
            return Reply({"id": 1}, 201)
        runs = [{"name": "build", "status": "completed", "conclusion": "success", "head_sha": SHA, "output": {}}]
        if asked.path.endswith("/status"):
            return Reply({"total_count": 0, "state": "pending", "statuses": []})
        return Reply({"total_count": 1, "check_runs": runs})


@dataclass
class World:
    """The office, with a receiver, a front end, and a secret of its own for each."""

    office: Office
    server: SyncPrefectClient
    folder: Path
    github: GitHub
    vercel: Vercel
    own: dict[str, str] = field(default_factory=dict)

    @property
    def secrets(self) -> dict[str, str]:
        """Every secret by what it is."""
        platform = self.office.platform
        names = [name for name in platform.variables if name.endswith(("PASSWORD", "SECRET", "KEY"))]
        given = {name: platform.variables[name] for name in names}
        basic = base64.b64encode(platform.prefect.auth_string.encode()).decode()
        return {**self.own, **given, "the server's password": platform.prefect.password, "the same, as sent": basic}

    def run(self, flow: str, **parameters: Any) -> None:
        """Start a deployment's run and wait for its end."""
        run = start_deployment(self.server, f"{flow}/{PRODUCTION}", parameters)
        self.follow(str(run))

    def follow(self, run: str) -> None:
        """Wait for a run's end, which must be a good one."""
        last = list(follow_run(self.server, self.server.read_flow_run(run).id, every_seconds=0.5))[-1]
        assert last.state_name == "Completed", (last.state_name, last.message)


@pytest.fixture
def world(office: Office, vercel: Vercel, public: PublicAddress, tmp_path: Path) -> Iterator[World]:
    """All of it, with the environment's file written anew."""
    own = {name: secrets.token_urlsafe(24) for name in ("webhook", "checks", "report")}
    github = GitHub(own)
    own["vercel"] = TOKEN
    for name, value in own.items():
        file = tmp_path / name
        file.touch(mode=0o600)
        file.write_text(value)
    platform = office.platform
    old = Path(os.environ["NIGHTSHIFT_ENVIRONMENTS"]) / f"{PRODUCTION}.toml"
    prometheus = tomllib.loads(old.read_text())["release"]["gates"]["prometheus_url"]
    frontend = {**vercel.settings(public.web.address), "token": f"file:{tmp_path}/vercel"}
    settings = production_settings(platform.postgres.port, platform.store.endpoint_url, prometheus, frontend)
    settings["release"] |= {
        "approval": False,
        "checks": {"ci": {"repository": "acme/api", "api_url": github.web.address, "token": f"file:{tmp_path}/checks"}},
    }
    take = {"image": "image", "commit": "commit", "requested_by": "actor"}
    rule = {
        "event": "deployment",
        "refs": ["main"],
        "github_environment": "staging",
        "take": take,
        "fixed": {"migrate": False, "strategy": "rolling", "frontend": NEW},
    }
    settings["webhook"] = {
        "secrets": [f"file:{tmp_path}/webhook"],
        "github": {"api_url": github.web.address, "token": f"file:{tmp_path}/report"},
        "repositories": {"api": {"id": REPOSITORY_ID, "repository": "acme/api", "triggers": [rule]}},
    }
    old.write_text(tomli_w.dumps(settings))
    with server_of(platform.running).client() as client:
        yield World(office, client, tmp_path, github, vercel, own)
    github.web.close()


@contextmanager
def receiver(world: World) -> Iterator[str]:
    """The receiver as an operator starts it; its address."""
    port = free_port()
    variables = {"PREFECT_API_URL": world.office.platform.prefect.api_url, "PREFECT_API_AUTH_STRING": world.office.platform.prefect.auth_string}  # fmt: skip
    folder = world.folder / "inbox"
    process = start_nightshift("webhook", PRODUCTION, "--listen", f"127.0.0.1:{port}", "--folder", str(folder), **variables)  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(address) or process.poll() is not None, "the receiver listens", seconds=120)
        yield address
    finally:
        process.terminate()
        output, errors = process.communicate(timeout=60)
        (world.folder / "receiver.log").write_text(output + errors)


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def release_by_webhook(world: World) -> None:
    """Deliver a deployment, and wait until its release is out and GitHub knows."""
    event = deployment(payload={"image": image_of("v2").partition("@")[2]})
    body = body_of(event)
    with receiver(world) as address:
        headers = github_headers(body, "deployment", world.own["webhook"])
        answer = httpx.post(
            f"{address}/github/{PRODUCTION}", content=body, headers=headers, timeout=60, trust_env=False
        )
        assert answer.status_code == 202, answer.text
        wait_until(lambda: releases(world), "its run is made", seconds=120)
        (run,) = releases(world)
        world.follow(run)
        wait_until(lambda: "success" in world.github.told, "GitHub is told", seconds=120)
    assert world.vercel.live == {NEW}


def releases(world: World) -> list[str]:
    """The runs of the release."""
    found = world.server.read_flow_runs(limit=200)
    return [str(one.id) for one in found if (one.name or "").startswith("release ") or "webhook" in one.tags]


def kept(world: World) -> dict[str, str]:
    """All that is left to read: logs, the Prefect server's whole database, reports and records in the bucket, the receiver's inbox and audit."""
    data = world.office.platform.folder
    files = [*data.logs.iterdir(), *data.prefect_home.glob("**/*.db*"), *(world.folder / "inbox").glob("*"), world.folder / "receiver.log"]  # fmt: skip
    texts = {str(file): file.read_bytes().decode(errors="replace") for file in files if file.is_file()}
    store = world.office.platform.store
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        aws_access_key_id=store.key_id,
        aws_secret_access_key=store.secret_key,
        region_name="us-east-1",
    )
    for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        texts[item["Key"]] = client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read().decode(errors="replace")
    client.close()
    return texts


def test_no_secret_is_in_a_process_list_or_in_anything_that_is_kept(world: World, process_list: ProcessList) -> None:
    canary = f"canary-{secrets.token_hex(8)}"
    for moment in range(20):
        subprocess.run([sys.executable, "-S", "-c", "", f"{canary}-{moment}"], check=True)
    world.run("nightly-backup")
    world.run("dr-drill")
    world.run("restore", database="shop", backup="newest-decoded")
    release_by_webhook(world)

    shown = process_list.commands()
    # It sees programs that last a moment, and saw every one that matters.
    assert shown.count(canary) >= 10
    assert [program for program in PROGRAMS if program not in shown] == []
    assert [name for name, secret in world.secrets.items() if secret in shown] == []

    texts = kept(world)
    everything = "\n".join(texts.values())
    # The search finds what is there: a parameter, an event, a line of a log, a report.
    for there in (image_of("v2").partition("@")[2], "prefect.flow-run.Completed", "read back and decode", '"nightly-backup"'):  # fmt: skip
        assert there in everything, there
    leaks = [(name, place) for place, text in texts.items() for name, secret in world.secrets.items() if secret in text]
    assert leaks == []
