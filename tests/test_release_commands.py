"""`nightshift release`, `rollback`, `release-recovery`, `releases`: what they take, what they refuse, and what the list tells."""

import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from typer.testing import CliRunner, Result

from core.fence import Fence
from core.release_journal import Event, Journal, journal_name, with_entry
from core.release_plan import ReleasePlan
from deployments.command import release as release_module
from deployments.command import terminal
from deployments.command.deploying import RECOVERY, ensure_releasing
from deployments.command.follow import RunView
from deployments.command.main import build_app
from deployments.command.prefect_api import Server
from deployments.command.release import waivers
from tasks.kubernetes_client import KubernetesClient
from tasks.release_journal import Journals
from tasks.release_lease import Lease
from tasks.release_records import keep_plan
from tasks.release_run import release_of
from tasks.secrets import signing_keys
from tests.fix_kubernetes import KubernetesApi
from tests.fix_object_store import S3Server
from tests.fix_release import Stage, release_settings

SERVER = Server("https://prefect.example.com/api", "https://prefect.example.com")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no cell of a table is broken, whoever made the console first."""
    monkeypatch.setattr(terminal.console, "_width", 160)


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(build_app(arguments), list(arguments), terminal_width=160)


# What they start


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The flows that were started, with their parameters; nothing runs, and each ends well."""
    found: list[tuple[str, dict[str, Any]]] = []

    def start(flow: str, _environment: str, parameters: dict[str, Any], *, quiet: bool) -> tuple[Server, RunView]:
        found.append((flow, parameters))
        return SERVER, RunView(UUID(int=1), flow, "COMPLETED", "Completed", "well", 1.0, 0.0)

    monkeypatch.setattr(release_module, "_run", start)
    return found


def test_release_starts_its_flow_with_what_was_said(asked: list[tuple[str, dict[str, Any]]]) -> None:
    wrong = run("release", "production", "v1.2.3", "--commit", "1F2E3D4C", "--frontend", "https://user@shop.test/x")
    assert (wrong.exit_code, asked) == (2, []) and "--frontend" in wrong.output
    result = run("release", "production", "v1.2.3", "--commit", "1F2E3D4C", "--schema-compatibility", "breaking", "--strategy", "rolling",
                 "--migrate-command", "npm run 'up now'", "--adopt", "--frontend", "dpl_9fXb3",
                 "--skip", "documentation=a hotfix, docs=later", "--requested-by", "ada")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert asked == [
        (
            "release",
            {
                "environment": "production",
                "image": "v1.2.3",
                "commit": "1f2e3d4c",
                "strategy": "rolling",
                "schema_compatibility": "breaking",
                "migrate": True,
                "migrate_command": ["npm", "run", "up now"],
                "adopt": True,
                "frontend": "dpl_9fXb3",
                "skip_checks": {"documentation": "a hotfix, docs=later"},
                "dry_run": False,
                "requested_by": "ada",
            },
        )
    ]


def test_rollback_and_recovery_start_theirs(asked: list[tuple[str, dict[str, Any]]]) -> None:
    assert run("rollback", "production", "--reason", "INC-7", "--requested-by", "ada").exit_code == 0
    assert run("release-recovery", "production").exit_code == 0
    decided = ("release-recovery", "production", "r-1f2e3d4c5b6a", "--decision", "back", "--reason", "INC-8")
    assert run(*decided).exit_code == 0
    assert [flow for flow, _ in asked] == ["rollback", RECOVERY, RECOVERY]
    assert asked[0][1] == {
        "environment": "production",
        "reason": "INC-7",
        "release_id": "",
        "dry_run": False,
        "requested_by": "ada",
    }
    assert asked[1][1] == {"environment": "production", "release_id": "", "decision": "", "reason": ""}
    assert asked[2][1]["decision"] == "back"


@pytest.mark.parametrize("flow", ["release", "rollback", RECOVERY])
def test_the_parameters_are_what_the_flows_take(flow: str, asked: list[tuple[str, dict[str, Any]]]) -> None:
    from flows.release import release
    from flows.release_recovery import release_recovery
    from flows.rollback import rollback

    arguments = {"release": ["v1", "--commit", "1f2e3d4c"], "rollback": ["--reason", "INC-7"], RECOVERY: []}[flow]
    assert run(flow, "production", *arguments).exit_code == 0
    [(_, parameters)] = asked
    found = next(one for one in (release, rollback, release_recovery) if one.name == flow)
    found.validate_parameters(parameters)


@pytest.mark.parametrize(
    "arguments",
    [
        ["release", "production", "v1"],
        ["release", "production", "v1", "--commit", "1f2e3d4c", "--skip", "documentation"],
        ["release", "production", "v1", "--commit", "1f2e3d4c", "--schema-compatibility", "perhaps"],
        ["release", "production", "v1", "--commit", "1f2e3d4c", "--no-migrate", "--migrate-command", "npm run up"],
        ["release", "production", "v1", "--commit", "0bad"],
        ["release", "production", "v1", "--commit", "1f2e3d4z"],
        ["release", "production", "v1", "--commit", "1" * 65],
        ["rollback", "production"],
        ["release-recovery", "production", "--decision", "back", "--reason", "INC-8"],
        ["release-recovery", "production", "r-1f2e3d4c5b6a", "--decision", "back"],
        ["release-recovery", "production", "--reason", "INC-8"],
    ],
)
def test_wrong_usage_ends_with_2_and_starts_nothing(
    arguments: Sequence[str], asked: list[tuple[str, dict[str, Any]]]
) -> None:
    assert run(*arguments).exit_code == 2
    assert asked == []


def test_a_commit_that_is_none_is_told_as_wrong_usage_and_help_says_what_one_is(
    asked: list[tuple[str, dict[str, Any]]],
) -> None:
    result = run("release", "production", "v1", "--commit", "0bad")
    assert result.exit_code == 2
    assert "'0bad' is no commit: 7 to 64" in " ".join(result.output.replace("│", " ").split())
    assert "7 to 64 hexadecimal" in " ".join(run("release", "--help").output.replace("│", " ").split())
    assert asked == []


@pytest.mark.parametrize("given", [["documentation"], ["=why"], ["ci= "], ["ci=a", "ci=b"]])
def test_a_waiver_has_an_item_and_a_reason_and_stands_there_once(given: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        waivers(given)


def test_what_recovers_is_deployed_before_what_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in between, a release without a recovery must not be possible."""
    from deployments.command import deploying

    done: list[str] = []
    monkeypatch.setattr(deploying, "ensure_deployment", lambda _s, _c, flow, _e, **_: done.append(flow))
    monkeypatch.setattr(deploying, "ensure_automations", lambda _c: done.append("automations"))
    ensure_releasing(SERVER, None, "production", quiet=True)  # type: ignore[arg-type]
    assert done == [RECOVERY, "release", "rollback", *deploying.WATCHING, "automations"]


def test_an_environment_that_releases_nothing_is_refused_before_anything_is_deployed() -> None:
    from core.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"no table \[release\]"):
        ensure_releasing(SERVER, None, "local", quiet=True)  # type: ignore[arg-type]


# The list


@pytest.fixture
def stage(kubernetes: KubernetesApi, stage_folder: Path, s3_server: S3Server, bucket: str) -> Iterator[Stage]:
    """An environment on the small API."""
    settings = release_settings(bucket, s3_server.endpoint, "default", "velero", "localhost/hello")
    with KubernetesClient.open(None) as client:
        found = Stage(stage_folder, settings, client, "default", "velero", str)
        found.write()
        yield found


def journaled(stage: Stage, *events: tuple[Event, str], commit: str = "2" * 40) -> Journal:
    """A release with its plan and a journal of these events."""
    environment = stage.environment
    release_id = f"r-{secrets.token_hex(6)}"
    plan = ReleasePlan(
        environment="stage",
        release_id=release_id,
        strategy="rolling",
        namespace="default",
        commit=commit,
        image="registry.example.com/team/hello@sha256:" + "ab" * 32,
        requested_by="ada",
        schema_compatibility="backward",
        targets=(),
    )
    keep_plan(environment, plan, "run")
    journal = Journal(
        environment="stage", release_id=release_id, plan_id=release_id, plan_sha256=plan.sha256, flow_run_id="run-1"
    )
    for event, step in events:
        facts: dict[str, str | int] = {"outcome": step} if event == "closed" else {}
        journal = with_entry(
            journal,
            signing_keys(environment)[0],
            at=datetime.now(UTC),
            fence=1,
            holder=release_id,
            event=event,
            step="" if event == "closed" else step,
            facts=facts,
        )
    Journals(stage.client, release_of(environment), "stage", signing_keys(environment)).write(None, journal)
    return journal


def hold(stage: Stage, release_id: str, *, renewed: datetime) -> Fence:
    """Have a release hold the lease, renewed last at a time."""
    return Lease(stage.client, release_of(stage.environment), "stage", lambda: renewed).take(release_id, "run-1", ())


def listed(*options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the document."""
    result = run("releases", "stage", "--json", *options)
    return result.exit_code, json.loads(result.stdout)


def test_a_finished_release_is_listed_with_all_that_is_known_of_it(stage: Stage) -> None:
    done = journaled(stage, ("opened", ""), ("intent", "roll out deployment/hello"), ("closed", "released"))
    code, document = listed()
    assert code == 0
    assert document["well"]
    assert document["holder"] is None
    (one,) = document["releases"]
    told = (one["release_id"], one["outcome"], one["commit"], one["requested_by"], one["open"])
    assert told == (done.release_id, "released", "2" * 40, "ada", False)
    text = run("releases", "stage")
    assert text.exit_code == 0
    assert "hello@abababababab" in text.output
    assert "nobody holds the lease" in text.output


def test_a_release_that_goes_on_is_well_and_shows_where_it_stands(stage: Stage) -> None:
    open_one = journaled(stage, ("opened", ""), ("intent", "roll out deployment/hello"))
    hold(stage, open_one.release_id, renewed=datetime.now(UTC))
    code, document = listed()
    assert code == 0
    assert document["holder"]["release_id"] == open_one.release_id
    assert document["holder"]["lives"]
    (one,) = document["releases"]
    assert (one["open"], one["left_in_the_middle"]) == (True, False)
    assert (one["last_entry"]["event"], one["last_entry"]["step"]) == ("intent", "roll out deployment/hello")
    assert "goes on: intent roll out deployment/hello" in run("releases", "stage").output


@pytest.mark.parametrize("held", [False, True])
def test_a_release_whose_holder_does_not_renew_was_left_in_the_middle_and_is_not_well(stage: Stage, held: bool) -> None:
    left = journaled(stage, ("opened", ""), ("intent", "roll out deployment/hello"))
    if held:
        hold(stage, left.release_id, renewed=datetime.now(UTC) - timedelta(seconds=31))
    code, document = listed()
    assert code == 1
    assert not document["well"]
    assert document["releases"][0]["left_in_the_middle"]
    text = run("releases", "stage").output
    assert "left: intent roll out" in text
    assert "nightshift release-recovery stage" in text
    assert ("its run seems dead" in text) == held


def test_an_edited_journal_is_told_and_the_others_are_listed(stage: Stage) -> None:
    good = journaled(stage, ("opened", ""), ("closed", "released"))
    bad = journaled(stage, ("opened", ""), ("closed", "released"))
    path = f"/api/v1/namespaces/velero/configmaps/{journal_name(bad.release_id)}"
    data = stage.client.get(path)["data"]["journal.json"]
    stage.client.merge(path, {"data": {"journal.json": data.replace('"released"', '"unchanged"')}})
    code, document = listed()
    assert code == 1
    problems = {one["release_id"]: one["problem"] for one in document["releases"]}
    assert problems[good.release_id] == ""
    assert "somebody edited it" in problems[bad.release_id]


def test_the_limit_leaves_out_old_ones_but_never_an_open_one(stage: Stage) -> None:
    left = journaled(stage, ("opened", ""))
    for _ in range(3):
        journaled(stage, ("opened", ""), ("closed", "released"))
    _, document = listed("--limit", "2")
    assert len(document["releases"]) == 2
    assert left.release_id in {one["release_id"] for one in document["releases"]}


def test_an_environment_that_releases_nothing_says_so() -> None:
    result = run("releases", "local")
    assert result.exit_code != 0
    assert "no table [release]" in str(result.exception)


def test_a_dead_holder_of_a_release_that_ended_is_told_too(stage: Stage) -> None:
    """Killed between closing its journal and giving the lease back: nobody else can begin until the sweep came by."""
    done = journaled(stage, ("opened", ""), ("closed", "released"))
    hold(stage, done.release_id, renewed=datetime.now(UTC) - timedelta(seconds=31))
    code, document = listed()
    assert (code, document["well"]) == (1, False)
    assert not document["releases"][0]["left_in_the_middle"]
    assert "its run seems dead" in run("releases", "stage").output


@pytest.mark.parametrize(("flow", "scheduled"), [("rollback", False), ("release", False), ("nightly-backup", True)])
def test_a_schedule_is_advised_only_for_what_may_have_one(
    flow: str, scheduled: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deployments.command import deploying

    monkeypatch.setattr(deploying, "deployment_exists", lambda _c, _n: False)
    monkeypatch.setattr(deploying, "load_environment", lambda _e: None)
    monkeypatch.setattr(deploying, "_deploy", lambda *_: None)
    deploying.ensure_deployment(SERVER, None, flow, "elsewhere", quiet=False)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert f"deployed {flow}/elsewhere" in said
    assert ("schedule" in said) == scheduled
