"""What runs this version already is said to be live only while it serves."""

import pytest

from tasks.release_lease import Lease
from tasks.release_run import release_of
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import COMMIT, Stage
from tests.fix_release_shift import blue_green, scale
from tests.test_release_api_faults import own_writes
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-serving")]


@pytest.mark.parametrize("name", ["hello", "worker"])
def test_a_version_that_is_live_by_its_template_and_scaled_to_nothing_is_not_said_to_be_live(
    stage: Stage, kubernetes: KubernetesApi, name: str
) -> None:
    scale(stage, kubernetes, name, 0)
    begin = len(kubernetes.writes())
    state = stage.release("v1", COMMIT)
    assert state.is_failed()
    message = str(state.message)
    assert f"live by its template, but not available: deployment/{name}: " in message
    assert "wants zero replicas" in message
    assert "nightshift rollback stage" in message
    assert own_writes(kubernetes, begin) == []


def test_a_live_colour_whose_service_leads_to_nobody_is_not_said_to_be_live(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    blue_green(stage)
    assert (first := stage.release("v2", adopt=True)).is_completed(), first.message
    assert "is live already" in str(stage.release("v2").message)
    scale(stage, kubernetes, "hello-blue", 0)
    wait_until(lambda: not stage.deployment("hello-blue")["status"].get("readyReplicas"), "no Pod of hello-blue")
    begin = len(kubernetes.writes())
    state = stage.release("v2")
    assert state.is_failed()
    assert "Service hello has no ready endpoint: no request is served" in str(state.message)
    assert own_writes(kubernetes, begin) == []


def test_a_version_that_another_release_is_at_work_on_is_not_said_to_be_live(stage: Stage) -> None:
    stage.write()
    lease = Lease(stage.client, release_of(stage.environment), "stage")
    fence = lease.take("r-000000000009", "another run", ())
    state = stage.release("v1", COMMIT)
    assert state.is_failed(), state.message
    assert "live by its template, but" in str(state.message)
    assert "r-000000000009 holds it (flow run another run" in str(state.message)
    lease.give_back(fence)
    assert "is live already" in str(stage.release("v1", COMMIT).message)
