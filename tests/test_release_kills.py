"""A release that is killed right after any of its writes is brought to one of two ends, and nothing is done twice.

Right before a write the world is as right after the one before it: "after" is the whole matrix (tests/cluster runs both on a real node).
"""

import pytest

from tests.fix_kill_proxy import KillProxy
from tests.fix_release import Stage, serving
from tests.fix_release_child import kill_at_write

pytestmark = [pytest.mark.xdist_group("release-kills"), pytest.mark.timeout(300)]

BLUE_GREEN = {
    "strategy": "blue-green",
    "drain_seconds": 0,
    "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
}
MOST_WRITES = 90


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_killed_after_any_write_it_ends_well(stage: Stage, kill_proxy: KillProxy, strategy: str) -> None:
    stage.settings["release"] |= BLUE_GREEN if strategy == "blue-green" else {}
    ends = []
    for number in range(1, MOST_WRITES):
        _, killed = kill_at_write(stage, kill_proxy, number, "after", adopt=True)
        if not killed:
            break
        at = f"killed after write {number}, {' '.join(kill_proxy.writes[-1])}"
        state = stage.recover()
        assert state.is_completed(), f"{at}: {state.message}"
        assert not stage.lease_holder(), at
        assert all(not one.is_open for one in stage.journals()), at
        ends.append(end := serving(stage))
        cron = stage.client.get(f"/apis/batch/v1/namespaces/{stage.namespace}/cronjobs/nightly")
        others = {
            stage.image_of("worker"),
            cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"],
        }
        assert others == {end}, at
        assert not cron["spec"]["suspend"], at
        assert "is open" in str(stage.recover().message), f"{at}: a second recovery found something to do"
        if end == stage.image("v2"):
            back = stage.run_rollback("for the next round")
            assert back.is_completed(), f"{at}: {back.message}"
        assert serving(stage) == stage.image("v1"), at
    assert {stage.image("v1"), stage.image("v2")} == set(ends)
    assert len(ends) > 15
