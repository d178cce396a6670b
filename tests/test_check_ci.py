"""Items ci and scan: what GitHub and ECR say, and everything that is no success."""

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import httpx
import pytest

from core.image_reference import ResolvedImage
from core.release_checks import ReleaseCheck
from tasks.check_ci import check_ci, check_scan
from tests.fix_object_store import S3Server
from tests.fix_preflight import COMMIT, KEY, NEW, ScriptedWeb, preflight_for, release_with
from tests.fix_registry import OCI_MANIFEST

ROOT = f"/repos/team/api/commits/{COMMIT}"


def run(name: str, conclusion: str | None = "success", status: str = "completed", title: str = "") -> dict[str, Any]:
    return {"name": name, "status": status, "conclusion": conclusion, "head_sha": COMMIT, "output": {"title": title}}


def script(web: ScriptedWeb, runs: list[dict[str, Any]], statuses: list[dict[str, Any]] | None = None) -> None:
    """Two pages where there is more than one page's worth, as GitHub does it."""

    def page_of(key: str, all_of: list[dict[str, Any]]) -> Any:
        def answer(query: dict[str, str]) -> tuple[int, Any]:
            size, number = int(query["per_page"]), int(query["page"])
            # GitHub says "pending" of a commit without statuses.
            return 200, {
                "total_count": len(all_of),
                "state": "pending",
                key: all_of[(number - 1) * size : number * size],
            }

        return answer

    web.answers = {
        f"{ROOT}/check-runs": page_of("check_runs", runs),
        f"{ROOT}/status": page_of("statuses", statuses or []),
    }


def ci(web: ScriptedWeb, commit: str = COMMIT, **settings: Any) -> ReleaseCheck:
    return check_ci(preflight_for(ci={"repository": "team/api", "api_url": web.address, **settings}, commit=commit))


def test_checks_that_succeeded_pass_and_are_in_the_evidence(web: ScriptedWeb) -> None:
    script(web, [run("build"), run("lint", "skipped")], [{"context": "coverage", "state": "success"}])
    check = ci(web)
    assert (check.state, check.found) == ("passed", f"commit {COMMIT[:12]}: 2 checks of 3 succeeded, none failed")
    assert check.evidence["checks"] == {"build": "success", "lint": "skipped", "coverage": "success"}


@pytest.mark.parametrize(
    ("runs", "statuses", "found"),
    [
        ([], [], "no checks at all"),
        ([run("build"), run("test", "failure", title="2 tests failed")], [], "test: failure (2 tests failed)"),
        ([run("build"), run("test", None, "in_progress")], [], "test: in_progress, not completed"),
        ([run("build"), run("test", "success", "queued")], [], "test: queued, not completed"),
        ([run("build"), run("test", "cancelled")], [], "test: cancelled"),
        ([run("build"), run("test", "timed_out")], [], "test: timed_out"),
        ([run("build"), run("test", "action_required")], [], "test: action_required"),
        ([run("build"), run("test", "stale")], [], "test: stale"),
        ([run("build"), run("test", "a word of tomorrow")], [], "a word of tomorrow"),
        ([run("build"), run("build", "failure")], [], "build: failure"),
        ([run("build", "skipped"), run("lint", "neutral")], [], "none of its 2 checks succeeded"),
        (
            [run("build")],
            [{"context": "deploy", "state": "pending", "description": "waiting"}],
            "deploy: pending (waiting)",
        ),
        ([run("build")], [{"context": "deploy", "state": "error"}], "deploy: error"),
    ],
)
def test_everything_that_is_no_success_fails_with_its_words(
    web: ScriptedWeb, runs: list[dict[str, Any]], statuses: list[dict[str, Any]], found: str
) -> None:
    script(web, runs, statuses)
    check = ci(web)
    assert check.state == "failed"
    assert found in check.found


def test_required_checks_must_be_there_and_have_succeeded_and_others_do_not_count(web: ScriptedWeb) -> None:
    script(web, [run("build"), run("nightly", "failure"), run("test", "skipped")])
    assert ci(web, required=["build"]).state == "passed"
    check = ci(web, required=["build", "test", "deploy"])
    assert check.state == "failed"
    assert check.found == "deploy: there is no such check; test: skipped"


def test_the_job_that_starts_the_release_does_not_wait_for_itself(web: ScriptedWeb) -> None:
    script(web, [run("build"), run("release", None, "in_progress")])
    assert ci(web).state == "failed"
    assert ci(web, ignored=["release"]).state == "passed"
    script(web, [run("release", None, "in_progress")])
    assert "no checks at all" in ci(web, ignored=["release"]).found


def test_a_failure_on_a_later_page_is_seen(web: ScriptedWeb) -> None:
    script(web, [*(run(f"job {number}") for number in range(230)), run("last", "failure")])
    assert "last: failure" in ci(web).found
    assert len(web.requests) == 4


def test_checks_that_github_does_not_tell_are_not_taken_for_good(web: ScriptedWeb) -> None:
    script(web, [run("build")])
    web.answers[f"{ROOT}/check-runs"] = (200, {"total_count": 5, "check_runs": []})
    check = ci(web)
    assert (check.state, "0 of 5 were told" in check.found) == ("failed", True)


def test_checks_of_another_commit_are_not_taken_for_this_ones(web: ScriptedWeb) -> None:
    script(web, [{**run("build"), "head_sha": "f" * 40}])
    assert "another commit" in ci(web).found


@pytest.mark.parametrize("commit", ["", "main", "0123abc", COMMIT.upper()])
def test_a_name_that_may_be_another_commit_tomorrow_is_no_commit(web: ScriptedWeb, commit: str) -> None:
    check = ci(web, commit=commit)
    assert (check.state, "full SHA" in check.found) == ("failed", True)
    assert web.requests == []


def test_a_github_that_refuses_names_the_secret_and_not_the_token(
    web: ScriptedWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN_OF_TEST", "ghp_of_the_test")
    for status in (401, 403, 404):
        web.answers = {f"{ROOT}/check-runs": (status, {"message": "Bad credentials"})}
        check = ci(web, token="env:GITHUB_TOKEN_OF_TEST")
        assert check.state == "failed"
        assert f"it answered {status}" in check.found
        assert "env:GITHUB_TOKEN_OF_TEST" in check.next_step
        assert "ghp_of_the_test" not in check.model_dump_json()
    assert web.requests[-1][2]["Authorization"] == "Bearer ghp_of_the_test"


@pytest.mark.parametrize("fault", ["silent", "closed", "html", "shape", "503"])
def test_a_github_that_cannot_be_asked_fails_the_item(web: ScriptedWeb, fault: str) -> None:
    script(web, [run("build")])
    if fault in {"silent", "closed"}:
        web.seconds = 2 if fault == "silent" else None
    else:
        answers = {"html": (200, "<html>sign in</html>"), "shape": (200, {"runs": []}), "503": (503, {})}
        web.answers[f"{ROOT}/check-runs"] = answers[fault]
    assert ci(web).state == "failed"
    assert check_scan(preflight_for(ci={"repository": "team/api", "api_url": web.address}, scan={"kind": "check-run", "name": "build"})).state == "failed"  # fmt: skip


def test_a_scan_that_is_a_check_must_have_succeeded(web: ScriptedWeb) -> None:
    script(web, [run("build"), run("trivy"), run("old scan", "neutral")])
    for name, state in (("trivy", "passed"), ("old scan", "failed"), ("missing", "failed")):
        tables = {"ci": {"repository": "team/api", "api_url": web.address}, "scan": {"kind": "check-run", "name": name}}
        assert check_scan(preflight_for(**tables)).state == state


def test_what_nobody_configured_says_so() -> None:
    assert check_ci(preflight_for()).state == "not-configured"
    assert check_scan(preflight_for()).state == "not-configured"


@pytest.fixture
def scanned(s3_server: S3Server, aws_of_test: None) -> tuple[str, str]:
    """A repository with one image in moto's ECR, scanned: its name and the image's digest."""
    client = boto3.Session().client("ecr", region_name="eu-central-1")
    name = f"api-{secrets.token_hex(4)}"
    client.create_repository(repositoryName=name)
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "name": name})
    digest = client.put_image(repositoryName=name, imageManifest=manifest, imageTag="1.5")["image"]["imageId"][
        "imageDigest"
    ]
    client.start_image_scan(repositoryName=name, imageId={"imageDigest": digest})
    client.close()
    return name, digest


def ecr_scan(name: str, digest: str, later: timedelta = timedelta(0), **settings: Any) -> ReleaseCheck:
    repository = f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/{name}"
    release = release_with(
        checks={"scan": {"kind": "ecr", **settings}}, repository=repository, registry={"kind": "ecr"}
    )
    image = ResolvedImage(repository=repository, tag="1.5", digest=digest)
    return check_scan(preflight_for(release, images={KEY: image}, clock=lambda: datetime.now(UTC) + later))


def test_findings_of_ecr_fail_from_the_severity_on_that_was_asked_for(scanned: tuple[str, str]) -> None:
    check = ecr_scan(*scanned, fail_at="HIGH")
    assert (check.state, "findings: 1 HIGH" in check.found) == ("failed", True)
    check = ecr_scan(*scanned, fail_at="CRITICAL")
    assert check.state == "passed"
    assert next(iter(check.evidence["findings"].values())) == {"HIGH": 1}  # type: ignore[union-attr]


def test_an_old_scan_knows_too_little(scanned: tuple[str, str]) -> None:
    check = ecr_scan(*scanned, timedelta(days=8), fail_at="CRITICAL", age_days=7)
    assert (check.state, "8 days old" in check.found) == ("failed", True)


def test_a_scan_that_is_not_finished_or_was_never_made_fails(s3_server: S3Server, scanned: tuple[str, str]) -> None:
    name, digest = scanned
    going_on = {
        "imageScanFindings": {},
        "registryId": "123456789012",
        "repositoryName": name,
        "imageId": {"imageDigest": digest},
        "imageScanStatus": {"status": "IN_PROGRESS", "description": "going on"},
    }
    httpx.post(f"{s3_server.endpoint}/moto-api/static/ecr/scan-finding-results", json={"results": [going_on], "region": "eu-central-1"})  # fmt: skip
    check = ecr_scan(name, digest)
    assert (check.state, "the scan is IN_PROGRESS: going on" in check.found) == ("failed", True)
    client = boto3.Session().client("ecr", region_name="eu-central-1")
    fresh = client.put_image(
        repositoryName=name, imageManifest=json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST}), imageTag="1.6"
    )
    client.close()
    check = ecr_scan(name, fresh["image"]["imageId"]["imageDigest"])
    assert (check.state, "never scanned" in check.found) == ("failed", True)
    assert ecr_scan(name, NEW).state == "failed"


def test_an_ecr_that_does_not_answer_fails_the_item(scanned: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert ecr_scan(*scanned).state == "failed"
