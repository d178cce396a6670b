"""`nightshift webhook`: what is wrong is told before anything listens."""

import socket
from typing import Any

import pytest
import typer
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from core.checks import Check
from core.errors import ConfigurationError, NightshiftError
from deployments.command.probes import probes_of, run_probes
from deployments.command.webhook import webhook_command
from deployments.command.webhook_probes import WEBHOOK
from tasks.environments import load_environment
from tests.fix_webhook import SECRET, Hook, webhook_table

app = typer.Typer()
app.command("webhook")(webhook_command)


def error_of(hook: Hook, *arguments: str) -> NightshiftError:
    """How the command ends; nothing listens then."""
    result = CliRunner().invoke(
        app, ["--folder", str(hook.folder / "inbox"), "--listen", f"127.0.0.1:{hook.port}", *arguments]
    )
    assert isinstance(result.exception, NightshiftError), result.output
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", hook.port)):
        pass
    return result.exception


def test_a_secret_that_could_be_guessed_is_refused(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "short-one")
    error = error_of(hook)
    assert "could be guessed" in str(error)
    assert "short-one" not in str(error)


def test_a_secret_that_is_not_there_is_named(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET")
    assert "HOOK_SECRET" in str(error_of(hook))


def test_two_environments_with_the_same_secret_are_refused(hook: Hook) -> None:
    (hook.folder / "production.toml").write_text((hook.folder / "staging.toml").read_text())
    assert "same secret" in str(error_of(hook))


def test_check_tells_what_the_receiver_would_refuse_to_begin_with(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> Check:
        (probe,) = (one for one in probes_of(load_environment("staging")) if one.name == WEBHOOK)
        # A server that is away, also where another test of this process has one that runs.
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
            ((check,),) = run_probes([probe])
        return check

    assert (found().state, "is not known" in found().found) == ("passed", True), found()
    monkeypatch.setenv("HOOK_SECRET", "short-one")
    assert (found().state, "could be guessed" in found().found) == ("failed", True)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    repositories = webhook_table()["repositories"]
    repositories["api"]["triggers"][0]["take"] = {"image": "commit"}
    hook.write(repositories=repositories)
    assert (found().state, "needs the parameter 'commit'" in found().found) == ("failed", True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"take": {"image": "commit"}}, "needs the parameter 'commit'"),
        ({"flow": "restore"}, "flow"),
        ({"take": {"image": "tag"}}, "no field"),
    ],
)
def test_a_rule_that_could_start_nothing_is_named(hook: Hook, change: dict[str, Any], told: str) -> None:
    repositories = webhook_table()["repositories"]
    repositories["api"]["triggers"][0] |= change
    hook.write(repositories=repositories)
    assert told in str(error_of(hook))


def test_an_environment_without_the_table_and_none_with_it_are_named(hook: Hook) -> None:
    file = hook.folder / "staging.toml"
    file.write_text(file.read_text().partition("[webhook")[0])
    assert "no table [webhook]" in str(error_of(hook, "staging"))
    assert "none has" in str(error_of(hook))


def test_a_wrong_option_is_refused(hook: Hook) -> None:
    assert isinstance(error_of(hook, "--listen", "nowhere"), ConfigurationError)
    assert "no address" in str(error_of(hook, "--proxy", "everybody"))


def test_a_folder_that_cannot_be_made_is_named(hook: Hook) -> None:
    (hook.folder / "inbox").write_text("a file")
    assert "open the inbox" in str(error_of(hook))


def test_an_audit_log_that_cannot_be_opened_is_named(hook: Hook) -> None:
    place = hook.folder / "nowhere" / "audit.jsonl"
    error = error_of(hook, "--audit", str(place))
    assert isinstance(error, ConfigurationError)
    assert f"could not open the audit log ({place}): No such file or directory" in str(error)
