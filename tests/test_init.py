"""`nightshift init`: what it asks, what it writes, and what it never does."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from core.checks import Check
from core.errors import ConfigurationError, NightshiftError
from core.signature import SigningKey
from deployments.command import init, init_questions
from deployments.command.new_environment import (
    MOST_LINES,
    Answers,
    add_deployments,
    deployment_entry,
    make_signing_key,
    mistake_at,
    rendered,
)
from deployments.command.server_probes import SERVER_CHECK
from tasks.environments import load_environment
from tasks.secrets import resolve

CHECKOUT = Path(__file__).resolve().parent.parent
GIVEN = ["--host", "db.example.com", "--name", "app", "--bucket", "backups", "--timezone", "Europe/Berlin"]
SECRET = "hunter2-Tr0ub4dor"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, a folder of environments and a prefect.yaml of this test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path / "environments"))
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "TZ"):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "prefect.yaml"
    file.write_text((CHECKOUT / "prefect.yaml").read_text())
    monkeypatch.setattr(init, "PREFECT_FILE", file)
    return tmp_path


@pytest.fixture
def run(home: Path) -> Callable[..., Result]:
    """Run the command with options, and text for its questions."""
    app = typer.Typer()
    app.command()(init.init_command)

    def run_command(*options: str, answers: tuple[str, ...] = ()) -> Result:
        return CliRunner().invoke(app, ["mine", "--no-check", *options], input="".join(f"{a}\n" for a in answers))

    return run_command


def file_of(home: Path) -> Path:
    return home / "environments" / "mine.toml"


def test_options_alone_make_a_file_of_at_most_fifteen_lines(run: Callable[..., Result], home: Path) -> None:
    result = run(*GIVEN, "--yes", "--password", "env:DB_PASSWORD")
    assert result.exit_code == 0, result.output
    text = file_of(home).read_text()
    assert len(text.splitlines()) <= MOST_LINES
    environment = load_environment("mine")
    assert environment.databases["app"].host == "db.example.com"
    assert environment.databases["app"].user == "nightshift_backup"
    assert environment.databases["app"].password == "env:DB_PASSWORD"
    assert environment.timezone == "Europe/Berlin"
    assert file_of(home).stat().st_mode & 0o777 == 0o644


def test_questions_make_the_same_file(run: Callable[..., Result], home: Path) -> None:
    result = run(
        answers=(
            "db.example.com", "", "app", "backup", "file:~/password", "kept-aside",
            "backups", "http://127.0.0.1:9000", "eu-central-1", "team/nightshift", "env:KEY_ID", "env:KEY",
            "Europe/Berlin",
        )
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    environment = load_environment("mine")
    assert environment.databases["app"].port == 5432
    assert environment.databases["app"].user == "backup"
    assert environment.store.endpoint_url == "http://127.0.0.1:9000"
    assert environment.store.region == "eu-central-1"
    assert environment.prefix == "team/nightshift"
    assert environment.store.secret_access_key == "env:KEY"
    assert resolve("file:~/password").get_secret_value() == "kept-aside"
    assert (home / "password").stat().st_mode & 0o777 == 0o600
    assert "kept-aside" not in result.output
    assert "kept-aside" not in file_of(home).read_text()


def test_an_answer_that_does_not_do_is_asked_again(run: Callable[..., Result]) -> None:
    result = run(
        answers=(
            "postgres://me@db/app", "db", "tcp", "6543", "5432", "app", "", "none",
            "s3://backups", "backups", "", "", "", "",
            "Europe/Berln", "Europe/Berlin",
        )
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.count("Error: ") == 5
    for told in ("a socket's folder", "a whole number", "transaction pooler", "bucket's name only", "Europe/Berlin?"):
        assert told in result.output
    assert load_environment("mine").databases["app"].password is None


def test_a_secret_in_place_of_a_reference_is_refused_and_not_repeated(run: Callable[..., Result], home: Path) -> None:
    answers = ("db", "", "app", "", SECRET, "env:PASSWORD", "backups", "", "", "", SECRET, "", "")
    result = run(answers=answers)
    assert result.exit_code == 0, result.output
    assert result.output.count("not a secret reference") == 2
    # Twice is what the terminal itself shows while it is typed.
    assert result.output.count(SECRET) == 2
    for option in ("--password", "--access-key-id", "--secret-access-key", "--signing-key"):
        result = run(*GIVEN, "--yes", "--force", option, SECRET)
        assert isinstance(result.exception, ConfigurationError), option
        assert SECRET not in str(result.exception)
        assert SECRET not in result.output
    assert SECRET not in file_of(home).read_text()


def test_a_missing_answer_is_told_by_its_option(run: Callable[..., Result], home: Path) -> None:
    result = run("--host", "db", "--name", "app", "--yes")
    assert isinstance(result.exception, ConfigurationError)
    assert "--bucket is missing" in str(result.exception)
    assert not file_of(home).exists()
    assert not (home / ".config").exists()


def test_one_half_of_a_key_pair_is_refused_before_anything_is_written(run: Callable[..., Result], home: Path) -> None:
    result = run(*GIVEN, "--yes", "--secret-access-key", "env:B")
    assert "access_key_id and secret_access_key go together" in str(result.exception)
    assert not file_of(home).exists()


def test_an_existing_file_is_replaced_only_by_force(run: Callable[..., Result], home: Path) -> None:
    file = file_of(home)
    file.parent.mkdir()
    file.write_text("# written by hand\n")
    result = run(*GIVEN, "--yes")
    assert isinstance(result.exception, ConfigurationError)
    assert "--force" in str(result.exception)
    assert file.read_text() == "# written by hand\n"
    assert run(*GIVEN, "--yes", "--force").exit_code == 0
    assert "db.example.com" in file.read_text()
    # What stood there may be all that names its databases.
    assert file.with_name(f"{file.name}.before").read_text() == "# written by hand\n"


def test_a_name_that_is_a_path_is_refused(home: Path) -> None:
    app = typer.Typer()
    app.command()(init.init_command)
    result = CliRunner().invoke(app, ["../evil", *GIVEN, "--yes"])
    assert isinstance(result.exception, ConfigurationError)
    assert sorted(file.name for file in home.iterdir()) == ["prefect.yaml"]


def test_the_signing_key_is_random_private_and_never_overwritten(run: Callable[..., Result], home: Path) -> None:
    result = run(*GIVEN, "--yes")
    key_file = home / ".config" / "nightshift" / "mine.signing-key"
    first = key_file.read_text()
    assert re.fullmatch(r"[0-9a-f]{64}\n", first)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert key_file.parent.stat().st_mode & 0o777 == 0o700
    assert first.strip() not in result.output
    assert "Keep a copy outside of the bucket and of this machine" in result.output
    reference = load_environment("mine").signing.key
    assert SigningKey("hmac-sha256", resolve(reference).get_secret_value()).key_id
    result = run(*GIVEN, "--yes", "--force")
    assert key_file.read_text() == first
    assert "which was there" in result.output


def test_a_signing_key_that_is_given_is_used_and_none_is_made(run: Callable[..., Result], home: Path) -> None:
    assert run(*GIVEN, "--yes", "--signing-key", "env:SIGNING_KEY").exit_code == 0
    assert load_environment("mine").signing.key == "env:SIGNING_KEY"
    assert not (home / ".config").exists()


def test_two_keys_made_differ(tmp_path: Path) -> None:
    assert make_signing_key(tmp_path / "a") and make_signing_key(tmp_path / "b")
    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()
    assert not make_signing_key(tmp_path / "a")


def test_the_deployment_is_added_once_and_the_rest_of_the_file_stays(run: Callable[..., Result], home: Path) -> None:
    file = home / "prefect.yaml"
    before = file.read_text()
    assert run(*GIVEN, "--yes").exit_code == 0
    text = file.read_text()
    assert text.startswith(before.rstrip())
    deployments = yaml.safe_load(text)["deployments"]
    mine = [entry for entry in deployments if entry["name"] == "mine"]
    assert [entry["entrypoint"] for entry in mine] == [
        "flows.nightly_backup.nightly_backup",
        "flows.dr_drill.dr_drill",
    ]
    assert [entry["schedules"] for entry in mine] == [
        [{"slug": "nightly", "cron": "0 2 * * *", "timezone": "Europe/Berlin"}],
        [{"slug": "daily", "cron": "0 4 * * *", "timezone": "Europe/Berlin"}],
    ]
    for entry in mine:
        production = next(
            one for one in deployments if one["name"] == "production" and one["entrypoint"] == entry["entrypoint"]
        )
        assert entry["parameters"] == {"environment": "mine"}
        assert {**entry, "name": "", "parameters": {}} == {**production, "name": "", "parameters": {}}
    again = run(*GIVEN, "--yes", "--force").output
    assert "added nightly-backup/mine" not in again
    assert "added dr-drill/mine" not in again
    assert file.read_text() == text


def test_an_entry_of_another_flow_is_not_taken_for_the_backups(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    other = (
        "  - name: mine\n    entrypoint: flows.app_state_backup.app_state_backup\n    parameters: {environment: mine}\n"
    )
    file.write_text((CHECKOUT / "prefect.yaml").read_text() + other)
    assert add_deployments(file, "mine", "UTC") == ("nightly-backup", "dr-drill")
    assert [entry["entrypoint"].split(".")[-1] for entry in yaml.safe_load(file.read_text())["deployments"][-3:]] == [
        "app_state_backup",
        "nightly_backup",
        "dr_drill",
    ]


def test_one_that_has_its_backup_from_before_gets_the_drill(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    text = (CHECKOUT / "prefect.yaml").read_text()
    file.write_text(f"{text}\n{deployment_entry('nightly-backup', 'mine', 'UTC')}")
    assert add_deployments(file, "mine", "UTC") == ("dr-drill",)
    assert yaml.safe_load(file.read_text())["deployments"][-1]["schedules"][0]["cron"] == "0 4 * * *"
    assert add_deployments(file, "mine", "UTC") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("deployments:\n  - name: a\n<<<<<<< Updated upstream\n  - name: b\n=======\n", "it is no YAML: line "),
        ("", "with a list `deployments:`"),
        ("deployments: 3\n", "with a list `deployments:`"),
    ],
)
def test_a_prefect_file_with_a_conflict_in_it_is_told_in_a_line_and_left_alone(
    run: Callable[..., Result], home: Path, text: str, told: str
) -> None:
    file = home / "prefect.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="it may hold a conflict"):
        add_deployments(file, "mine", "UTC")
    result = run(*GIVEN, "--yes")
    assert result.exit_code == 0, result.output
    assert "prefect.yaml was left alone (could not read the deployments" in result.output
    assert told in result.output
    assert file.read_text() == text


def test_a_prefect_file_of_another_layout_is_left_alone_and_the_entry_shown(
    run: Callable[..., Result], home: Path
) -> None:
    file = home / "prefect.yaml"
    for text in ("deployments: []\nname: other\n", "name: other\n", "deployments:\n  - name: a\n"):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match="by hand"):
            add_deployments(file, "mine", "UTC")
        assert file.read_text() == text
    result = run(*GIVEN, "--yes")
    assert result.exit_code == 0
    assert "parameters: {environment: mine}" in result.output
    file.unlink()
    assert "parameters: {environment: mine}" in run(*GIVEN, "--yes", "--force").output


def test_every_answer_at_once_still_fits_into_fifteen_lines() -> None:
    everything = Answers(
        environment="mine",
        bucket="backups",
        host="db.example.com",
        name='a "quoted" name',
        user="backup",
        port=5433,
        password="file:/p",
        region="eu-central-1",
        prefix="team/x",
        endpoint_url="https://s3.example.com",
        access_key_id="env:A",
        secret_access_key="env:B",
        signing_key="env:C",
        timezone="Europe/Berlin",
    )
    text = rendered(everything)
    assert len(text.splitlines()) <= MOST_LINES
    assert tomllib.loads(text) == everything.as_document()


def test_a_mistake_is_told_for_its_own_key_alone() -> None:
    assert mistake_at(("store", "bucket"), "backups") == ""
    assert mistake_at(("timezone",), "UTC") == ""
    assert mistake_at(("databases", "app", "port"), 70000).startswith("databases.app.port: found 70000")


@pytest.mark.parametrize(("state", "code"), [("passed", 0), ("warning", 0), ("failed", 1)])
def test_the_checks_result_is_the_commands(home: Path, monkeypatch: pytest.MonkeyPatch, state: Any, code: int) -> None:
    result = run_with_checks(monkeypatch, Check(name="bucket", state=state, found="x"))
    assert result.exit_code == code
    assert not isinstance(result.exception, NightshiftError)


@pytest.mark.parametrize(
    ("server", "bucket", "steps"),
    [
        ("passed", "passed", ["nightshift backup mine"]),
        ("warning", "passed", ["make up", "nightshift backup mine"]),
        ("passed", "failed", ["nightshift check mine", "nightshift backup mine"]),
    ],
)
def test_what_is_next_is_what_was_not_just_done(
    home: Path, monkeypatch: pytest.MonkeyPatch, server: Any, bucket: Any, steps: list[str]
) -> None:
    checks = Check(name=SERVER_CHECK, state=server, found="x"), Check(name="bucket", state=bucket, found="x")
    assert steps_in(run_with_checks(monkeypatch, *checks).output) == steps


def test_without_checks_all_steps_are_next(run: Callable[..., Result]) -> None:
    steps = steps_in(run(*GIVEN, "--yes").output)
    assert steps == ["make up", "nightshift check mine", "nightshift backup mine"]


def steps_in(output: str) -> list[str]:
    """The commands that stand under "Next:"."""
    lines = output.split("\nNext:\n")[1].splitlines()
    return [line[2:].split("   ")[0] for line in lines if not line.startswith("   ")]


def run_with_checks(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> Result:
    monkeypatch.setattr(init, "show_checks", lambda _environment: list(checks))
    app = typer.Typer()
    app.command()(init.init_command)
    return CliRunner().invoke(app, ["mine", *GIVEN, "--yes"])


def test_the_machines_time_zone_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, zone in (("America/New_York", "America/New_York"), (":Europe/Paris", "Europe/Paris"), ("Etc/UTC", "UTC")):
        monkeypatch.setenv("TZ", told)
        assert init_questions.machine_timezone() == zone


@pytest.mark.parametrize(("zone", "told"), [("UTC", True), ("Europe/Berlin", False)])
def test_the_time_zone_is_told_and_utc_is_not_taken_silently(run: Callable[..., Result], zone: str, told: bool) -> None:
    output = run(*GIVEN[:-1], zone, "--yes").output
    assert f"time zone {zone}: " in output
    assert ("If yours is another" in output) == told
