"""Every command that README and docs/ tell a reader to run: it exists, takes what it is given, and is run here or told why not."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import prefect.settings
import pytest
import typer
from botocore import xform_name
from botocore.validate import ParamValidator
from cyclopts import CycloptsError
from typer.exceptions import TyperException

from deployments.command.main import build_app
from deployments.command.prefect_api import PREFECT
from tasks.environments import load_environment
from tests.docs_pages import CHECKOUT, COMMANDS, PAGES, SQL, Command, blocks_of, split_line
from tests.docs_record import NAMES, NOT_RUN, READ, RUN_ELSEWHERE, form_of
from tests.fix_platform import NightshiftCommand
from tests.fix_postgres import PostgresServer


def of_program(program: str) -> pytest.MarkDecorator:
    """Run a test for each command of a program."""
    found = [command for command in COMMANDS if command.program == program]
    return pytest.mark.parametrize("command", found, ids=[f"{command.page} {command}" for command in found])


def test_the_pages_have_commands() -> None:
    """Of each kind at least those that a new user begins with: a page set in another way must not go unread."""
    texts = {str(command).replace(".venv/bin/", "") for command in COMMANDS}
    begin = {"make demo", "nightshift backup mine", "nightshift check NAME", "prefect --no-prompt deploy --all"}
    assert begin | {"python -m benchmarks.backup --mib 1024 --pairs 5", "zstd -d"} <= texts


def test_each_command_is_run_by_a_test_or_stands_among_those_that_are_not() -> None:
    known = {*READ, *RUN_ELSEWHERE, *NOT_RUN}
    forms = {form_of(command): command for command in COMMANDS if not is_a_name(command, known)}
    unknown = [f"{command.page}: {form}" for form, command in forms.items() if form not in known]
    assert unknown == [], "run it in test_docs_read, or say in docs_record why it is not run"
    named = {form_of(command) for command in COMMANDS if command.mentioned} & NAMES
    assert (known - forms.keys(), NAMES - named) == (set(), set()), "no page has it any more"
    assert len(known) == len(READ) + len(RUN_ELSEWHERE) + len(NOT_RUN), "in one table each"


def is_a_name(command: Command, known: set[str]) -> bool:
    """Whether a sentence only calls a command by its name, without what it needs to be run: the whole one is known, or nobody is told to type it."""
    form = form_of(command)
    whole_is_known = any(one.startswith(f"{form} ") for one in known)
    return command.mentioned and form not in known and (whole_is_known or form in NAMES)


@pytest.mark.parametrize("form", ["nightshift check", "make"])
def test_a_name_alone_is_excused_in_a_sentence_and_not_in_a_block(form: str) -> None:
    known = {"nightshift check ENV", "make up"}
    words = tuple(form.split())
    assert is_a_name(Command("a page", words, mentioned=True), known)
    assert not is_a_name(Command("a page", words), known)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a platform nor a Prefect profile."""
    for name in ("NIGHTSHIFT_DATA", "PREFECT_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("DO_NOT_TRACK", "1")


@of_program("nightshift")
def test_nightshift_takes_what_it_is_given(command: Command, alone: None) -> None:
    assert wrong_for_nightshift(command) == ""


def wrong_for_nightshift(command: Command) -> str:
    """What is wrong with the command's arguments, read as they are when it is run; "" when nothing is. Nothing is carried out."""
    arguments = list(command.words[1:])
    found: Any = typer.main.get_command(build_app(arguments))
    while hasattr(found, "commands") and arguments and not arguments[0].startswith("-"):
        if arguments[0] not in found.commands:
            return f"there is no {arguments[0]}"
        found = found.commands[arguments.pop(0)]
    try:
        found.make_context(str(command), arguments)
    except typer.Exit as asked_for_help:
        return "" if asked_for_help.exit_code == 0 else f"exit code {asked_for_help.exit_code}"
    except TyperException as wrong:
        # In a sentence `nightshift backup` alone is a name for the command.
        kind = type(wrong).__name__
        return "" if command.mentioned and kind == "MissingParameter" else f"{kind}: {wrong}"
    return ""


@of_program("make")
def test_make_has_the_target(command: Command) -> None:
    assert wrong_for_make(command) == ""


def wrong_for_make(command: Command) -> str:
    """What make says of the command's targets, which it does not carry out, or which of its variables the Makefile does not have."""
    text = (CHECKOUT / "Makefile").read_text()
    asked = ["make", "-n", *command.words[1:]]
    done = subprocess.run(asked, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    missing = [done.stderr.strip()] if done.returncode else []
    for word in command.words[1:]:
        name, is_variable, _ = word.partition("=")
        if not re.search(rf"^{name} \?=" if is_variable else rf"^{name}:.*## ", text, re.MULTILINE):
            missing.append(word)
    return ", ".join(missing)


@of_program("prefect")
def test_prefect_takes_what_it_is_given(command: Command) -> None:
    assert wrong_for_prefect(command) == ""


def wrong_for_prefect(command: Command) -> str:
    """What Prefect says is wrong with the command's arguments; "" when nothing is. Nothing is carried out."""
    from prefect.cli._app import _app

    arguments = [word for word in command.words[1:] if word != "--no-prompt"]
    try:
        _app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize(
    "line",
    [
        "nightshift bakup mine",
        "nightshift backup",
        "nightshift backup mine --databse app",
        "nightshift evidence verfy mine",
        "make deom",
        "make demo ROW=5",
        "prefect deploi --all",
        "prefect --no-prompt deploy --al",
        "prefect work-pool creat nightshift",
    ],
)
def test_a_command_that_is_not_right_is_found_out(line: str, alone: None) -> None:
    [words] = split_line(line)
    readers = {"nightshift": wrong_for_nightshift, "make": wrong_for_make, "prefect": wrong_for_prefect}
    assert readers[words[0]](Command("no page", tuple(words))) != ""


@pytest.mark.services
@of_program("python")
def test_a_module_has_the_options(command: Command) -> None:
    assert command.words[1] == "-m"
    module, options = command.words[2], [word for word in command.words[3:] if word.startswith("-")]
    assert importlib.util.find_spec(module) is not None
    if options:
        arguments = [sys.executable, "-m", module, "--help"]
        told = subprocess.run(arguments, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
        assert [option for option in options if not re.search(rf"{option}\b", told)] == []


@of_program("export")
def test_exported_variables_are_known(command: Command) -> None:
    for assignment in command.words[1:]:
        name = assignment.partition("=")[0]
        assert hasattr(prefect.settings, name), name


def test_the_overriding_variables_of_the_pages_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    lines = [
        line for page in PAGES for block in blocks_of(page) if block[0].startswith("NIGHTSHIFT_") for line in block
    ]
    assert lines
    for line in lines:
        [variable, value] = shlex.split(line)[0].split("=", 1)
        name = variable.removeprefix("NIGHTSHIFT_").partition("__")[0].lower().replace("_", "-")
        (tmp_path / f"{name}.toml").write_text((CHECKOUT / "deployments/environments/local.toml").read_text())
        before = load_environment(name)
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert load_environment(name) != before, line


@of_program("openssl")
def test_keys_are_made_as_the_page_says(command: Command) -> None:
    made = subprocess.run(command.words, capture_output=True, text=True, check=True).stdout
    assert len(made.strip()) == 64 or "BEGIN PRIVATE KEY" in made


def test_the_sql_of_the_pages_is_right(postgres_16: PostgresServer) -> None:
    blocks = [block for page in PAGES for block in blocks_of(page) if block[0].startswith(SQL)]
    assert blocks
    for block in blocks:
        with postgres_16.connect(autocommit=False) as session:
            session.execute("\n".join(block).encode())
            session.rollback()


@of_program("aws")
def test_aws_takes_what_it_is_given(command: Command) -> None:
    """As its own description of the call has it: names, types and what must not be missing; a document is read from its file."""
    service, operation, *options = command.words[1:]
    model = botocore.session.Session().get_service_model(service)
    name = next(one for one in model.operation_names if xform_name(one, "-") == operation)
    shape = model.operation_model(name).input_shape
    given = {xform_name(member, "-"): (member, kind.type_name) for member, kind in shape.members.items()}
    values: dict[str, Any] = {}
    for option, value in zip(options[::2], options[1::2], strict=True):
        member, kind = given[option.removeprefix("--")]
        text = value
        if value.startswith("file://"):
            text = (CHECKOUT / value.removeprefix("file://")).read_text()
            json.loads(text)
        values[member] = [text] if kind == "list" else text
    report = ParamValidator().validate(values, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.services
@pytest.mark.xdist_group("platform")
def test_the_first_commands_of_the_readme_work_on_a_platform(nightshift: NightshiftCommand) -> None:
    code, out, err = ended(nightshift("backup", "local"))
    assert code == 0, out + err
    assert "decoded" in out
    checked, listed, verified = (
        nightshift(*arguments)
        for arguments in (("check", "local"), ("catalog", "local"), ("evidence", "verify", "local"))
    )
    code, out, err = ended(checked)
    assert code == 0, out + err
    assert "local is ready" in out
    # As README says: 1 while nothing is proven.
    code, out, err = ended(listed)
    assert code == 1, out + err
    assert "✔ app: recovery point" in out
    assert "no backup is proven yet" in out
    code, out, err = ended(verified)
    assert code == 0, out + err
    assert "whole" in out


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=150)
    return process.returncode, out, err


@pytest.mark.services
@pytest.mark.xdist_group("prefect")
def test_a_server_of_ones_own_gets_the_pool_and_every_deployment(prefect_server: str) -> None:
    import yaml
    from prefect.client.orchestration import get_client

    page = [str(command) for command in COMMANDS if command.page == "backup.md" and command.program == "prefect"]
    for command in page[:2]:
        assert "work-pool create" in command or "deploy --all" in command
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [PREFECT, *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "PREFECT_API_URL": prefect_server},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    entries = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
    with get_client(sync_client=True) as client:
        for entry in entries:
            flow = entry["entrypoint"].rpartition(".")[2].replace("_", "-")
            deployment = client.read_deployment_by_name(f"{flow}/{entry['name']}")
            assert deployment.parameters == entry["parameters"]
            assert [schedule.schedule.cron for schedule in deployment.schedules] == [
                schedule["cron"] for schedule in entry["schedules"]
            ]
