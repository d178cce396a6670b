"""Shifting traffic on a real cluster: a client that never stops asking loses no request, and the requests go where the balancer was read to send them."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.fence import Document, Fence
from core.traffic import Side, split_between
from tasks.endpoints import endpoint_kind
from tasks.fenced import stamp
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.traffic import Traffic
from tasks.traffic_httproute import RouteTraffic
from tasks.traffic_service import ServiceTraffic
from tests.fix_cluster import Removals, image_turn, lab_program
from tests.fix_traffic_proxy import Hammer, SplittingProxy
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

BLUE, GREEN = (
    Side(name=color, service=f"hello-{color}", port=80, selector={"app": "hello", "color": color})
    for color in ("blue", "green")
)
FENCE = Fence("test", "release-1", 1)
# kube-proxy reads the endpoints as we do, and then needs its own time to write the rules, most often less than two seconds; no API tells when it has.
KUBE_PROXY_SECONDS = 30


def ours() -> None:
    """Nobody took the lease away."""


class Lab:
    """A namespace with two sides of hello, two Pods each; Service hello leads to blue."""

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        for side in (BLUE, GREEN):
            self._put("Deployment", _deployment(side))
            self._put("Service", _service(side.service, side))
        self.address = self._put("Service", _service("hello", BLUE))["spec"]["clusterIP"]
        for side in (BLUE, GREEN):
            path = find_kind(client, "Deployment").path(self.namespace, side.service)
            wait_until(
                lambda at=path: client.get(at).get("status", {}).get("readyReplicas") == 2,
                f"{side.name} is ready",
                seconds=60,
            )

    def route(self, rules: list[Document]) -> None:
        self._put(
            "HTTPRoute", {"metadata": {"name": "hello"}, "spec": {"parentRefs": [{"name": "web"}], "rules": rules}}
        )

    def stamped(self, traffic: Traffic) -> Traffic:
        for path in traffic.managed_paths():
            stamp(self.client, path, FENCE)
        return traffic

    def _put(self, kind: str, document: Document, namespace: str | None = None) -> Document:
        found = find_kind(self.client, kind)
        path = found.path(self.namespace if namespace is None else namespace)
        return self.client.create(path, {"apiVersion": found.api_version, "kind": kind, **document})


def _service(name: str, side: Side) -> Document:
    return {
        "metadata": {"name": name},
        "spec": {"selector": side.selector, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def _deployment(side: Side) -> Document:
    container = {
        "name": "hello",
        "image": f"localhost/hello:traffic-{side.name}",
        "imagePullPolicy": "IfNotPresent",
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5},
    }
    template = {
        "metadata": {"labels": side.selector},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": side.selector}, "template": template}
    return {"metadata": {"name": side.service}, "spec": spec}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    build = lab_program("apps/hello/build.sh")
    for side in (BLUE, GREEN):
        with image_turn():
            subprocess.run([build, f"traffic-{side.name}"], check=True, capture_output=True, timeout=120)
    with KubernetesClient.open(None) as client, Removals(client) as removals:
        yield Lab(client, removals.namespace())


def test_a_services_switch_loses_no_request_and_all_go_to_the_new_side_once_it_is_effective(
    cluster: KubernetesClient, lab: Lab
) -> None:
    assert endpoint_kind(cluster).name == "EndpointSlice"
    shift = lab.stamped(ServiceTraffic(cluster, lab.namespace, "hello", BLUE, GREEN))
    here, there = split_between(BLUE, GREEN, 0), split_between(BLUE, GREEN, 100)
    assert shift.wait_effective(here, 30, ours).found == "Service hello leads to the 2 ready Pods of blue"
    with Hammer(lab.address) as hammer:
        for before, after, version in ((here, there, "traffic-green"), (there, here, "traffic-blue")):
            time.sleep(1)
            assert shift.write(FENCE, before, after)
            shift.wait_effective(after, 30, ours)
            wait_until(
                lambda expected=version: hammer.answers[-1][1] == expected,
                "it is led there",
                seconds=KUBE_PROXY_SECONDS,
            )
            hammer.only_answers(version)
    assert hammer.failures == []
    assert len(hammer.answers) > 100


def test_requests_follow_a_routes_weights_step_by_step(
    cluster: KubernetesClient, lab: Lab, lab_controllers: None
) -> None:
    other = {"matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}], "filters": [_redirect()]}
    lab.route([{"backendRefs": [{"name": BLUE.service, "port": 80}]}, other])
    shift = lab.stamped(RouteTraffic(cluster, lab.namespace, "hello", BLUE, GREEN))
    before = split_between(BLUE, GREEN, 0)
    assert shift.wait_effective(before, 30, ours).state == "effective"
    with SplittingProxy(lab.namespace, "hello") as proxy, Hammer(proxy.address) as hammer:
        for percent in (10, 25, 50, 100, 0):
            wanted = split_between(BLUE, GREEN, percent)
            shift.write(FENCE, before, wanted)
            shift.wait_effective(wanted, 30, ours)
            wait_until(lambda expected=percent: proxy.weight(GREEN.service) == expected, "the proxy read the weights")
            proxy.counted()
            wait_until(lambda: sum(proxy.served.values()) >= 200, "200 requests")
            counts = proxy.counted()
            share = 100 * counts.get(GREEN.service, 0) / sum(counts.values())
            assert share == pytest.approx(percent, abs=1)
            before = wanted
    assert (hammer.failures, proxy.failed) == ([], [])
    kept: dict[str, Any] = cluster.get(shift.managed_paths()[0])["spec"]["rules"][1]
    assert kept["filters"] == [_redirect()]


def test_a_route_to_a_service_that_is_not_there_is_refused_by_its_gateway(
    cluster: KubernetesClient, lab: Lab, lab_controllers: None
) -> None:
    gone = GREEN.model_copy(update={"service": "hello-gone"})
    path = find_kind(cluster, "HTTPRoute").path(lab.namespace)
    rules = [
        {
            "backendRefs": [
                {"name": BLUE.service, "port": 80, "weight": 90},
                {"name": "hello-gone", "port": 80, "weight": 10},
            ]
        }
    ]
    document = {"metadata": {"name": "gone"}, "spec": {"parentRefs": [{"name": "web"}], "rules": rules}}
    cluster.create(path, {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", **document})
    shift = RouteTraffic(cluster, lab.namespace, "gone", BLUE, gone)
    wait_until(lambda: shift.effective(split_between(BLUE, gone, 10)).state == "refused", "the gateway refuses it")
    assert (
        'ResolvedRefs is False (BackendNotFound: service "hello-gone" not found)'
        in shift.effective(split_between(BLUE, gone, 10)).found
    )


def _redirect() -> Document:
    return {"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}
