"""Releases on the real node that are killed before and after every write, and brought to their end."""

import pytest

from tests.fix_kill_proxy import KillProxy
from tests.fix_release import Stage, serving
from tests.fix_release_child import kill_at_write

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

BLUE_GREEN = {
    "strategy": "blue-green",
    "drain_seconds": 0,
    "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
}


# Right before a write the world is as right after the one before it: one strategy is enough to show that.
@pytest.mark.parametrize(("when", "strategy"), [("before", "rolling"), ("after", "rolling"), ("after", "blue-green")])
def test_a_release_that_is_killed_at_any_write_is_brought_to_one_of_two_ends(
    lab_stage: Stage, kill_proxy: KillProxy, monkeypatch: pytest.MonkeyPatch, when: str, strategy: str
) -> None:
    # How long a dead holder's lease is watched: the children are dead.
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    lab_stage.settings["release"] |= {"settle_seconds": 0, **(BLUE_GREEN if strategy == "blue-green" else {})}
    ends = set()
    for number in range(1, 90):
        _, killed = kill_at_write(lab_stage, kill_proxy, number, when, adopt=True)
        if not killed:
            break
        at = f"killed {when} write {number}, {' '.join(kill_proxy.writes[-1])}"
        state = lab_stage.recover()
        assert state.is_completed(), f"{at}: {state.message}"
        assert not lab_stage.lease_holder(), at
        assert all(not one.is_open for one in lab_stage.journals()), at
        ends.add(image := serving(lab_stage))
        if image == lab_stage.image("v2"):
            assert lab_stage.run_rollback("for the next round").is_completed(), at
        assert serving(lab_stage) == lab_stage.image("v1"), at
    assert number > 5
    assert ends == {lab_stage.image("v1"), lab_stage.image("v2")}
