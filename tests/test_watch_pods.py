"""What is seen of a version's Pods over a day: restarts by count delta and uid, what stands wrong, Warnings; and the looks at the API, well and ill."""

import json
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.canonical import canonical_bytes
from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.pods_elsewhere import HELD_BACK
from core.pods_look import MOST_CONTAINERS, Found, PodsLook, Watched, look_of, watched_of
from core.redaction import register_secret
from core.watch_pods import PodsSeen, crash_loop, pods_after, pods_findings
from tasks.hasty_kubernetes import HastyClient
from tasks.kubeconfig import Connection
from tasks.kubernetes_answers import ForbiddenError, GoneError
from tasks.watch_pods import look_at_pods
from tests.fix_kubernetes import KubernetesApi
from tests.fix_pods_look import (
    API,
    IMAGE,
    OLD_IMAGE,
    deployment,
    look,
    plain_look,
    pod,
    replica_set,
    status,
    warning,
)
from tests.fix_raw_server import RawServer, dripping, http
from tests.test_release_plan import SIDES, plan, target

Document = dict[str, Any]


def after(*looks: PodsLook, first: int = 0) -> PodsSeen:
    seen = None
    for bucket, one in enumerate(looks, first):
        seen = pods_after(seen, one, bucket=bucket)
    assert seen is not None
    return seen


def texts(seen: PodsSeen) -> list[str]:
    return [one.text for one in pods_findings(seen)]


def test_restarts_are_counted_from_look_to_look_and_a_pod_that_vanished_keeps_its_own() -> None:
    seen = after(
        look(pod("api-7f-a", status(restarts=7))),
        look(
            pod("api-7f-a", status(restarts=9, ended="OOMKilled", code=137)),
            pod("api-7f-b", status(restarts=1, ended="Error")),
        ),
        look(pod("api-7f-b", status(restarts=2, ended="Error", code=3))),
        look(),
    )
    (total,) = seen.totals
    assert (total.restarts, total.oom_kills, total.pods, total.first, total.last) == (4, 1, 2, 1, 2)
    assert total.names == ("api-7f-b", "api-7f-a")
    assert texts(seen)[0] == (
        "api: container api was restarted 4 times on 2 Pods (api-7f-b, api-7f-a), at least 1 of these for want of memory (OOMKilled),"
        " first in bucket 1, 0:10 h after the release, last in bucket 2 (exit code 3)"
    )
    assert pods_findings(seen)[0].severity == "warning"


def test_a_few_restarts_are_a_note() -> None:
    seen = after(look(pod("api-7f-a")), look(pod("api-7f-a", status(restarts=1, ended="Error"))))
    assert [(one.severity, one.text[:33]) for one in pods_findings(seen)] == [
        ("note", "api: container api was restarted ")
    ]


def test_a_pod_that_one_look_missed_is_not_a_new_one() -> None:
    well = pod("api-7f-a", status(restarts=5))
    assert after(look(well), look(), look(well)).totals == ()


def test_what_stands_wrong_is_told_once_it_stood_for_two_looks() -> None:
    ill = look(pod("api-7f-a", status(waiting="ImagePullBackOff")), unavailable=2)
    assert texts(after(ill)) == []
    assert texts(after(ill, look(pod("api-7f-a")))) == []
    assert sorted(texts(after(look(pod("api-7f-a")), ill, ill))) == [
        "api: Pods wait: ImagePullBackOff, up to 1 of 1, e.g. Pod api-7f-a, in 2 looks since bucket 1, 0:10 h after the release",
        "api: replicas are not available, up to 2 of 3, in 2 looks since bucket 1, 0:10 h after the release",
    ]
    # What was so for long stays told, and says when it last was.
    assert texts(after(ill, ill, *[look(pod("api-7f-a"))] * 20))[0].endswith("last in bucket 1")
    # Two moments, hours apart, are two moments.
    apart = after(ill, *[look(pod("api-7f-a"))] * 20, ill)
    assert texts(apart) == []
    assert texts(pods_after(after(ill), ill, bucket=50)) == []


def test_a_deployment_that_is_gone_or_runs_another_image_is_told() -> None:
    other = look(pod("api-6e-a", of="api-6e"), replica_sets=(replica_set("api-6e", image=OLD_IMAGE),))
    assert "no Pod runs the released image" in texts(after(other, other))[0]
    gone = look_of([Found(API, None)], ())
    assert "there is no such Deployment" in texts(after(gone, gone))[0]
    assert texts(after(*[look(replicas=0)] * 2)) == []


def test_replica_sets_of_the_released_image_are_gathered_and_old_ones_are_none() -> None:
    restarted = (
        replica_set("api-7f", replicas=0),
        replica_set("api-9d", revision=3),
        replica_set("api-6e", image=OLD_IMAGE),
    )
    long_ago = (replica_set("api-9d", revision=3), replica_set("api-11", revision=1, replicas=0))
    seen = after(
        look(pod("api-7f-a")), look(pod("api-9d-a", of="api-9d"), replica_sets=restarted), look(replica_sets=long_ago)
    )
    assert seen.replica_sets == ("api-7f", "api-9d")
    # Scaled to nothing, the newest is still the new version's.
    assert look(replica_sets=(replica_set("api-7f", replicas=0),), replicas=0).replica_sets == ("api-7f",)


def test_warnings_are_counted_by_how_much_their_count_grew() -> None:
    own = (pod("api-7f-a"),)
    first = look(*own, events=[warning("api-7f-a", "Unhealthy", count=5), warning("web-1", "Unhealthy")])
    assert after(first).events == ()
    second = look(
        *own,
        events=[
            warning("api-7f-a", "Unhealthy", count=8),
            warning("api-7f", "FailedCreate", message="quota password=x1y2z3"),
        ],
    )
    seen = after(first, second, second)
    assert [(one.reason, one.count, one.first) for one in seen.events] == [("Unhealthy", 3, 1), ("FailedCreate", 1, 1)]
    assert (
        texts(seen)[1]
        == "api: 1 Warnings FailedCreate since bucket 1, 0:10 h after the release, last in bucket 1: quota password=*****"
    )


def test_a_message_of_an_event_is_redacted_and_cut() -> None:
    register_secret("hunter2-in-an-event")
    event = warning("api-7f-a", "Failed", message=f"pull hunter2-in-an-event\n{'x' * 9999}")
    (one,) = look(pod("api-7f-a"), events=[event]).events
    assert "hunter2" not in one.message
    assert len(one.message) == 120


def test_the_deployments_of_a_plan_are_those_that_run_after_it() -> None:
    worker = target(key="deployment/worker", name="worker", role="worker")
    rolling = plan(targets=(target(), worker, target(key="cronjob/nightly", kind="CronJob", name="nightly")))
    assert [one.deployment for one in watched_of(rolling)] == [target().name, "worker"]
    assert watched_of(rolling)[0].image == rolling.image_of(target())
    blue_green = rolling.model_copy(update={"sides": SIDES})
    assert [one.deployment for one in watched_of(blue_green)] == ["hello-blue", "worker"]


counts = st.dictionaries(st.sampled_from([f"p{n}" for n in range(6)]), st.integers(0, 20), max_size=6)


@given(st.lists(counts, min_size=1, max_size=12))
@settings(max_examples=30)
def test_of_counts_that_only_grow_the_total_is_what_they_grew_by(steps: list[dict[str, int]]) -> None:
    seen, known, expected = None, dict[str, int](), 0
    for bucket, step in enumerate(steps):
        now = {name: known.get(name, 0) + more for name, more in step.items()}
        expected += sum(step.values()) if bucket else 0
        known |= now
        seen = pods_after(seen, plain_look(*now.items()), bucket=bucket)
    assert seen is not None
    assert sum(one.restarts for one in seen.totals) == expected


@given(st.lists(counts, min_size=1, max_size=8), st.booleans())
@settings(max_examples=30)
def test_the_same_look_twice_and_an_earlier_one_change_nothing(steps: list[dict[str, int]], held: bool) -> None:
    looks = [plain_look(*step.items(), waiting=HELD_BACK if held else "") for step in steps]
    seen = after(*looks)
    assert pods_after(seen, looks[-1], bucket=seen.bucket) == seen
    assert pods_after(seen, looks[0], bucket=seen.bucket - 1) == seen
    again = pods_after(seen, looks[-1], bucket=seen.bucket)
    assert (crash_loop(again, bucket=again.bucket), pods_findings(again)) == (
        crash_loop(seen, bucket=seen.bucket),
        pods_findings(seen),
    )


def _crowd(bucket: int, size: int) -> PodsLook:
    name = "a" * 47
    pods = [
        pod(
            f"{name}-7f9c6d7b8d-{n:05}",
            *(
                status(
                    container, restarts=bucket * 7, waiting=f"Reason{container}{bucket}", ended="ContainerCannotRun" * 3
                )
                for container in ("b" * 60, "c" * 60, "d" * 60)
            ),
            of=f"{name}-{bucket:010}",
        )
        for n in range(size)
    ]
    watched = Watched(deployment=name, containers=("b" * 60,), image=IMAGE)
    own = replica_set(f"{name}-{bucket:010}", of=name)
    own["spec"]["template"]["spec"]["containers"][0]["name"] = "b" * 60
    events = [
        warning(f"{name}-7f9c6d7b8d-{n % size:05}", f"Reason{n}", count=bucket + 1, message="💥" * 300, uid=f"{n}")
        for n in range(200)
    ]
    others = [pod(f"{'o' * 50}{n}-1-a", status(waiting=HELD_BACK), of=f"{'o' * 50}{n}-1") for n in range(40)]
    gathered = [Found(watched, deployment(name, unavailable=size), (own,), tuple(pods))]
    return look_of(gathered, events, everyone=[*pods, *others])


def test_what_is_kept_is_bounded_however_many_pods_there_are_and_holds_no_fractions() -> None:
    seen = None
    for bucket in range(15):
        seen = pods_after(seen, _crowd(bucket, 120), bucket=bucket)
    assert seen is not None
    size = len(canonical_bytes(seen.model_dump(mode="json")))
    assert 8_000 < size <= 20_000
    assert PodsSeen.model_validate_json(seen.model_dump_json()) == seen
    assert seen.pods_left_out == 120 - MOST_CONTAINERS // 3
    findings = pods_findings(seen)
    assert len(findings) < 25
    assert max(len(one.text) for one in findings) < 700


@given(st.integers(1, 400), st.integers(0, 3))
@settings(max_examples=8)
def test_of_many_pods_the_same_ones_are_looked_at_each_time(size: int, gone: int) -> None:
    def names(some: Iterable[int]) -> set[str]:
        return {one.name for one in look(*(pod(f"api-7f-{n}") for n in some)).pods}

    before, now = names(range(size)), names(range(gone, size))
    assert len(before) == min(size, MOST_CONTAINERS)
    # Who left made room for as many others.
    assert len(before - now) <= gone


# The looks themselves


@pytest.fixture
def api(kubernetes: KubernetesApi) -> KubernetesApi:
    put(kubernetes, pod("api-7f-a"), pod("web-1-a", of="web-1"))
    return kubernetes


def put(api: KubernetesApi, *pods: Document) -> None:
    labels = {"metadata": {"labels": {"app": "api"}}}
    made, owned = _in_default(deployment()), _in_default(replica_set("api-7f"))
    owned["spec"]["template"] |= labels
    owned["spec"]["selector"] = made["spec"]["selector"]
    made["spec"]["template"] = owned["spec"]["template"]
    owner = api.put({"apiVersion": "apps/v1", "kind": "Deployment", **made})
    owned["metadata"]["ownerReferences"][0]["uid"] = owner["metadata"]["uid"]
    api.put({"apiVersion": "apps/v1", "kind": "ReplicaSet", **owned})
    for one in pods:
        api.put({"apiVersion": "v1", "kind": "Pod", **_in_default(one)})


def _in_default(document: Document) -> Document:
    document["metadata"].pop("uid", None)
    document["metadata"]["namespace"] = "default"
    return document


def look_now(*, before: PodsSeen | None = None, seconds: float = 5) -> PodsLook:
    with HastyClient.within(None, seconds=seconds) as client:
        return look_at_pods(client, "default", [API], before=before)


def test_a_look_asks_three_times_for_a_deployment_once_for_warnings_and_at_first_for_all_pods(
    api: KubernetesApi,
) -> None:
    seen = look_now()
    assert [one.name for one in seen.pods] == ["api-7f-a"]
    assert seen.elsewhere is not None
    assert seen.elsewhere.everywhere.workloads == 1
    assert len(api.requests) == 5
    api.requests.clear()
    assert look_now(before=pods_after(None, seen, bucket=0)).elsewhere is None
    assert len(api.requests) == 4


def test_the_number_of_requests_does_not_grow_with_pods(api: KubernetesApi) -> None:
    for n in range(60):
        api.put({"apiVersion": "v1", "kind": "Pod", **_in_default(pod(f"api-7f-x{n}"))})
    look_now(before=after(look()))
    assert len(api.requests) == 4


def test_once_most_new_pods_were_restarted_the_others_are_looked_at(api: KubernetesApi) -> None:
    api.put({"apiVersion": "v1", "kind": "Pod", **_in_default(pod("api-7f-b", status(restarts=1)))})
    assert look_now(before=after(look())).elsewhere is None
    api.put({"apiVersion": "v1", "kind": "Pod", **_in_default(pod("api-7f-c", status(restarts=1)))})
    assert look_now(before=after(look())).elsewhere is not None


def test_a_deployment_that_is_gone_is_found_so(kubernetes: KubernetesApi) -> None:
    assert [one.there for one in look_now().deployments] == [False]


def test_a_right_that_is_missing_is_named_by_verb_and_resource(raw_server: RawServer) -> None:
    said = 'pods is forbidden: User "night" cannot list resource "pods" in API group "" in the namespace "default"'

    def answers(asked: bytes) -> list[bytes | float]:
        if b"/pods" in asked:
            return http(json.dumps({"kind": "Status", "message": said}), status="403 Forbidden")
        return http(json.dumps({"metadata": {"uid": "u"}, "spec": {"selector": {"matchLabels": {"app": "api"}}}}))

    raw_server.answers = answers
    with pytest.raises(ForbiddenError, match=r'cannot list resource "pods".*rbac\.yaml'):
        raw_look(raw_server)


def test_warnings_that_may_not_be_read_are_said_to_be_unread(api: KubernetesApi) -> None:
    api.fail("GET", "events", 403)
    seen = after(look_now())
    assert "Warnings of Kubernetes could not be read: 403: scripted 403" in texts(seen)


def test_an_expired_list_and_an_api_that_is_away_are_for_later(api: KubernetesApi) -> None:
    api.fail("GET", "/pods", 410)
    with pytest.raises(GoneError):
        look_now()
    api.fail("GET", "deployments", 503)
    with pytest.raises(TemporaryError, match="503"):
        look_now()
    api.close()
    with pytest.raises(TemporaryError, match="onnection refused"):
        look_now()


def raw_look(server: RawServer, *, seconds: float = 1.0, before: PodsSeen | None = None) -> PodsLook:
    connection = Connection(server.address, "scripted", ssl.create_default_context(), token="t")
    with HastyClient(lambda: connection, seconds=seconds) as client:
        return look_at_pods(client, "default", [API], before=before)


RUBBISH: dict[str, Callable[[], Iterable[bytes | float]]] = {
    "nothing": lambda: (),
    "no http": lambda: (b"SSH-2.0-OpenSSH_9\r\n",),
    "a page": lambda: http("<html>sign in</html>", Content_Type="text/html"),
    "a list": lambda: http("[1, 2]"),
    "text where objects ought to be": lambda: http('{"items": ["a"], "metadata": "x", "spec": "y"}'),
    "numbers": lambda: http('{"items": [{"metadata": 3}], "spec": {"selector": 7}}'),
    "null": lambda: http("null"),
    "deep": lambda: http("[" * 100_000),
    "no gzip": lambda: http("x", Content_Encoding="gzip"),
    "another place": lambda: http("", status="302 Found", Location="http://198.51.100.1/"),
    "half": lambda: http("{", Content_Length="5000"),
    "drops": lambda: dripping(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"),
    "silence": lambda: (30.0,),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_whatever_is_answered_one_sentence_is_raised_in_time(raw_server: RawServer, kind: str) -> None:
    raw_server.answers = lambda _asked: RUBBISH[kind]()
    began = time.monotonic()
    with pytest.raises((TemporaryError, PermanentError)) as raised:
        raw_look(raw_server, seconds=0.5)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - began < 15


def test_a_kubeconfig_that_is_not_there_is_a_mistake_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError):
        look_now()
