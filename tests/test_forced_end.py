"""What a command says of a run whose state was set by hand: never that all is well, since no flow said so."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import typer
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Completed, Running

from deployments.command import run_flow as run_flow_module
from deployments.command.follow import RunView
from deployments.command.prefect_api import Server, find_server
from deployments.command.run_flow import end_command, run_flow

pytestmark = pytest.mark.xdist_group("prefect")


@flow(name="a flow of a test", persist_result=False)
def one_that_reports(key: str) -> State[None]:
    """As every flow of ours: a report, then a state with a message."""
    create_markdown_artifact("the report", key=key)
    return Completed(message="r-1: v2 is live")


@pytest.fixture
def started(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[UUID], None]:
    """Let the commands follow this run, instead of one of a deployment."""

    def let(run_id: UUID) -> None:
        monkeypatch.setattr(run_flow_module, "ensure_deployment", lambda *_a, **_n: None)
        monkeypatch.setattr(run_flow_module, "start_deployment", lambda *_a, **_n: run_id)

    return let


def force(client: SyncPrefectClient, message: str | None) -> UUID:
    """A run that was at work when somebody set its state to Completed, as the UI and a program can."""
    run = client.create_flow_run(one_that_reports, parameters={"key": "k"}, state=Running())
    client.set_flow_run_state(run.id, Completed(message=message), force=True)
    return run.id


def ended(flow_name: str, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> tuple[RunView, int, str]:
    """How a command ends that follows the run: the last view, its exit code, and all that it printed."""
    server: Server = find_server("production")
    view = run_flow(server, flow_name, "production", {}, quiet=False)
    with pytest.raises(typer.Exit) as end:
        end_command(server, "production", view, as_json=as_json)
    out, err = capsys.readouterr()
    return view, end.value.exit_code, out + err


@pytest.mark.parametrize("message", [None, "looks fine to me"])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_completed_state_that_somebody_set_is_not_well(
    message: str | None, as_json: bool, started: Callable[[UUID], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with find_server("production").client() as client:
        started(force(client, message))
    view, code, said = ended("release", capsys, as_json=as_json)
    assert (view.well, code) == (False, 1), said
    assert "its state was set by hand" in said
    assert "nightshift releases production" in said
    assert '"completed": true' not in said
    assert "✔ " not in said


@pytest.mark.parametrize("flow_name", ["release", "rollback", "restore", "release-recovery"])
def test_no_flow_completes_without_a_word(
    flow_name: str, started: Callable[[UUID], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with find_server("production").client() as client:
        started(force(client, None))
    assert ended(flow_name, capsys)[1] == 1


@pytest.mark.parametrize("flow_name", ["release", "rollback", "nightly-backup"])
def test_a_state_that_the_flow_set_after_its_report_is_well(
    flow_name: str, started: Callable[[UUID], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run: dict[str, Any] = {}

    def remember(_flow: Any, flow_run: Any, _state: Any) -> None:
        run["id"] = flow_run.id

    one_that_reports.with_options(on_completion=[remember])(f"{flow_name}-production", return_state=True)
    started(run["id"])
    view, code, said = ended(flow_name, capsys)
    assert (view.well, code) == (True, 0), said
    assert "r-1: v2 is live" in said


def test_a_flow_that_may_end_without_a_report_is_believed_by_its_message(
    started: Callable[[UUID], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """release-recovery that found nothing open, and a restore's dry run, write none."""
    with find_server("production").client() as client:
        started(force(client, "nothing was left open"))
    assert ended("release-recovery", capsys)[1] == 0
