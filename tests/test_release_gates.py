"""What a release's report says of gates that nobody looked at."""

import pytest

from tests.fix_release import Stage

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("release-gates")]

BLUE_GREEN = {
    "strategy": "blue-green",
    "drain_seconds": 0,
    "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
}


@pytest.mark.parametrize(
    ("settings", "step"),
    [(BLUE_GREEN, "shift 100 % of the traffic"), ({}, "ask the Pods of deployment/hello")],
    ids=["blue-green", "rolling"],
)
def test_metrics_that_nobody_looked_at_are_said_so_and_are_no_pass(
    stage: Stage, settings: dict[str, object], step: str
) -> None:
    stage.settings["release"] |= settings
    state = stage.release("v2", adopt=True)
    assert state.is_completed(), state.message
    (found,) = [one for one in stage.reports()[-1].steps if one.name == step]
    assert any("metrics were not looked at" in one.text for one in found.findings)
