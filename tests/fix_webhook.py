"""What GitHub sends, as it documents it, and an environment's [webhook] that listens to it."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric import rsa

from core.environment_webhook import ACTIONS_ISSUER, Webhook
from core.webhook_signature import signature_of
from tests.ports import free_port
from tests.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parent.parent
SECRET, OLD_SECRET = "the-new-webhook-secret", "the-old-webhook-secret"
REPOSITORY_ID = 4711
SHA = "3f2a91c0" * 5
AUDIENCE = "nightshift-staging"
WORKFLOW = "acme/api/.github/workflows/release.yml@refs/heads/main"
BUILD = ".github/workflows/build.yml"


def webhook_table(**more: Any) -> dict[str, Any]:
    """The table [webhook] as a file has it: a rule for each event."""
    by_commit = {"image": "short_commit", "commit": "commit", "requested_by": "actor"}
    return {
        "secrets": ["env:HOOK_SECRET", "env:HOOK_OLD_SECRET"],
        "audience": AUDIENCE,
        "repositories": {
            "api": {
                "id": REPOSITORY_ID,
                "repository": "acme/api",
                "triggers": [
                    {"event": "deployment", "refs": ["main"], "github_environment": "staging", "take": by_commit},
                    {"event": "workflow_run", "refs": ["main"], "workflows": [BUILD], "take": by_commit},
                    {"event": "release", "refs": ["v*"], "take": {"image": "version", "commit": "commit"}},
                    {
                        "event": "actions",
                        "refs": ["refs/heads/main"],
                        "workflows": [WORKFLOW],
                        "github_environment": "staging",
                        "take": {"commit": "commit", "requested_by": "actor"},
                        "accept": ["image", "dry_run"],
                    },
                ],
            }
        },
        **more,
    }


def webhook() -> Webhook:
    """The same as a record."""
    return Webhook.model_validate(webhook_table())


def at(moment: datetime | None = None) -> str:
    """A time as GitHub writes it."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def deployment(number: int = 1, *, created: str = "", **more: Any) -> dict[str, Any]:
    """The payload of a `deployment`, with what a rule may look at; the newer object `workflow_run` in it too."""
    return {
        "action": "created",
        "deployment": {
            "id": number,
            "sha": SHA,
            "ref": "main",
            "environment": "staging",
            "payload": {},
            "description": None,
            "creator": {"login": "octocat"},
            "created_at": created or at(),
            **more,
        },
        "workflow_run": None,
        "repository": {"id": REPOSITORY_ID, "full_name": "acme/api"},
    }


def workflow_run(number: int = 1, **more: Any) -> dict[str, Any]:
    """The payload of a `workflow_run` that completed with success."""
    return {
        "action": "completed",
        "workflow_run": {
            "id": number,
            "run_attempt": 1,
            "run_number": 7,
            "head_branch": "main",
            "head_sha": SHA,
            "path": BUILD,
            "event": "push",
            "conclusion": "success",
            "updated_at": at(),
            "actor": {"login": "octocat"},
            "head_repository": {"id": REPOSITORY_ID},
            **more,
        },
        "repository": {"id": REPOSITORY_ID},
    }


def release(number: int = 1, **more: Any) -> dict[str, Any]:
    """The payload of a `release` that was published."""
    return {
        "action": "published",
        "release": {
            "id": number,
            "tag_name": "v1.8.0",
            "target_commitish": SHA,
            "draft": False,
            "prerelease": False,
            "published_at": at(),
            "author": {"login": "octocat"},
            **more,
        },
        "repository": {"id": REPOSITORY_ID},
    }


PAYLOADS: Mapping[str, Any] = {"deployment": deployment, "workflow_run": workflow_run, "release": release}


def body_of(payload: Any) -> bytes:
    """A payload's bytes."""
    return json.dumps(payload).encode()


@cache
def signing_key(name: str) -> rsa.RSAPrivateKey:
    """A private key, one for each name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_set(*names: str) -> dict[str, Any]:
    """The public keys as the issuer shows them."""
    algorithm = jwt.algorithms.RSAAlgorithm
    return {
        "keys": [
            {
                **algorithm.to_jwk(signing_key(name).public_key(), as_dict=True),
                "kid": name,
                "use": "sig",
                "alg": "RS256",
            }
            for name in names
        ]
    }


def claims(run: int = 1, **more: Any) -> dict[str, Any]:
    """What a job's token says; None leaves a claim out."""
    now = int(time.time())
    given = {
        "iss": ACTIONS_ISSUER,
        "aud": AUDIENCE,
        "jti": f"jti-{run}",
        "iat": now,
        "nbf": now - 5,
        "exp": now + 300,
        "sub": "repo:acme/api:environment:staging",
        "repository_id": str(REPOSITORY_ID),
        "ref": "refs/heads/main",
        "environment": "staging",
        "job_workflow_ref": WORKFLOW,
        "sha": SHA,
        "run_id": str(run),
        "run_attempt": "1",
        "run_number": "7",
        "actor": "octocat",
        "event_name": "push",
        **more,
    }
    return {name: value for name, value in given.items() if value is not None}


def token(given: Mapping[str, Any], key: str = "first") -> str:
    """A token as GitHub signs it."""
    return jwt.encode(dict(given), signing_key(key), algorithm="RS256", headers={"kid": key})


@dataclass
class Hook:
    """An environment `staging` that listens; `start` runs the receiver in a process of its own, with a stand-in for Prefect that writes each run's key to `made`."""

    folder: Path
    port: int
    child: subprocess.Popen[bytes] | None = None

    @property
    def made(self) -> list[str]:
        """The keys of the runs that were made, each line one call."""
        file = self.folder / "made"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def audit(self) -> list[dict[str, Any]]:
        """The audit log."""
        file = self.folder / "inbox" / "audit.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def write(self, **more: Any) -> None:
        """The environment's file."""
        document: dict[str, Any] = {
            "store": {"bucket": "no-bucket"},
            "signing": {"key": "env:HOOK_SECRET"},
            "databases": {"app": {"host": "127.0.0.1", "name": "app", "user": "app"}},
            "webhook": webhook_table(**more),
        }
        (self.folder / "staging.toml").write_text(tomli_w.dumps(document))

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "tests.webhook_child", str(self.folder), str(self.port), *options]
        # Not the output of the test, which a killed child's children would hold.
        with (self.folder / "output").open("ab") as output:
            self.child = subprocess.Popen(command, stdout=output, stderr=output, cwd=CHECKOUT)
        wait_until(self._answers, "the receiver listens", seconds=90)

    def _answers(self) -> bool:
        assert self.child is not None
        assert self.child.poll() is None, (self.folder / "output").read_text()
        try:
            return httpx.get(f"{self.address}/healthz", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def github(
        self, payload: Any, event: str = "deployment", *, secret: str = SECRET, **headers: str
    ) -> httpx.Response:
        """Deliver a payload (or bytes) as GitHub does."""
        body = payload if isinstance(payload, bytes) else body_of(payload)
        return httpx.post(
            f"{self.address}/github/staging",
            content=body,
            headers=github_headers(body, event, secret) | headers,
            timeout=30,
            trust_env=False,
            # There is no TLS: reading all authorities anew takes longer than all the rest, and hundreds in a minute are a test of the limit.
            verify=False,  # noqa: S501
        )

    def actions(self, body: Any, bearer: str) -> httpx.Response:
        """Ask as an Actions job does."""
        headers = {"Authorization": f"Bearer {bearer}"}
        return httpx.post(f"{self.address}/actions/staging", json=body, headers=headers, timeout=30, trust_env=False)

    def how_it_goes(self, delivery: str, bearer: str = "") -> httpx.Response:
        """Ask as a job that waits does."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return httpx.get(f"{self.address}/actions/{delivery}", headers=headers, timeout=30, trust_env=False)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; return its exit code."""
        assert self.child is not None
        self.child.send_signal(number)
        return self.child.wait(60)


def github_headers(body: bytes, event: str, secret: str = SECRET) -> dict[str, str]:
    """The headers of a delivery."""
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": signature_of(body, secret),
    }


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A receiver, not yet started."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("HOOK_OLD_SECRET", OLD_SECRET)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    found = Hook(tmp_path, free_port())
    found.write()
    yield found
    if found.child is not None and found.child.poll() is None:
        found.end(signal.SIGKILL)
