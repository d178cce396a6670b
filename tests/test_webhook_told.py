"""What GitHub is told of runs that really went: each that may be started shows the report by which its own word is known."""

from typing import Any

import pytest
from prefect.client.schemas.objects import State

from core.webhook_mapping import Start
from deployments.webhook.prefect_runs import PrefectRuns
from tests.fix_release import Stage

pytestmark = pytest.mark.services


def told(flow: str, state: State[Any], **parameters: Any) -> str:
    """What GitHub is told of a run that ended in this state."""
    assert state.is_completed(), state.message
    run_id = str(state.state_details.flow_run_id)
    return (
        PrefectRuns("stage").look([(run_id, Start("key", "stage", flow, parameters, "acme/api", None))])[run_id].state
    )


def test_a_dry_run_a_release_the_same_again_and_a_rollback_are_told_as_they_ended(stage: Stage) -> None:
    assert told("release", stage.release("v2", dry_run=True), dry_run=True) == "inactive"
    assert told("release", stage.release("v2")) == "success"
    again = stage.release("v2")
    assert "is live already" in str(again.message)
    assert told("release", again) == "success"
    assert told("rollback", stage.run_rollback("it is slow")) == "success"
