"""Whole releases by a load balancer's weights on the real node: the Ingress is the node's own, the load balancer moto's.

No cluster without AWS has the controller that carries the one into the other: what stands in for it (tests/fix_alb.py) writes what that one does. Requests go
through a proxy that obeys the load balancer's own rule, so that who answers is told by what the balancer does, never by what the Ingress says.
"""

from collections.abc import Iterator

import pytest

from tasks.endpoints import endpoint_kind
from tasks.kubernetes_client import KubernetesClient
from tests.fix_alb import ACTION, Alb, ClusterObjects, Ground, forward
from tests.fix_object_store import REGION, S3Server
from tests.fix_release import Stage
from tests.fix_release_shift import blue_green, ready
from tests.fix_traffic_proxy import Hammer, SplittingProxy
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def lab_alb(lab_stage: Stage, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alb]:
    """`hello` behind a load balancer whose controller works, with an Ingress that gives Service hello everything."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    monkeypatch.setattr("tasks.traffic.LOOK_SECONDS", 1.0)
    with KubernetesClient.open(None) as client:
        ground = Ground(ClusterObjects(client), lab_stage.namespace, endpoint_kind(client).api_version)
        made = Alb(ground, s3_server.endpoint, s3_server.port)
        try:
            made.ingress(forward(hello=100))
            made.reconcile()
            made.start()
            settings = {"region": REGION, "endpoint_url": made.endpoint}
            blue_green(lab_stage, kind="alb", name="web", service="hello", action=ACTION, alb=settings)
            yield made
        finally:
            made.close()


def test_a_release_and_its_rollback_lose_no_request_and_who_answers_follows_the_balancers_own_rule(
    lab_stage: Stage, lab_alb: Alb
) -> None:
    with SplittingProxy(lab_stage.namespace, lab_alb.weights) as balancer, Hammer(balancer.address) as hammer:
        # The balancer reads the weights for itself, and on a busy machine later.
        lab_stage.settings["release"]["drain_seconds"] = 5
        lab_stage.settings["release"]["traffic"]["soak_seconds"] = 1
        released = lab_stage.release("v2", adopt=True)
        assert released.is_completed(), released.message
        assert lab_alb.shares("hello-blue") == [0, 10, 25, 50, 100]
        wait_until(lambda: balancer.weight("hello-blue") == 100, "the balancer's rule is obeyed")
        hammer.only_answers("rel-2")
        back = lab_stage.run_rollback("it was tried")
        assert back.is_completed(), back.message
        wait_until(lambda: balancer.weight("hello-blue") == 0, "the balancer's rule is obeyed")
        hammer.only_answers("rel-1")
    assert (hammer.failures, balancer.failed) == ([], [])
    assert lab_alb.weights() == {"hello": 100, "hello-blue": 0}
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0


def test_weights_that_the_balancer_does_not_take_over_stop_the_release_there_and_it_goes_back(
    lab_stage: Stage, lab_alb: Alb
) -> None:
    # The Ingress is patched, and whoever should carry it into the rules does not.
    lab_alb.ignored = {25}
    lab_stage.settings["release"]["traffic"]["effective_seconds"] = 30
    state = lab_stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "has the weights hello 90, hello-blue 10, wanted is hello 75 %, hello-blue 25 %" in str(state.message)
    assert lab_alb.shares("hello-blue") == [0, 10, 0]
    assert lab_alb.weights() == {"hello": 100, "hello-blue": 0}
    serves_old(lab_stage)


def test_targets_that_are_registered_and_unhealthy_stop_the_release_with_their_reasons_and_it_goes_back(
    lab_stage: Stage, lab_alb: Alb
) -> None:
    lab_alb.health = dict.fromkeys(lab_alb.addresses("hello"), ("healthy", ""))
    lab_alb.health_of_others = ("unhealthy", "Target.ResponseCodeMismatch")
    state = lab_stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "0 of 2 targets of hello-blue are healthy; unhealthy: 2 × Target.ResponseCodeMismatch" in str(state.message)
    assert max(lab_alb.shares("hello-blue")) <= 10
    assert lab_alb.weights() == {"hello": 100, "hello-blue": 0}
    serves_old(lab_stage)


def serves_old(stage: Stage) -> None:
    """Hold that all is as before the release."""
    assert ready(stage, "hello") == 2
    assert stage.deployment("hello-blue")["spec"]["replicas"] == 0
    assert [one.outcome for one in stage.journals()] == ["rolled back"]
    assert stage.lease_holder() == ""
