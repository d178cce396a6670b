"""The `nightshift` command: its table of contents, its exit codes, --json, and what it says when there is nobody to speak to."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import typer
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from core.errors import ConfigurationError, PermanentError, TemporaryError
from deployments.command import prefect_api, run_flow, terminal
from deployments.command.deploying import ensure_deployment
from deployments.command.follow import ProgressView, RunView, StepView
from deployments.command.main import CONTENTS, build_app
from deployments.command.prefect_api import Server, find_server, server_of
from deployments.command.run_display import show_run
from deployments.command.run_flow import end_command, how_to_cancel
from deployments.local.data_folder import CHECKOUT
from deployments.local.platform import Platform
from tests.fix_platform import NightshiftCommand, start_nightshift

with_platform = pytest.mark.xdist_group("platform")


COMMANDS = {
    "Try it": ["demo", "demo-release", "try"],
    "This machine": ["up", "down", "status"],
    "Set up": ["init", "check", "automations"],
    "Every day": ["backup", "app-state-backup", "restore", "undo-swap", "catalog"],
    "Release": ["release", "rollback", "release-recovery", "releases", "watches", "webhook"],
    "Prove": ["judge", "drill", "evidence", "metrics"],
}


def test_help_reads_like_a_table_of_contents() -> None:
    result = CliRunner().invoke(build_app([]), ["--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}, terminal_width=120)
    assert result.exit_code == 0
    headings = {
        line.split("─")[1].strip(): number
        for number, line in enumerate(result.output.splitlines())
        if line.startswith("╭─ ")
    }
    assert [heading for heading in headings if heading in COMMANDS] == list(COMMANDS)
    lines = result.output.splitlines()
    for heading, commands in COMMANDS.items():
        first = headings[heading] + 1
        rows = []
        for line in lines[first:]:
            if line.startswith("╰"):
                break
            rows.append(line)
        named = [row.split()[1] for row in rows if row.startswith("│ ") and row[2] != " "]
        assert named == commands


@pytest.mark.parametrize("command", [entry.name for entry in CONTENTS])
def test_each_command_explains_itself_and_its_options(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**alone(tmp_path), "DO_NOT_TRACK": "1"}.items():
        monkeypatch.setenv(name, value)
    arguments = [command, "--help"]
    result = CliRunner().invoke(build_app(arguments), arguments, terminal_width=120)
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert "Stands for" not in result.output


@pytest.mark.parametrize("command", [entry.name for entry in CONTENTS])
def test_no_help_text_loses_what_it_has_in_brackets(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich takes [servers.NAME] for a style of its own, and says nothing."""
    for name, value in {**alone(tmp_path), "DO_NOT_TRACK": "1", "NO_COLOR": "1", "COLUMNS": "300"}.items():
        monkeypatch.setenv(name, value)
    found = get_command(build_app([command]))
    assert isinstance(found, TyperGroup)
    pending, texts = [([command], found.commands[command])], 0
    while pending:
        path, one = pending.pop()
        if isinstance(one, TyperGroup):
            pending += [([*path, name], child) for name, child in one.commands.items()]
        shown = CliRunner().invoke(build_app(path), [*path, "--help"], terminal_width=300).output
        for text in (one.help, one.epilog, *(getattr(parameter, "help", None) for parameter in one.params)):
            # As it stands in the source, without the sign that keeps rich off.
            for words in re.findall(r"\[[^\]]*\]", (text or "").replace("\\[", "[")):
                texts += 1
                assert words in shown, f"{' '.join(path)} --help does not show {words}"
    assert texts >= {"restore": 1, "drill": 1}.get(command, 0)


@pytest.mark.parametrize("stream", [terminal.console, terminal.error_console])
def test_messages_and_tables_keep_their_brackets(stream: Console) -> None:
    message = "[servers.primary] in [bold]/tmp/[red]x.toml"
    table = Table("[dim]heading")
    table.add_row(message)
    with stream.capture() as captured:
        stream.print(message, soft_wrap=True)
        stream.print(table, soft_wrap=True)
    assert captured.get().count(message) == 2
    assert "[dim]heading" in captured.get()


@pytest.mark.parametrize(("state", "code"), [("COMPLETED", 0), ("FAILED", 1), ("CRASHED", 1), ("PAUSED", 3)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_says_whether_a_run_is_well_is_not_or_waits_for_a_person(
    state: str, code: int, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server("https://prefect.example.com/api", "https://prefect.example.com")
    page = f"https://prefect.example.com/v2/runs/flow-run/{UUID(int=1)}"
    with pytest.raises(typer.Exit) as ended:
        end_command(server, "production", view(state), as_json=as_json)
    assert ended.value.exit_code == code
    out = capsys.readouterr().out
    if as_json:
        document = json.loads(out)
        told = (document["completed"], document["waits_for_a_person"], document["url"])
        assert told == (code == 0, code == 3, page)
    elif state == "PAUSED":
        assert "it waits for a person. Press Resume" in out
        assert out.splitlines()[-1] == page


@pytest.mark.parametrize(
    "arguments", [["backup"], ["backup", "local", "--retention", "perhaps"], ["no-such-command"], ["--no-such-option"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(build_app(arguments), arguments).exit_code == 2


def test_help_does_not_wait_for_prefect_or_boto3() -> None:
    code = "import sys; from deployments.command.main import build_app; build_app(['--help']); print(sorted({'prefect', 'boto3'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_starts_a_platform_leaves_the_users_prefect_alone(tmp_path: Path) -> None:
    code = "import os; from deployments.command.main import build_app; build_app(['demo']); print(os.environ['PREFECT_HOME'])"
    home = tmp_path / "home"
    home.mkdir()
    variables = {"HOME": str(home), "NIGHTSHIFT_DATA": str(tmp_path / "data"), "PATH": os.defpath}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.strip() == str(tmp_path / "data" / "prefect-client")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("error", "code"), [(ConfigurationError, 2), (PermanentError, 1), (TemporaryError, 1)])
def test_an_error_is_one_line_on_stderr(
    error: type[PermanentError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        terminal.fail(error("read it", "the [file]", "it is\nnot there " + "x" * 200, "Make it"))
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"nightshift: could not read it (the [file]): it is not there {'x' * 200}. Make it\n"


def test_json_is_one_document_with_secrets_masked(capsys: pytest.CaptureFixture[str]) -> None:
    from core.redaction import register_secret

    register_secret("a-secret-of-the-command-test")
    terminal.print_json({"found": "a-secret-of-the-command-test ü", "path": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"found": "***** ü", "path": "x"}


def alone(tmp_path: Path) -> dict[str, str]:
    """Variables of a user who has neither a platform nor a Prefect profile."""
    return {"NIGHTSHIFT_DATA": str(tmp_path / "data"), "PREFECT_HOME": str(tmp_path / "prefect")}


def test_the_environment_of_the_local_platform_without_one_says_how_to_start_it(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[1:] = ['catalog', 'local']; from deployments.command.main import main; main()",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**variables, "NIGHTSHIFT_DATA": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "No platform runs on this machine: start one in another terminal, make try" in done.stderr


def test_a_data_folder_that_is_a_file_is_told_in_a_line(tmp_path: Path) -> None:
    place = tmp_path / "a-file"
    place.write_text("")
    code = "import sys; sys.argv[1:] = ['status']; from deployments.command.main import main; main()"
    variables = {**os.environ, "NIGHTSHIFT_DATA": str(place)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"nightshift: could not write ({place}/prefect-client): Not a directory.")
    assert done.stderr.count("\n") == 1


def ended(process: "subprocess.Popen[str]", seconds: float = 200) -> tuple[int, str, str]:
    """Wait for a command; its exit code, output and errors."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def test_without_a_server_it_says_how_to_get_one(tmp_path: Path) -> None:
    code, out, err = ended(start_nightshift("backup", "local", "--json", **alone(tmp_path)))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "make up" in err
    assert "PREFECT_API_URL" in err


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    from deployments.local.ports import free_port

    api = f"http://127.0.0.1:{free_port()}/api"
    code, _, err = ended(
        start_nightshift("backup", "staging", PREFECT_API_URL=api, PREFECT_CLIENT_MAX_RETRIES="0", **alone(tmp_path))
    )
    assert code == 1
    assert err.startswith(f"nightshift: could not reach the Prefect server ({api}): ConnectError")


# Through a real server


@with_platform
def test_backup_follows_its_run_and_ends_as_the_run_ended(nightshift: NightshiftCommand) -> None:
    # Side by side: a run takes some seconds to be picked up.
    well = nightshift("backup", "probe-well", "--database", "app", "--retention", "dry-run")
    fails = nightshift("backup", "probe-fails", "--json")
    crashes = nightshift("backup", "probe-crashes")

    code, out, err = ended(well)
    assert code == 0, err
    assert "✔ dump app" in out
    assert "backed up ['app'] with retention dry-run" in out
    assert "/v2/runs/flow-run/" in out.splitlines()[-1]

    code, out, err = ended(fails)
    assert code == 1, err
    document = json.loads(out)
    assert (document["environment"], document["state"], document["completed"]) == ("probe-fails", "Failed", False)
    assert (
        "could not back up every database (probe-fails): one of them did not answer. Look at its log"
        in document["message"]
    )
    assert document["url"].endswith(document["flow_run_id"])

    code, out, err = ended(crashes)
    assert code == 1
    assert "nightshift: Crashed:" in err


@with_platform
def test_local_is_the_platform_that_runs_here_and_others_are_the_configured_server(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(platform.folder.path.parent))
    with temporary_settings({PREFECT_API_URL: "https://prefect.example.com/api", PREFECT_UI_URL: None}):
        assert find_server("local").api_url == platform.prefect.api_url
        assert find_server("production") == Server("https://prefect.example.com/api", "https://prefect.example.com")
    with temporary_settings({PREFECT_API_URL: None}):
        assert find_server("production").api_url == platform.prefect.api_url


@pytest.mark.services
@with_platform
def test_a_dry_run_of_a_restore_prints_its_plan_and_has_it_in_its_json(nightshift: NightshiftCommand) -> None:
    code, _, err = ended(nightshift("backup", "local"))
    assert code == 0, err
    dry_run = ("restore", "local", "app", "--dry-run", "--backup", "newest-decoded")
    possible, refused = nightshift(*dry_run), nightshift(*dry_run, "--target", "platform", "--json")
    code, out, err = ended(possible)
    assert code == 0, err
    assert "becomes        new database platform_restored_" in out
    assert "overwritten    nothing" in out
    assert "nothing was changed" in out
    code, out, err = ended(refused)
    assert code == 1, err
    document = json.loads(out)
    plan = {row["what"]: row["value"] for row in document["plan"]}
    assert "a database of this name exists, and none is ever overwritten" in plan["REFUSED"]
    assert "a database of this name exists, and none is ever overwritten" in document["message"]
    assert (document["state"], document["completed"]) == ("Failed", False)


@with_platform
def test_an_environment_that_nobody_knows_is_refused_before_anything_is_deployed(
    platform: Platform, platform_client: SyncPrefectClient
) -> None:
    before = len(platform_client.read_deployments())
    with pytest.raises(ConfigurationError, match="nightshift init nowhere"):
        ensure_deployment(server_of(platform.running), platform_client, "nightly-backup", "nowhere", quiet=True)
    assert len(platform_client.read_deployments()) == before


@with_platform
def test_an_environment_of_ones_own_is_deployed_at_its_first_backup(
    platform: Platform,
    platform_client: SyncPrefectClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.toml").write_text((CHECKOUT / "deployments" / "environments" / "local.toml").read_text())
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    for _ in range(2):
        ensure_deployment(server_of(platform.running), platform_client, "nightly-backup", "mine", quiet=False)
    deployment = platform_client.read_deployment_by_name("nightly-backup/mine")
    assert (deployment.parameters, deployment.schedules) == ({"environment": "mine"}, [])
    assert deployment.entrypoint == "flows.nightly_backup.nightly_backup"
    assert capsys.readouterr().err.count("deployed nightly-backup/mine, without a schedule") == 1


@pytest.mark.services
@with_platform
def test_ctrl_c_ends_the_following_and_not_the_run(
    nightshift: NightshiftCommand, platform_client: SyncPrefectClient
) -> None:
    process = nightshift("backup", "probe-sleeps")
    assert process.stdout is not None
    for line in process.stdout:
        if line.rstrip().endswith("Running"):
            break
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    # With its password, which is not to be printed, `prefect flow-run cancel` would not reach the platform's server as it stands.
    assert "flow-run cancel" not in err
    run_id = UUID(err.rstrip().rpartition("/")[2])
    assert platform_client.read_flow_run(run_id).state_name == "Running"
    platform_client.set_flow_run_state(run_id, State(type=StateType.CANCELLING, name="Cancelling"))


def test_how_to_cancel_names_a_command_only_where_it_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, program = UUID(int=7), tmp_path / "prefect"
    for module in (run_flow, prefect_api):
        monkeypatch.setattr(module, "PREFECT", program)
    server = Server("https://prefect.example.com/api", "https://prefect.example.com")
    page = f"To end it: Cancel on its page, https://prefect.example.com/v2/runs/flow-run/{run_id}"
    assert how_to_cancel(server, run_id) == page
    program.touch()
    assert how_to_cancel(server, run_id) == f"{page}, or: {program} flow-run cancel {run_id}"


# The display


def view(state: str, name: str = "night", *, waited: float = 0, percent: float = 0) -> RunView:
    """A run at one moment."""
    steps = (StepView("dump app", "passed" if state == "COMPLETED" else "running", 2.5),)
    progress = (ProgressView("backup-app", percent, "1.2 GiB at 88 MiB/s · table public.users"),)
    return RunView(UUID(int=1), name, state, state.capitalize(), "", 3.0, waited, steps, progress)


def test_in_a_pipe_each_change_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    last = show_run(iter([view("SCHEDULED"), view("RUNNING"), view("RUNNING", percent=50), view("COMPLETED")]))
    assert last.well
    assert capsys.readouterr().out.splitlines() == [
        "night: Scheduled",
        "night: Running",
        "night: Completed",
        "  ✔ dump app  2.5 s",
    ]


def test_a_run_that_nobody_picks_up_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    show_run(
        iter([view("SCHEDULED", waited=31), view("SCHEDULED", waited=32), view("CANCELLED", waited=33)]), quiet=True
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("no worker has picked it up yet") == 1


def test_a_run_that_waits_for_another_run_is_not_told_to_lack_a_worker(capsys: pytest.CaptureFixture[str]) -> None:
    queued = replace(view("SCHEDULED", waited=31), state_name="AwaitingConcurrencySlot")
    show_run(iter([queued, view("PENDING", waited=40), view("COMPLETED")]))
    out, err = capsys.readouterr()
    assert "AwaitingConcurrencySlot" in out
    assert err == ""


def test_on_a_terminal_steps_and_bars_are_drawn(tmp_path: Path) -> None:
    code = (
        "from tests.test_command import view; from deployments.command.run_display import show_run; "
        "show_run(iter([view('RUNNING', percent=42), view('COMPLETED', percent=100)]))"
    )
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "DO_NOT_TRACK": "1"},
    )
    os.close(follower)
    drawn = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux's way of saying that the other end is closed
            break
        drawn += piece
    os.close(leader)
    assert process.communicate()[1] == b""
    text = drawn.decode()
    assert "42 %" in text
    assert "100 %" in text
    assert "1.2 GiB at 88 MiB/s · table public.users" in text
