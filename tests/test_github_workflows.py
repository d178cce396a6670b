"""The workflows of deployments/github/: valid, pinned, with the least of rights, nothing pasted into a shell; and what release.yml's script does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from deployments.local.data_folder import CHECKOUT
from tests.fix_web_script import Asked, Reply, WebScript

FOLDER = CHECKOUT / "deployments" / "github"
FILES = sorted(FOLDER.glob("*.yml"))
PROGRAMS = Path(sys.executable).parent

# Which job has which rights: more than these is a change that somebody is to see here.
READS, PROVES = {"contents": "read"}, {"id-token": "write"}
RIGHTS = {
    ("backend", "test"): READS,
    ("backend", "build"): READS | PROVES,
    ("backend", "staging"): PROVES,
    ("backend", "production"): PROVES,
    ("frontend", "test"): READS,
    ("frontend", "preview"): READS,
    ("frontend", "production"): READS,
    ("release", "release"): PROVES,
}
# Each tag as its own repository has it; an annotated tag's commit, not the tag's object.
RELEASES = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-node": ("820762786026740c76f36085b0efc47a31fe5020", "v7.0.0"),
    "aws-actions/amazon-ecr-login": ("03f1aad4c6c7ffd436567f42f9384779290529bd", "v2.1.7"),
    "aws-actions/configure-aws-credentials": ("e6de054238d6b7531b4efff3b6587d9aade6a06c", "v6.2.3"),
    "docker/build-push-action": ("53b7df96c91f9c12dcc8a07bcb9ccacbed38856a", "v7.3.0"),
    "docker/setup-buildx-action": ("37fe631027851001ddb9b187196cc803df7f5f0e", "v4.3.0"),
}


def workflow(file: Path) -> dict[str, Any]:
    """A workflow as read. YAML 1.1 reads its `on` as true."""
    read: dict[Any, Any] = yaml.safe_load(file.read_text())
    return {"on" if key is True else key: value for key, value in read.items()}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each job: its file's name without ending, its own name, and itself."""
    for file in FILES:
        for name, job in workflow(file)["jobs"].items():
            yield file.stem, name, job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each step, with a name to find it by."""
    for file, name, job in jobs():
        for number, step in enumerate(job.get("steps", ()), 1):
            yield f"{file}.yml, {name}, step {number}", step


def test_they_are_workflows_by_githubs_schema_and_one_that_is_not_is_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text((FOLDER / "release.yml").read_text().replace("runs-on:", "run-on:"))
    command = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows"]
    # The schema comes with the package; a proxy that is not there shows that nothing is fetched.
    offline = {**os.environ, "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    good, bad = (
        subprocess.run([*command, *map(str, files)], capture_output=True, text=True, env=offline, check=False)
        for files in (FILES, [wrong])
    )
    assert good.returncode == 0, good.stdout + good.stderr
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert [file.stem for file in FILES] == ["backend", "frontend", "release"]


def test_every_action_is_pinned_to_the_commit_of_a_release_that_stands_beside_it() -> None:
    seen = set()
    for file in FILES:
        for used, comment in re.findall(r"uses: (\S+)(.*)", file.read_text()):
            if used.startswith("./"):
                assert (FOLDER / Path(used).name).is_file()
                continue
            action, _, commit = used.partition("@")
            assert (commit, comment.strip().removeprefix("# ")) == RELEASES[action]
            seen.add(action)
    assert seen == set(RELEASES)


def test_rights_are_named_job_by_job_and_nothing_has_any_by_default() -> None:
    assert all(workflow(file)["permissions"] == {} for file in FILES)
    assert {(file, name): job["permissions"] for file, name, job in jobs()} == RIGHTS
    for where, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where


def test_nothing_is_pasted_into_a_shell_and_secrets_are_only_in_the_environment_of_a_step() -> None:
    for where, step in steps():
        assert "${{" not in step.get("run", ""), where
        for key in ("run", "with", "name", "if"):
            assert "secrets." not in str(step.get(key, "")), where
    for file in FILES:
        document = workflow(file)
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(document["on"])
        assert "secrets." not in str(document.get("env", ""))
    assert not any("secrets." in str(job.get("env", "")) or job.get("secrets") for _, _, job in jobs())
    # No job that a fork's pull request starts has a secret, or a token that says who it is.
    kept = {
        ("backend", "build"): "github.event_name == 'push' && github.ref == 'refs/heads/main'",
        ("frontend", "production"): "github.event_name == 'push' && github.ref == 'refs/heads/main'",
        (
            "frontend",
            "preview",
        ): "github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository",
    }
    for file, name, job in jobs():
        if file != "release" and ("secrets." in str(job) or "id-token" in str(job)):
            assert (file, name) in kept or "build" in job["needs"]
    assert {(file, name): job.get("if") for file, name, job in jobs() if (file, name) in kept} == kept


def test_every_job_has_an_end_and_releases_wait_for_each_other() -> None:
    for file, name, job in jobs():
        assert "uses" in job or 0 < job["timeout-minutes"] <= 180, (file, name)
    release = workflow(FOLDER / "release.yml")["jobs"]["release"]
    assert release["concurrency"] == {"group": "nightshift-${{ inputs.environment }}", "cancel-in-progress": False}
    # Its reviewers and branches are asked for before the job has a token.
    assert release["environment"] == "${{ inputs.environment }}"
    backend = workflow(FOLDER / "backend.yml")["jobs"]
    assert backend["production"]["needs"] == ["build", "staging"]
    assert backend["production"]["with"]["image"] == backend["staging"]["with"]["image"]


@pytest.mark.parametrize(("where", "step"), [pytest.param(*one, id=one[0]) for one in steps() if "run" in one[1]])
def test_shell_is_well_formed_and_ends_at_the_first_failure(where: str, step: dict[str, Any], tmp_path: Path) -> None:
    script = step["run"]
    # A step of one command needs no more than its exit code.
    if "\n" in script.strip():
        assert step["shell"] == "bash"
        assert script.startswith("set -euo pipefail\n")
    checked = subprocess.run(
        [str(PROGRAMS / "shellcheck"), "--shell=bash", "--severity=style", "-"],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_the_role_is_for_one_branch_of_one_repository_and_pushes_to_one_and_the_page_shows_it() -> None:
    trust, push = (json.loads((FOLDER / f"ecr-{name}-policy.json").read_text()) for name in ("trust", "push"))
    [who] = trust["Statement"]
    assert set(who["Condition"]) == {"StringEquals"}
    assert "*" not in json.dumps(trust)
    token, images = push["Statement"]
    assert token["Action"] == "ecr:GetAuthorizationToken"
    assert "*" not in json.dumps(images)
    assert images["Resource"].endswith(":repository/api")
    page = (CHECKOUT / "docs" / "github-actions.md").read_text()
    shown = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    assert json.loads(shown[1]) == trust
    # Accepted by IAM as moto has it.
    with mock_aws():
        iam = boto3.client("iam", region_name="eu-central-1")
        iam.create_open_id_connect_provider(
            Url="https://token.actions.githubusercontent.com", ClientIDList=["sts.amazonaws.com"]
        )
        iam.create_role(RoleName="push", AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName="push", PolicyName="push", PolicyDocument=json.dumps(push))


class Job:
    """release.yml's script, run as a job would: GitHub's token service and the receiver are one scripted server."""

    def __init__(self, web: WebScript, folder: Path) -> None:
        self.web, self.folder = web, folder
        self.accepts: list[Reply] = [Reply({"delivery": "production/a b"}, 202)]
        self.tells: list[Reply] = [Reply({"state": "success", "run": "https://prefect/runs/1", "message": "live"})]
        self.tokens = 0
        web.reply = self._reply

    def _reply(self, asked: Asked) -> Reply:
        if asked.path == "/token":
            self.tokens += 1
            return Reply({"value": f"token-{self.tokens}"})
        replies = self.accepts if asked.method == "POST" else self.tells
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def run(self, **more: str) -> tuple[int, str]:
        """Exit code and output of the script."""
        (step,) = workflow(FOLDER / "release.yml")["jobs"]["release"]["steps"]
        given = {
            "PATH": os.environ["PATH"],
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.web.address}/token?api-version=2",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "RECEIVER": self.web.address,
            "AUDIENCE": "nightshift production",
            "ENVIRONMENT": "production",
            "IMAGE": "sha256:" + "a" * 64,
            "COMMIT": "0123abc",
            "FRONTEND": "",
            "MINUTES": "1",
            "POLL_SECONDS": "0",
            **more,
        }
        assert set(step["env"]) <= set(given)
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder, env=given, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout + ran.stderr

    @property
    def summary(self) -> str:
        """What a person sees on the run's page."""
        return (self.folder / "summary").read_text()

    def asked(self, method: str) -> list[Asked]:
        """What the receiver was asked."""
        return [one for one in self.web.asked if one.method == method and one.path != "/token"]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """The script, and whom it asks."""
    web = WebScript()
    try:
        yield Job(web, tmp_path)
    finally:
        web.close()


def test_a_release_that_is_live_is_a_job_that_passes_and_its_run_is_shown(job: Job) -> None:
    job.tells = [
        Reply({"state": "accepted"}),
        Reply(b"", 503),
        Reply({"state": "in_progress", "run": "https://prefect/runs/1", "message": "25 % of the traffic"}),
        Reply({"state": "success", "run": "https://prefect/runs/1", "message": "1.8.0 is live"}),
    ]
    code, output = job.run()
    assert code == 0, output
    (posted,) = job.asked("POST")
    assert posted.path == "/actions/production"
    assert posted.document == {"flow": "release", "parameters": {"image": "sha256:" + "a" * 64, "commit": "0123abc"}}
    assert [one.path for one in job.asked("GET")] == ["/actions/production/a%20b"] * 4
    # A token is used once, and made for this receiver.
    tokens = [one.headers["authorization"] for one in (posted, *job.asked("GET"))]
    assert tokens == [f"Bearer token-{number}" for number in range(1, 6)]
    asked_for = next(one for one in job.web.asked if one.path == "/token")
    assert asked_for.query["audience"] == ["nightshift production"]
    assert asked_for.headers["authorization"] == "bearer of-the-job"
    assert "25 % of the traffic" in output
    assert "token-" not in output
    assert "### production: success" in job.summary
    assert (job.folder / "output").read_text() == "run=https://prefect/runs/1\n"


@pytest.mark.parametrize("state", ["failure", "error", "inactive", "refused"])
def test_every_other_end_is_a_job_that_fails_and_says_why(job: Job, state: str) -> None:
    job.tells = [Reply({"state": state, "run": "https://prefect/runs/1", "message": "2 % of the requests failed"})]
    code, output = job.run()
    assert code == 1
    assert f"production: {state}: 2 % of the requests failed https://prefect/runs/1" in output
    assert f"### production: {state}" in job.summary


@pytest.mark.parametrize("answer", [{}, {"state": ""}, {"state": "Success"}, {"state": None}, []])
def test_what_is_no_verdict_is_never_taken_for_one(job: Job, answer: object) -> None:
    job.tells = [Reply(answer)]
    code, output = job.run(MINUTES="0")
    assert code == 1, output
    assert "not decided" in output or "jq: error" in output


def test_the_front_end_is_handed_on(job: Job) -> None:
    address = "https://shop-9fxb3.vercel.app"
    code, output = job.run(FRONTEND=address)
    assert code == 0, output
    (posted,) = job.asked("POST")
    given = {"image": "sha256:" + "a" * 64, "commit": "0123abc", "frontend": address}
    assert posted.document == {"flow": "release", "parameters": given}
    called = workflow(FOLDER / "frontend.yml")
    assert (
        called["on"]["workflow_call"]["outputs"]["deployment"]["value"] == "${{ jobs.production.outputs.deployment }}"
    )
    assert called["jobs"]["production"]["outputs"] == {"deployment": "${{ steps.deploy.outputs.url }}"}


def test_a_receiver_that_is_away_is_asked_again_with_another_token_and_the_same_release(job: Job) -> None:
    job.accepts = [Reply(b"", 503), Reply(status=0), Reply({}, 429), Reply({"key": "production/a b"}, 200)]
    code, output = job.run()
    assert code == 0, output
    posted = job.asked("POST")
    assert len({json.dumps(one.document) for one in posted}) == 1
    assert len({one.headers["authorization"] for one in posted}) == len(posted) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_refusal_ends_it_at_once_with_the_receivers_own_words(job: Job, status: int) -> None:
    job.accepts = [Reply({"detail": "no rule allows ref refs/heads/try"}, status)]
    code, output = job.run()
    assert code == 1
    assert f"refused the release: {status}" in output
    assert "no rule allows ref refs/heads/try" in output
    assert len(job.asked("POST")) == 1
    assert job.asked("GET") == []


def test_a_message_cannot_command_the_runner_or_set_the_page(job: Job) -> None:
    job.tells = [
        Reply({"state": "failure", "message": "a\n::set-output name=x::y\n# Title\r::stop-commands::z", "run": ""})
    ]
    code, output = job.run()
    assert code == 1
    commands = [line for line in output.splitlines() if line.lstrip().startswith("::")]
    assert len(commands) == 1
    assert commands[0].startswith("::error title=nightshift::")
    assert "\n# Title" not in job.summary


@pytest.mark.parametrize(
    ("given", "found"),
    [({"RECEIVER": "http://receiver.example.com"}, "no https address"), ({"RECEIVER": ""}, "no https address"),
     ({"AUDIENCE": ""}, "NIGHTSHIFT_AUDIENCE")],
)  # fmt: skip
def test_no_token_is_asked_for_when_the_receiver_is_not_known(job: Job, given: dict[str, str], found: str) -> None:
    code, output = job.run(**given)
    assert code == 1
    assert found in output
    assert job.web.asked == []


def test_the_job_of_the_receivers_page_shows_no_token_to_who_lists_processes(tmp_path: Path) -> None:
    page = (CHECKOUT / "docs" / "webhook.md").read_text()
    (block,) = re.findall(r"```yaml\n(- run: .*?)```", page, re.DOTALL)
    curl = tmp_path / "curl"
    curl.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/arguments\ncat >>{tmp_path}/given\necho \'{{"value": "of-the-job"}}\'\n'
    )
    curl.chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-runner",
        "ACTIONS_ID_TOKEN_REQUEST_URL": "https://token.invalid/?a=b",
    }
    command = ["bash", "-e", "-c", yaml.safe_load(block)[0]["run"]]
    done = subprocess.run(
        command, env=variables, capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "arguments").read_text().splitlines()
    assert "audience=nightshift-staging" in first and second.endswith("/actions/staging")
    assert "of-the-" not in first + second
    assert re.findall(r'header = "Authorization: [Bb]earer (.*)"', (tmp_path / "given").read_text()) == [
        "of-the-runner",
        "of-the-job",
    ]
