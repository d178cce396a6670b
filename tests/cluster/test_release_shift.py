"""Whole blue-green releases by a route on the real node, under a client that never pauses and a gateway that obeys the weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.kubernetes_kinds import find_kind
from tests.fix_prometheus import run_pod_prometheus
from tests.fix_release import Stage
from tests.fix_traffic_proxy import Hammer, SplittingProxy
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SOAK_SECONDS = 4


@pytest.fixture
def gateway(lab_stage: Stage, lab_controllers: None) -> Iterator[SplittingProxy]:
    """`hello` behind a route that gives Service hello everything, and a gateway that obeys it."""
    lab_stage.settings["release"] |= {
        "strategy": "blue-green",
        # The gateway looks for itself, and on a busy machine later.
        "drain_seconds": 5,
        "traffic": {"kind": "httproute", "name": "hello", "soak_seconds": SOAK_SECONDS, "effective_seconds": 60},
    }
    document = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "hello"},
        "spec": {"parentRefs": [{"name": "web"}], "rules": [{"backendRefs": [{"name": "hello", "port": 80}]}]},
    }
    lab_stage.client.create(find_kind(lab_stage.client, "HTTPRoute").path(lab_stage.namespace), document)
    with SplittingProxy(lab_stage.namespace, "hello") as proxy:
        yield proxy


def shares(proxy: SplittingProxy) -> list[int]:
    """What the new side was given, one after the other."""
    return [weights.get("hello-blue", 0) for weights, _ in proxy.periods]


def test_a_release_and_its_rollback_lose_no_request_and_requests_follow_the_weights_share_by_share(
    lab_stage: Stage, gateway: SplittingProxy
) -> None:
    with Hammer(gateway.address) as hammer:
        hammer.only_answers("rel-1")
        released = lab_stage.release("v2", adopt=True)
        assert released.is_completed(), released.message
        wait_until(lambda: shares(gateway)[-1] == 100, "the gateway has read the last weights")
        hammer.only_answers("rel-2")
        back = lab_stage.run_rollback("it was tried")
        assert back.is_completed(), back.message
        wait_until(lambda: shares(gateway)[-1] == 0, "the gateway has read that it is taken back")
        hammer.only_answers("rel-1")
    assert (hammer.failures, gateway.failed) == ([], [])
    assert shares(gateway) == [0, 10, 25, 50, 100, 0]
    for weights, served in gateway.periods:
        expected = weights.get("hello-blue", 0) / sum(weights.values()) * served.total()
        assert served.total() > 20, gateway.periods
        assert served["hello-blue"] == pytest.approx(expected, abs=1), gateway.periods
    # What the gateway sent to a side was answered by the version of that side, each request once.
    versions = [version for _, version in hammer.answers]
    sent = sum(served["hello-blue"] for _, served in gateway.periods)
    assert versions.count("rel-2") == sent
    assert versions.count("rel-1") == sum(served["hello"] for _, served in gateway.periods)
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0


def test_new_pods_that_are_ready_and_fail_half_of_the_requests_lose_the_traffic_by_themselves(
    lab_stage: Stage, gateway: SplittingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.release_gates.GATE_SECONDS", 1.0)
    with (
        run_pod_prometheus(tmp_path, lab_stage.namespace, 8080) as address,
        Hammer(gateway.address) as hammer,
    ):
        lab_stage.settings["release"]["gates"] = {"prometheus_url": address, "window_seconds": 60, "fresh_seconds": 15}
        state = lab_stage.release("erring", adopt=True)
        assert state.name == "RolledBack", state.message
        wait_until(lambda: shares(gateway)[-1] == 0, "the gateway has read that it is taken back")
        hammer.only_answers("rel-1")
    assert "could not pass the gates at 10 % of the traffic" in str(state.message)
    assert "requests of the new version failed (" in str(state.message)
    assert "allowed are 1.00%; 0 of " in str(state.message)
    assert shares(gateway) == [0, 10, 0]
    # What failed is what the new version itself answered so: half of a tenth.
    assert gateway.failed == []
    given = gateway.periods[1][1]["hello-blue"]
    assert set(hammer.failures) == {"KeyError('version')"}
    assert 0.2 * given < len(hammer.failures) < 0.8 * given
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0
    assert [one.outcome for one in lab_stage.journals()] == ["rolled back"]
