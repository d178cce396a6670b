"""/health and /ready of each ready Pod: only the Pods' own 200 passes, what cannot be asked holds, and who vanished is replaced by who came."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.environment_gates import Gates
from core.gate_readings import PodSide
from core.redaction import register_secret
from tasks.kubeconfig import Connection
from tasks.kubernetes_client import ANSWER_BYTES, KubernetesClient
from tasks.pod_health import check_pods, find_side
from tests.fix_pod_proxy import PodProxy, pod, refused

REFUSED_BY_POD = "error trying to reach service: dial tcp 10.0.0.7:3000: connect: connection refused"


@pytest.fixture
def client(pod_proxy: PodProxy) -> Iterator[KubernetesClient]:
    connection = Connection(pod_proxy.address, "scripted", ssl.create_default_context(), token="t")
    with KubernetesClient(lambda: connection, sleep=lambda _seconds: None) as opened:
        yield opened


@pytest.fixture
def check(client: KubernetesClient) -> Callable[..., Any]:
    def checked(**settings: Any) -> Any:
        return check_pods(
            client, Gates(**settings), namespace="production", selector="app=api", sleep=lambda _seconds: None
        )

    return checked


def test_pods_that_answer_200_on_both_paths_pass(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a"), pod("api-7f-b", ready=False), pod("api-7f-c", deleted=True)]]
    verdict = check()
    assert (verdict.state, verdict.found) == ("pass", "1 of 2 Pods are ready, and each of these answered 200")
    assert pod_proxy.asked == ["api-7f-a:3000/health", "api-7f-a:3000/ready"]


def test_the_port_the_paths_and_the_scheme_are_settings(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a")]]
    assert check(port=8443, scheme="https", health_path="/live", ready_path="/live").state == "pass"
    assert pod_proxy.asked == ["https:api-7f-a:8443/live"]


@pytest.mark.parametrize("code", [500, 503, 404, 401, 429, 301, 204])
def test_a_pod_whose_health_is_not_200_fails(pod_proxy: PodProxy, check: Callable[..., Any], code: int) -> None:
    pod_proxy.lists = [[pod("api-7f-a"), pod("api-7f-b")]]
    pod_proxy.answer = lambda name, _path: (code, "") if name == "api-7f-b" else (200, "ok")
    verdict = check()
    assert (verdict.state, f"api-7f-b answered {code} on /health" in verdict.found) == ("fail", True)


def test_a_pod_that_says_it_is_not_ready_holds(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a")]]
    pod_proxy.answer = lambda _name, path: (503, '{"ready": false}') if path == "/ready" else (200, "ok")
    verdict = check()
    assert (verdict.state, 'answered 503 on /ready ({"ready": false})' in verdict.found) == ("inconclusive", True)


def test_one_unlucky_request_is_repeated(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a")]]
    answers = iter([(500, ""), (200, ""), (503, ""), refused(500, "x"), (200, "")])
    pod_proxy.answer = lambda _name, _path: next(answers)
    assert check().state == "pass"


@pytest.mark.parametrize(
    "answer",
    [
        refused(503, REFUSED_BY_POD),
        (503, f"E{REFUSED_BY_POD[1:]}"),
        refused(403, 'pods "api-7f-a" is forbidden: User "night" cannot get resource "pods/proxy" in API group ""'),
        refused(401, "Unauthorized"),
        refused(500, "etcd is away"),
        (0, ""),
    ],
)
def test_a_pod_that_cannot_be_asked_holds(
    pod_proxy: PodProxy, check: Callable[..., Any], answer: tuple[int, str]
) -> None:
    pod_proxy.lists = [[pod("api-7f-a")]]
    pod_proxy.answer = lambda _name, _path: answer
    verdict = check()
    assert (verdict.state, "api-7f-a could not be asked for /health" in verdict.found) == ("inconclusive", True)


def test_a_missing_right_is_named(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a")]]
    pod_proxy.answer = lambda _name, _path: refused(403, 'cannot get resource "pods/proxy"')
    assert 'cannot get resource "pods/proxy"' in check().found


def test_a_pod_that_hangs_holds_after_its_time(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a")]]
    pod_proxy.answer = lambda _name, path: (-1, "") if path == "/ready" else (200, "")
    verdict = check(health_seconds=1)
    assert (verdict.state, "api-7f-a could not be asked for /ready" in verdict.found) == ("inconclusive", True)


def test_a_pod_that_vanished_is_left_out_and_who_came_is_asked(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a"), pod("api-7f-b")], [pod("api-7f-a"), pod("api-7f-c")]]
    missing = refused(404, 'pods "api-7f-b" not found', kind="pods", name="api-7f-b")
    pod_proxy.answer = lambda name, _path: missing if name == "api-7f-b" else (200, "ok")
    verdict = check()
    assert (verdict.state, verdict.found) == ("pass", "2 of 2 Pods are ready, and each of these answered 200")
    assert "api-7f-c:3000/ready" in pod_proxy.asked
    assert pod_proxy.asked.count("api-7f-b:3000/health") == 1
    # Who came in its place is not taken for well unasked.
    pod_proxy.lists = [[pod("api-7f-b")], [pod("api-7f-c")]]
    pod_proxy.answer = lambda name, _path: missing if name == "api-7f-b" else (500, "no")
    assert check().state == "fail"


def test_a_pod_that_is_being_deleted_meanwhile_is_left_out(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a"), pod("api-7f-b")], [pod("api-7f-a"), pod("api-7f-b", deleted=True)]]
    pod_proxy.answer = lambda name, _path: (503, "stopping") if name == "api-7f-b" else (200, "ok")
    assert check().state == "pass"


def test_none_ready_fails_and_none_there_holds(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a", ready=False), pod("api-7f-b", ready=False)]]
    assert (check().state, check().found) == ("fail", "none of 2 Pods is ready")
    pod_proxy.lists = [[]]
    assert (check().state, check().found) == ("inconclusive", "there is no Pod to ask")
    pod_proxy.lists = [[pod("api-7f-a", deleted=True)]]
    assert check().state == "inconclusive"


@pytest.mark.parametrize(
    "now", [{"terminated": {"exitCode": 3}}, {"running": {}}, {"waiting": {"reason": "CrashLoopBackOff"}}]
)
def test_of_pods_that_are_not_ready_is_told_how_they_ended(
    pod_proxy: PodProxy, check: Callable[..., Any], now: dict[str, Any]
) -> None:
    """A rollout is complete at the first moment in which all are ready; who ends right after it is met here."""
    ended = pod("api-7f-a", ready=False)
    before = {} if "terminated" in now else {"lastState": {"terminated": {"exitCode": 3}}, "restartCount": 1}
    ended["status"]["containerStatuses"] = [{"name": "api", "ready": False, "state": now, **before}]
    pod_proxy.lists = [[ended]]
    verdict = check()
    assert verdict.state == "fail"
    assert verdict.found.startswith("none of 1 Pods is ready: Pod api-7f-a, container api: ")
    assert "it ended with exit code 3" in verdict.found


def test_an_api_server_that_is_away_or_says_no_holds(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    for code in (500, 403):
        pod_proxy.list_code = code
        verdict = check()
        assert (verdict.state, "the Pods' health is not known" in verdict.found) == ("inconclusive", True)


def test_a_pod_without_a_port_holds_and_says_what_to_set(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod("api-7f-a", port=0)]]
    verdict = check()
    assert (verdict.state, "set release.gates.port" in verdict.found) == ("inconclusive", True)


def test_of_an_answer_a_line_is_told_and_no_secret(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    register_secret("hunter2-of-the-pod")
    pod_proxy.lists = [[pod("api-7f-a")]]
    pod_proxy.answer = lambda _name, _path: (500, f"database hunter2-of-the-pod is away\nsecond line\n{'x' * 100_000}")
    found = check().found
    assert "is away" in found
    assert "hunter2" not in found
    assert "second line" not in found


def test_many_ill_pods_are_not_all_asked(pod_proxy: PodProxy, check: Callable[..., Any]) -> None:
    pod_proxy.lists = [[pod(f"api-7f-{n}") for n in range(30)]]
    pod_proxy.answer = lambda _name, _path: (500, "")
    assert check().state == "fail"
    assert len(pod_proxy.asked) == 3 * 2 * 3


def test_of_a_long_answer_only_the_beginning_is_read(pod_proxy: PodProxy, client: KubernetesClient) -> None:
    pod_proxy.answer = lambda _name, _path: (200, "x" * 1_000_000)
    status, text = client.answer("/api/v1/namespaces/production/pods/a:1/proxy/health", seconds=5)
    assert (status, len(text)) == (200, ANSWER_BYTES)


def test_the_side_of_a_selector_has_its_ready_pods_and_all_its_replica_sets(
    pod_proxy: PodProxy, client: KubernetesClient
) -> None:
    pod_proxy.lists = [[pod("api-7f-b"), pod("api-7f-a"), pod("api-6e-x", ready=False), pod("api-5d-y", deleted=True)]]
    side = find_side(client, "production", "app=api")
    assert side == PodSide(names=("api-7f-a", "api-7f-b"), replica_sets=("api-5d", "api-6e", "api-7f"))
    pod_proxy.lists = [[pod("api-6e-x", ready=False)]]
    assert find_side(client, "production", "app=api") is None


def test_a_ready_pod_that_nobody_had_time_to_ask_holds(
    pod_proxy: PodProxy, check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.pod_health._LONGEST_SECONDS", -1.0)
    pod_proxy.lists = [[pod("api-7f-a")]]
    assert (check().state, check().found) == ("inconclusive", "1 of 1 Pods are ready; not asked in time: api-7f-a")
