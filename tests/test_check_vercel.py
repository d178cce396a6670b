"""`nightshift check` and the front end: an environment that releases one is ready only when Vercel and CloudFront are what its file says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import typer
from typer.testing import CliRunner

from core.checks import Check
from core.environment_frontend import Frontend
from core.frontend_checks import deployments_check, domain_problem, project_check
from deployments.command.check import check_command
from deployments.command.frontend_probes import frontend_probes
from deployments.command.probes import run_probes
from deployments.command.release_probes import release_probes
from tasks.web_api import Limits
from tests.fix_object_store import environment_for
from tests.fix_preflight import release_with
from tests.fix_release import release_settings
from tests.fix_vercel import DOMAIN, NEW, OLD, PROJECT, SECOND, TOKEN, Vercel, distribution
from tests.fix_web_script import Asked, Reply

# Far longer than the pause between two letters, or a busy machine's pause is taken for a server that says nothing.
PATIENCE = Limits(
    attempts=2, connect_seconds=2, read_seconds=2, answer_seconds=2, answer_bytes=1024, patience_seconds=2
)
VERCEL, NEWEST, CLOUDFRONT = "release: Vercel project", "release: Vercel deployments", "release: CloudFront"


@pytest.fixture
def settings(vercel: Vercel) -> dict[str, Any]:
    return vercel.settings("https://www.shop.test")


def rows(settings: dict[str, Any]) -> dict[str, Check]:
    """The rows that are about the front end; never the token in them, and nothing is written."""
    found = {one.name: one for each in run_probes(frontend_probes(release_with(frontend=settings))) for one in each}
    assert not [one for one in found.values() if TOKEN in one.model_dump_json()]
    return found


def failed(settings: dict[str, Any]) -> dict[str, Check]:
    return {name: one for name, one in rows(settings).items() if one.state == "failed"}


@pytest.mark.services
def test_a_front_end_that_is_ready_has_a_row_for_each_part(
    vercel: Vercel, settings: dict[str, Any], aws_of_test: None
) -> None:
    name = distribution()
    found = rows({**settings, "distribution": name})
    assert list(found) == [VERCEL, NEWEST, f"release: domain {DOMAIN}", f"release: domain {SECOND}", CLOUDFRONT]
    assert {one.state for one in found.values()} == {"passed"}, found
    assert f"belongs to {PROJECT}, is on {OLD}" in found[f"release: domain {DOMAIN}"].found
    assert f"the newest for production is {NEW}, READY" in found[NEWEST].found
    assert found[CLOUDFRONT].found.startswith(f"{name}: Deployed")
    assert {one.method for one in vercel.web.asked} == {"GET"}


def test_an_environment_without_a_front_end_is_not_asked_for_one(settings: dict[str, Any]) -> None:
    def names(release: Any) -> list[str]:
        environment = environment_for("bucket-name", "http://127.0.0.1:1").model_copy(update={"release": release})
        return [one.name for one in release_probes(environment)]

    assert VERCEL not in names(release_with())
    assert [one for one in names(release_with(frontend=settings)) if one not in names(release_with())] == [VERCEL]


@pytest.mark.parametrize(
    ("wrong", "name", "told", "next_step"),
    [
        ({"project": "prj_another"}, VERCEL, "it answered 404", "release.frontend.project, team and domains"),
        ({"team": "team_another"}, VERCEL, "it answered 404", "release.frontend.project, team and domains"),
        ({"token": "env:NS_ANOTHER"}, VERCEL, "it answered 403", "release.frontend.token = env:NS_ANOTHER"),
        ({"token": "env:NS_NOTHING"}, VERCEL, "this process has no such variable", "Set NS_NOTHING"),
        ({"address": "http://127.0.0.1:9"}, VERCEL, "no answer: ConnectError", "Check that the worker reaches it"),
        (
            {"domains": [DOMAIN, "foreign.test"]},
            "release: domain foreign.test",
            "it answered 404",
            "release.frontend.project, team and domains",
        ),
        pytest.param(
            {"distribution": "E2NOTHERE"},
            CLOUDFRONT,
            "there is no such distribution",
            "Correct release.frontend.distribution",
            marks=pytest.mark.services,
        ),
    ],
)
def test_what_the_file_has_wrong_fails_and_says_what_to_do(  # noqa: PLR0917 - fixtures
    settings: dict[str, Any],
    aws_of_test: None,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
    name: str,
    told: str,
    next_step: str,
) -> None:
    monkeypatch.setenv("NS_ANOTHER", "vcp_of-somebody-else-0123456789")
    found = failed({**settings, **wrong})
    assert list(found) == [name]
    assert told in found[name].found, found
    assert next_step in found[name].next_step


@pytest.mark.services
def test_aws_that_does_not_let_us_look_at_the_distribution_fails(
    settings: dict[str, Any], aws_of_test: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = Vercel().web
    web.always(b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>", 403)
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
    found = failed({**settings, "distribution": "E2EXAMPLE"})
    web.close()
    assert list(found) == [CLOUDFRONT]
    assert found[CLOUDFRONT].next_step == "Allow cloudfront:GetDistribution to the worker's role"


@pytest.mark.parametrize(
    ("change", "name", "state", "told"),
    [
        (lambda one: one.project.update(rollingRelease={"target": "x"}), VERCEL, "failed", "has rolling releases"),
        (lambda one: one.project.update(autoAssignCustomDomains=True), VERCEL, "warning", "before any release"),
        (lambda one: one.project.update(id="prj_other"), VERCEL, "failed", "tells of project prj_other"),
        (lambda one: one.deployments.clear(), NEWEST, "warning", "no deployment for production yet"),
        (lambda one: one.domains.pop(DOMAIN), f"release: domain {DOMAIN}", "failed", "it answered 404"),
        (
            lambda one: one.its_domains[SECOND].update(projectId="prj_other"),
            f"release: domain {SECOND}",
            "failed",
            "it belongs to project prj_other",
        ),
        (
            lambda one: one.its_domains[SECOND].update(verified=False),
            f"release: domain {SECOND}",
            "failed",
            "it is not verified",
        ),
        (
            lambda one: one.its_domains[SECOND].update(redirect=DOMAIN),
            f"release: domain {SECOND}",
            "failed",
            f"it redirects to {DOMAIN}",
        ),
        (
            lambda one: one.its_domains[SECOND].update(gitBranch="next"),
            f"release: domain {SECOND}",
            "failed",
            "it follows the branch next",
        ),
    ],
)
def test_what_is_otherwise_at_vercel_is_told(  # noqa: PLR0917 - fixtures
    vercel: Vercel, settings: dict[str, Any], change: Callable[[Vercel], object], name: str, state: str, told: str
) -> None:
    change(vercel)
    found = {one: check for one, check in rows(settings).items() if check.state != "passed"}
    assert [(one, check.state) for one, check in found.items()] == [(name, state)], found
    assert told in found[name].found
    assert found[name].next_step


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(b"<html>sign in</html>"), "the answer is no JSON"),
        (Reply(["a", "list"]), "it is no object"),
        (Reply({}), "tells of no project"),
        (Reply({}, 500), "it answered 500"),
        (Reply({"deployments": "many", "id": PROJECT}), "answers with no list of deployments"),
        (Reply({"deployments": [{"projectId": "prj_other"}], "id": PROJECT, "projectId": PROJECT}), "of prj_other"),
    ],
)
def test_rubbish_and_a_broken_server_are_no_ready_front_end(
    vercel: Vercel, settings: dict[str, Any], reply: Reply, told: str
) -> None:
    vercel.web.reply = lambda _asked: reply
    assert told in next(iter(failed(settings).values())).found


@pytest.mark.services
def test_a_vercel_that_never_answers_fails_in_bounded_time(
    vercel: Vercel, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.command.frontend_probes._LIMITS", PATIENCE)
    vercel.web.always({"id": PROJECT}, header_drip=0.05)
    (found,) = failed(settings).values()
    assert "did not answer within 2 s" in found.found
    assert found.next_step == "Check its health"


def test_a_server_that_repeats_the_token_has_it_masked(vercel: Vercel, settings: dict[str, Any]) -> None:
    def echo(asked: Asked) -> Reply:
        return Reply({"error": f"{asked.headers['authorization']} may not"}, 403)

    vercel.web.reply = echo
    assert "Bearer *****" in failed(settings)[VERCEL].found


def test_the_command_shows_its_lines_and_never_the_token(
    vercel: Vercel, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "NIGHTSHIFT_DATA": str(tmp_path / "no-platform"),
        "NIGHTSHIFT_ENVIRONMENTS": str(tmp_path),
        "NIGHTSHIFT_TEST_SIGNING_KEY": "a signing key of more than thirty-two characters",
        "KUBECONFIG": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    document = release_settings("backups", "http://127.0.0.1:9", "shop", "nightshift", "registry.test/hello")
    document["release"]["frontend"] = {**settings, "domains": [DOMAIN, "foreign.test"]}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(document))
    app = typer.Typer()
    app.command()(check_command)
    result = CliRunner().invoke(app, ["mine"])
    assert result.exit_code == 1
    for begin in (
        "✔ secret release.frontend.token",
        f"✔ {VERCEL}  {PROJECT}",
        f"✔ {NEWEST}",
        f"✔ release: domain {DOMAIN}",
        "✘ release: domain foreign.test",
    ):
        assert any(line.startswith(begin) for line in result.output.splitlines()), (begin, result.output)
    assert TOKEN not in result.output


def test_what_vercel_leaves_out_is_no_problem_of_ours(settings: dict[str, Any]) -> None:
    frontend = Frontend.model_validate(settings)
    assert domain_problem({"projectId": PROJECT}, frontend) == ""
    assert "no project" in domain_problem({}, frontend)
    assert project_check({"id": PROJECT, "name": "shop"}, frontend).state == "passed"
    assert deployments_check({"deployments": [{"id": NEW}]}, frontend).state == "passed"
