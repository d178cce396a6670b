"""The checklist in the display of a release: each item's mark is how the item stands, not whether its task ran."""

import re

import pytest
from prefect.client.orchestration import get_client

from core.release_checks import failed, not_configured, passed, waive, worst_state
from deployments.command.follow import follow_run
from deployments.command.run_display import show_run
from tasks.release_preflight import ITEMS
from tests.fix_release import SKIPPED, Stage
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("prefect")


def marks(stage: Stage, capsys: pytest.CaptureFixture[str], **parameters: object) -> dict[str, str]:
    """Make a dry run; return step → the mark that a person who follows it sees."""
    state = stage.release("v2", dry_run=True, **parameters)
    assert state.state_details.flow_run_id is not None
    with get_client(sync_client=True) as client:
        run_id = state.state_details.flow_run_id

        def ended() -> bool:
            # The server learns of a task's end by an event, a moment later.
            (view,) = follow_run(client, run_id)
            return len(view.steps) >= len(ITEMS) + 3 and all(
                one.state not in {"waiting", "running"} for one in view.steps
            )

        wait_until(ended, "the server knows how each task ended")
        capsys.readouterr()
        show_run(follow_run(client, run_id))
    lines = re.findall(r"^  (\S) (.+?)  [0-9.]+ s$", capsys.readouterr().out, re.MULTILINE)
    return {name: mark for mark, name in lines}


def test_each_item_has_the_mark_of_how_it_stands(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    seen = marks(stage, capsys, skip_checks=SKIPPED)
    assert seen["check Age of the newest decoded backup"] == "!"
    assert seen["check Staging mirrors production"] == "·"
    assert seen["check Room in quotas and autoscalers"] == "✔"
    assert seen["check rights, lease, workloads and sides"] == "✔"


def test_an_item_that_failed_is_no_tick(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/hello"
    stage.client.merge(path, {"spec": {"paused": True}})
    seen = marks(stage, capsys, skip_checks={})
    assert seen["check Age of the newest decoded backup"] == "✘"
    assert seen["check rights, lease, workloads and sides"] == "✘"
    assert seen["check Room in quotas and autoscalers"] == "✔"


def test_several_items_are_as_well_as_the_worst_of_them() -> None:
    well, bad, nobody = passed("a", "fine"), failed("b", "gone"), not_configured("c", "no table")
    assert worst_state([well, bad, nobody]) == "failed"
    assert worst_state(waive([well, bad, nobody], {"b": "known"}, "anna")) == "waived"
    assert worst_state([well, nobody]) == "passed"
    assert worst_state([nobody]) == "not-configured"
    assert worst_state([]) == "not-configured"
