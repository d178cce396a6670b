"""release.yml's script, run as GitHub's runner runs it, against a receiver that really runs: what the one says the other understands."""

import json
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_web_script import Asked, Reply, WebScript
from tests.fix_webhook import AUDIENCE, Hook, claims, key_set, token, webhook_table
from tests.test_github_workflows import FOLDER, workflow
from tests.waiting import wait_until

pytestmark = pytest.mark.services
DIGEST, COMMIT = "sha256:" + "a" * 64, "3f2a91c0" * 5


class Runner:
    """A job of an Actions run: its token service is a scripted server, which also shows the keys that it signs with."""

    def __init__(self, hook: Hook, web: WebScript, folder: Path) -> None:
        self.hook, self.web, self.folder, self.run_id = hook, web, folder, 0
        self.claims: dict[str, str] = {}
        web.reply = self._reply

    def _reply(self, asked: Asked) -> Reply:
        if asked.path != "/token":
            return Reply(key_set("first"))
        if asked.headers.get("authorization") != "bearer of-the-job":
            return Reply({"message": "no"}, 401)
        (audience,) = asked.query["audience"]
        given = claims(self.run_id, iss=self.web.address, jti=str(uuid.uuid4()), aud=audience, **self.claims)
        return Reply({"count": 1, "value": token(given)})

    def ask(self, told: str = "", **more: str) -> tuple[int, str]:
        """Exit code and output of a new run's job. `told`: what becomes of the run that it starts, as Prefect tells it."""
        self.run_id += 1
        (self.folder / "told").unlink(missing_ok=True)
        if told:
            (self.folder / "told").write_text(told)
        (step,) = workflow(FOLDER / "release.yml")["jobs"]["release"]["steps"]
        given = {
            "PATH": os.environ["PATH"],
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.web.address}/token?api-version=2",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
            "GITHUB_OUTPUT": str(self.folder / "github-output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "RECEIVER": self.hook.address,
            "AUDIENCE": AUDIENCE,
            "ENVIRONMENT": "staging",
            "IMAGE": DIGEST,
            "COMMIT": COMMIT,
            "FRONTEND": "",
            "MINUTES": "2",
            "POLL_SECONDS": "0.3",
            **more,
        }
        assert set(step["env"]) <= set(given)
        script = self.folder / "script.sh"
        script.write_text(step["run"])
        # As actions/runner starts `shell: bash`.
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder, env=given, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def runner(hook: Hook, web_script: WebScript) -> Iterator[Runner]:
    """A job's runner, and a receiver that lets it release."""
    table = webhook_table()
    trigger = table["repositories"]["api"]["triggers"][3]
    trigger |= {"accept": ["image", "commit", "frontend"], "take": {"requested_by": "actor"}}
    hook.write(issuer=web_script.address, repositories=table["repositories"])
    yield Runner(hook, web_script, hook.folder)


def test_a_job_asks_waits_and_ends_as_the_release_does(runner: Runner, hook: Hook) -> None:
    # The receiver comes while the job asks already, as after a restart of it.
    starting = threading.Timer(1.0, hook.start)
    starting.start()
    code, output = runner.ask("COMPLETED\nCompleted\nit is live", FRONTEND="https://shop-9fxb3.vercel.app")
    starting.join()
    assert code == 0, output
    wait_until(lambda: len(hook.made) == 1, "its run")
    (key,) = hook.made
    # What the job waits for is named by a key with slashes.
    assert key.startswith("staging/release/actions-4711-")
    assert f"nightshift accepted delivery {key}" in output and "nightshift: success" in output
    assert "### staging: success" in (hook.folder / "summary").read_text()
    assert "run=http://ui.invalid/runs/flow-run/" in (hook.folder / "github-output").read_text()

    for told, state in [
        ("FAILED\nRolledBack\n25 % of requests failed", "failure: the old version serves again"),
        ("CRASHED\nCrashed\nkilled", "error: its process ended in the middle"),
    ]:
        code, output = runner.ask(told)
        assert code == 1, output
        assert f"::error title=nightshift::staging: {state}" in output, output

    # It goes on for longer than the job waits.
    code, output = runner.ask(MINUTES="0")
    assert code == 1 and "not decided within 0 minutes; the release goes on" in output, output
    wait_until(lambda: len(hook.made) == 4, "its run")
    # The receiver's own words.
    code, output = runner.ask(IMAGE="no image\n")
    assert code == 1 and "refused the release: 422" in output, output
    code, output = runner.ask(FRONTEND="https://evil.test/?x=$(id)")
    assert code == 1 and "refused the release: 422" in output and "frontend" in output, output
    code, output = runner.ask(AUDIENCE="nightshift-production")
    assert code == 1 and "refused the release: 401" in output, output
    runner.claims = {"ref": "refs/heads/try"}
    code, output = runner.ask()
    assert code == 1 and "no rule allows ref" in output, output
    assert len(hook.made) == 4
    assert "of-the-job" not in output and "eyJ" not in json.dumps(hook.audit)
