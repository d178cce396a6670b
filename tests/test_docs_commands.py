"""Every command that README and docs/ tell a reader to run: it exists, takes what it is given, and is run here or told why not."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
import typer
from cyclopts import CycloptsError
from typer.exceptions import TyperException

from deployments.command.main import build_app
from deployments.command.prefect_api import PREFECT
from tasks.environments import load_environment
from tests.fix_platform import NightshiftCommand
from tests.fix_postgres import PostgresServer

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]

# How blocks begin that are no commands, and what they are.
NO_COMMANDS = {
    "PREFIX/": "what lies in the bucket",
    "[": "a table of an environment's file",
    "NIGHTSHIFT_": "variables that override a key; they are set below",
}
SQL = ("CREATE", "GRANT", "ALTER", "REVOKE", "SELECT", "DROP")

# Run below, against a real server each.
RUN = ("nightshift --help", "nightshift check", "nightshift backup", "nightshift catalog", "nightshift evidence verify",
       "prefect work-pool create", "prefect --no-prompt deploy", "openssl", "export")  # fmt: skip
# Not run here, and why.
NOT_RUN = {
    "apt-get install": "changes the machine; tests/services/install.sh does it where CI runs",
    "make": "each installs or runs all the rest; what they call is run by other tests (test_platform, test_command)",
    ".": "makes `nightshift` be found; here the program's path is given",
    "nightshift up": "tests/test_machine.py runs it",
    "nightshift down": "tests/test_machine.py runs it",
    "nightshift status": "tests/test_machine.py runs it",
    "python -m deployments.local.prefect_database": "tests/test_machine.py runs it",
    "prefect server database upgrade": "tests/fix_distributed.py runs it",
    "prefect server start": "tests/fix_distributed.py runs it",
    "prefect server services start": "tests/fix_distributed.py runs it",
    "prefect flow-run delete": "tests/test_machine.py runs it",
    "git": "updates the checkout",
    "cp": "copies a file; tests/test_machine.py opens the copy that is put back",
    "rm": "as `cp`",
    "useradd": "changes the machine",
    "systemctl": "as `useradd`",
    "nightshift init": "asks; tests/test_init.py answers",
    "nightshift demo": "is `make demo`",
    "nightshift app-state-backup": "needs a cluster with Velero: tests/cluster",
    "nightshift drill": "tests/test_dr_drill.py runs its flow",
    "nightshift restore": "tests/test_restore_flow.py runs its flow",
    "nightshift undo-swap": "tests/test_restore_flow.py runs its flow",
    "nightshift automations": "tests/test_automations.py runs it",
    "nightshift release": "needs a cluster: tests/cluster",
    "nightshift rollback": "as `nightshift release`",
    "nightshift release-recovery": "as `nightshift release`",
    "nightshift releases": "tests/test_release_commands.py runs it",
    "nightshift watches": "tests/test_watches_command.py runs it",
    "nightshift judge": "tests/test_judge_command.py runs it",
    "nightshift metrics": "tests/test_metrics_command.py and tests/test_metrics_servers.py run it",
    "nightshift webhook": "tests/test_webhook_command.py and tests/test_webhook_receiver.py run it",
    "promtool": "tests/test_observability_files.py runs it",
    "velero": "another project's program, for looking by hand; needs a cluster",
    "kubectl": "as `velero`",
    "aws": "sets up an account; tests/test_github_workflows.py reads the policies that it is given",
    "gh": "asks GitHub",
    "docker": "there is no docker where the tests run; tests/test_image_files.py holds its files to their schema and to hadolint",
    "cd": "goes to a folder",
    "prefect variable set": "tests/cluster/test_kubernetes_worker.py sets it through the API, and deploys",
    "prefect worker start": "runs until it is ended: the platform's own worker is started so",
    "cat": "needs a backup's files as a folder; tests/test_decode.py decodes the same segments",
    "zstd": "as `cat`",
    "pg_restore": "as `cat`",
    "python -m benchmarks": "takes minutes on a quiet machine",
    "python -m deployments.environment_reference": "tests/test_environment_reference.py compares what it writes",
}


@dataclass(frozen=True)
class Command:
    """A command as a page has it. `mentioned`: it stands in a sentence, where it may go without what it needs to be run."""

    page: str
    words: tuple[str, ...]
    mentioned: bool = False

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def program(self) -> str:
        """Its program, however it is called."""
        return self.words[0].removeprefix(".venv/bin/")


def blocks_of(page: Path) -> Iterator[list[str]]:
    """The lines of each block that is set as code: fenced without a language or as a shell's, or indented by four columns or more."""
    text = re.sub(
        r"^```(\w*)\n(.*?)^```$",
        lambda fence: (
            "\n" + re.sub(r"^", "    ", fence[2], flags=re.MULTILINE) if fence[1] in ("", "sh", "bash") else ""
        ),
        page.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    for block in re.findall(r"(?:^|\n)[ \t]*\n((?: {4,}\S[^\n]*(?:\n|$))+)", text):
        yield [line.strip() for line in block.replace("\\\n", " ").splitlines()]


def commands_of(page: Path) -> Iterator[Command]:
    """Every command of a page: line by line, each command of a pipe or list by itself; and those that its sentences mention."""
    for block in blocks_of(page):
        if block[0].startswith((*NO_COMMANDS, *SQL)):
            continue
        for line in block:
            for words in split_line(line):
                yield Command(page.name, tuple(words))
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        if code.startswith(("nightshift ", "make ", "prefect ", ".venv/bin/")):
            yield from (Command(page.name, tuple(words), mentioned=True) for words in split_line(code))


def split_line(line: str) -> list[list[str]]:
    """Given a line of a shell, return the words of each of its commands."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands_of(page)))


def of_program(program: str) -> pytest.MarkDecorator:
    """Run a test for each command of a program."""
    found = [command for command in COMMANDS if command.program == program]
    return pytest.mark.parametrize("command", found, ids=[f"{command.page} {command}" for command in found])


def test_the_pages_have_commands() -> None:
    """Of each kind at least those that a new user begins with: a page set in another way must not go unread."""
    texts = {str(command).replace(".venv/bin/", "") for command in COMMANDS}
    begin = {"make demo", "nightshift backup mine", "nightshift check NAME", "prefect --no-prompt deploy --all"}
    assert begin | {"python -m benchmarks.backup --mib 1024 --pairs 5", "zstd -d"} <= texts


def test_each_command_is_run_here_or_stands_among_those_that_are_not() -> None:
    texts = {f"{command.page}: {command}": str(command).replace(".venv/bin/", "") for command in COMMANDS}
    unknown = [place for place, text in texts.items() if not any(begins(text, one) for one in (*RUN, *NOT_RUN))]
    assert unknown == []


def begins(text: str, known: str) -> bool:
    """Whether a command begins with these words; the last of them may be a module's package."""
    return re.match(rf"{re.escape(known)}(?=[\s.]|$)", text) is not None


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
    """Which of the command's targets and variables the Makefile does not have."""
    text = (CHECKOUT / "Makefile").read_text()
    missing = []
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
