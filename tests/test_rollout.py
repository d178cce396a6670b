"""Waiting for a rollout: complete as soon as it is, failed as soon as it is known, and neither because the API server was away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from core.container_trouble import Graces
from core.errors import PermanentError, TemporaryError
from core.fence import FencedError
from tasks import rollout_stability
from tasks.kubernetes_answers import ForbiddenError
from tasks.kubernetes_client import KubernetesClient
from tasks.rollout import RolloutEnd, RolloutFailedError, RolloutLateError, wait_for_rollout
from tasks.rollout_stability import observe_stability
from tests.fix_kubernetes import Document, KubernetesApi

OLD, NEW = "registry.example.com/api:1", "registry.example.com/api:2"
SPACE = "default"
QUICK = Graces(image=1, image_not_there=1, configuration=1, start=1, mount=1, probe=1, unschedulable=1, node_comes=1)
LABELS = {"app": "api"}


class LoggingClient(KubernetesClient):
    """A client of an API that has logs too: the small one of the tests keeps none."""

    logs: dict[str, list[str]] = {}  # noqa: RUF012 - replaced, never changed

    def lines(self, path: str, *, seconds: float, **parameters: str) -> Iterator[str]:
        assert seconds < 60
        which = "previous" if parameters.get("previous") else "current"
        yield from self.logs.get(f"{path.rsplit('/', 2)[-2]} {parameters['container']} {which}", [])


class Release:
    """A Deployment in the small API whose controller is the test."""

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "api", "image": NEW}]}}
        self.written = api.put(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "api", "namespace": SPACE, "generation": 2},
                "spec": {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template},
                "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
            }
        )
        self.told: list[str] = []
        self.looks = 0
        self.replica_set = self.owned(
            "apps/v1",
            "ReplicaSet",
            "api-2",
            self.written["metadata"]["uid"],
            annotations={"deployment.kubernetes.io/revision": "2"},
            spec={"template": template},
        )

    def owned(self, api_version: str, kind: str, name: str, owner: str, **more: Any) -> Document:
        reference = {"controller": True, "uid": owner, "kind": "any", "name": "any"}
        metadata = {"name": name, "namespace": SPACE, "labels": LABELS, "ownerReferences": [reference]}
        for key in ("annotations", "deletionTimestamp"):
            metadata |= {key: more.pop(key)} if key in more else {}
        return self.api.put({"apiVersion": api_version, "kind": kind, "metadata": metadata, **more})

    def pod(self, name: str, *, ready: bool = False, since: str = "", **container: Any) -> Document:
        one = {"name": "api", "image": NEW, "restartCount": 0, "ready": ready, "state": {"running": {}}, **container}
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
        status = {"containerStatuses": [one], "conditions": [condition]}
        key = ("v1", "pods", SPACE, name)
        if key in self.api.objects:
            return self.api.set_status("v1", "pods", SPACE, name, **status)
        return self.owned("v1", "Pod", name, self.replica_set["metadata"]["uid"], status=status)

    def event(self, pod: Document, reason: str, message: str) -> None:
        uid = pod["metadata"]["uid"]
        document = {
            "apiVersion": "v1",
            "kind": "Event",
            "reason": reason,
            "message": message,
            "involvedObject": {"uid": uid},
        }
        # The small API selects by fields of the first level.
        self.api.put(
            {
                **document,
                "metadata": {"name": f"e-{time.monotonic_ns()}", "namespace": SPACE},
                "involvedObject.uid": uid,
            }
        )

    def status(self, **status: Any) -> None:
        self.api.set_status("apps/v1", "deployments", SPACE, "api", **{"observedGeneration": 2, **status})

    def going_on(self) -> None:
        self.status(updatedReplicas=1, replicas=3, availableReplicas=2)

    def complete(self) -> None:
        self.status(updatedReplicas=2, replicas=2, availableReplicas=2)

    def merge(self, patch: Document) -> None:
        self.api.merge("apps/v1", "deployments", SPACE, "api", patch)

    def still_ours(self) -> None:
        self.looks += 1

    def wait(self, client: KubernetesClient, *, seconds: float = 20, graces: Graces = QUICK, **more: Any) -> RolloutEnd:
        chosen = {"on_change": self.told.append, "still_ours": self.still_ours, **more}
        return wait_for_rollout(
            client, SPACE, "api", written=self.written, container="api", image=NEW, seconds=seconds, graces=graces, **chosen
        )  # fmt: skip

    def settle(self, client: KubernetesClient, seconds: float = 2, **more: Any) -> str:
        chosen = {"on_change": self.told.append, "still_ours": self.still_ours, **more}
        return observe_stability(
            client, SPACE, "api", written=self.written, container="api", image=NEW, seconds=seconds, **chosen
        )


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[LoggingClient]:
    assert kubernetes
    with LoggingClient.open(None) as opened:
        assert isinstance(opened, LoggingClient)
        yield opened


@pytest.fixture
def release(kubernetes: KubernetesApi) -> Release:
    return Release(kubernetes)


@contextmanager
def meanwhile(*steps: tuple[float, Callable[[], object]]) -> Iterator[None]:
    """Do each step so many seconds after the one before, beside what the test does."""

    def play() -> None:
        for after, step in steps:
            time.sleep(after)
            step()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_a_rollout_is_complete_at_the_moment_in_which_it_is_and_each_step_is_told_once(
    release: Release, client: LoggingClient
) -> None:
    with meanwhile((0.3, release.going_on), (0.2, release.going_on), (0.3, release.complete)), within(8):
        end = release.wait(client)
    assert (end.sentence, end.replicas) == ('deployment "api" successfully rolled out', 2)
    assert 0.7 < end.seconds < 5
    assert release.told == [
        "Waiting for deployment spec update to be observed...",
        'Waiting for deployment "api" rollout to finish: 1 out of 2 new replicas have been updated...',
        'deployment "api" successfully rolled out',
    ]


@pytest.mark.parametrize(
    ("patch", "kind", "words"),
    [
        ({"metadata": {"generation": 3}, "spec": {"paused": True}}, "paused", "is paused"),
        ({"metadata": {"generation": 3}, "spec": {"replicas": 0}}, "zero-replicas", "zero replicas"),
        (
            {"metadata": {"generation": 3}, "spec": {"template": {"spec": {"containers": [{"name": "api", "image": OLD}]}}}},
            "foreign-change",
            f"its container api has image {OLD}, and we wrote {NEW}",
        ),
    ],
)  # fmt: skip
def test_what_somebody_does_to_the_deployment_meanwhile_ends_it_at_once(
    release: Release, client: LoggingClient, patch: Document, kind: str, words: str
) -> None:
    with (
        meanwhile((0.3, lambda: release.merge(patch))),
        within(6),
        pytest.raises(RolloutFailedError, match="could not roll out \\(deployment default/api\\)") as caught,
    ):
        release.wait(client)
    assert caught.value.kind == kind
    assert words in caught.value.cause


def test_a_deployment_that_is_deleted_or_made_anew_ends_it_at_once(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi
) -> None:
    def delete() -> None:
        kubernetes.delete("apps/v1", "deployments", SPACE, "api", None)

    with meanwhile((0.3, delete)), within(6), pytest.raises(RolloutFailedError, match="is gone"):
        release.wait(client)
    kubernetes.put({**release.written, "metadata": {"name": "api", "namespace": SPACE, "generation": 2}})
    with pytest.raises(RolloutFailedError, match="made it anew"):
        release.wait(client)


def test_pods_that_cannot_begin_end_it_though_the_deployment_never_changes(
    release: Release, client: LoggingClient
) -> None:
    release.going_on()
    pod = release.pod("api-2-a", state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}})
    release.event(pod, "Failed", "Failed to pull image: manifest unknown")
    with within(8), pytest.raises(RolloutFailedError) as caught:
        release.wait(client)
    assert caught.value.kind == "image"
    assert "Pod api-2-a, container api: its image" in caught.value.cause
    assert "manifest unknown" in caught.value.cause
    assert str(caught.value).endswith("Push the image, or mend the registry and its credentials")


def test_a_crash_is_told_with_the_end_of_its_log_which_was_kept_while_it_was_there(
    release: Release, client: LoggingClient
) -> None:
    release.going_on()
    ended = {"terminated": {"exitCode": 3, "reason": "Error"}}
    client.logs = {"api-2-a api previous": ["starting", "", "no table users"]}
    release.pod("api-2-a", state=ended)

    def again() -> None:
        client.logs = {"api-2-a api previous": ["unable to retrieve container logs for containerd://6fb5"]}
        release.pod("api-2-a", state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended, restartCount=2)

    with meanwhile((0.7, again)), within(8), pytest.raises(RolloutFailedError) as caught:
        release.wait(client)
    assert caught.value.cause.endswith(
        "it ended with exit code 3, restarted 2 times; the end of its log: starting | no table users"
    )
    assert "Pod api-2-a, container api: it ended with exit code 3" in release.told


def test_the_old_versions_pods_are_none_of_its_business(release: Release, client: LoggingClient) -> None:
    old = release.owned("apps/v1", "ReplicaSet", "api-1", release.written["metadata"]["uid"], spec={"template": {}})
    status = {"containerStatuses": [{"name": "api", "state": {"waiting": {"reason": "InvalidImageName"}}}]}
    release.owned("v1", "Pod", "api-1-a", old["metadata"]["uid"], status=status)
    release.going_on()
    with meanwhile((4, release.complete)):
        assert release.wait(client).replicas == 2


def test_pods_of_before_are_none_of_its_business_even_when_they_have_the_same_image(
    release: Release, client: LoggingClient
) -> None:
    # New configuration for a version that crashes: the controller has not made its ReplicaSet yet.
    crash = release.pod("api-2-a", state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=9)
    assert crash
    with meanwhile((0.5, release.complete)):
        assert release.wait(client).replicas == 2


def test_a_trouble_that_passes_in_time_ends_nothing(release: Release, client: LoggingClient) -> None:
    release.going_on()
    release.pod("api-2-a", state={"waiting": {"reason": "ErrImagePull", "message": "refused"}})
    with meanwhile((3.5, lambda: release.pod("api-2-a", ready=True)), (4, release.complete)):
        assert release.wait(client, graces=Graces()).replicas == 2
    assert any("cannot be pulled" in sentence for sentence in release.told)


def refused(message: str) -> list[Document]:
    return [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}]


def test_a_quota_is_no_failure_while_old_pods_drain(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.rollout_status.CREATION_GRACE", 1.0)
    old = release.owned("apps/v1", "ReplicaSet", "api-1", release.written["metadata"]["uid"], spec={"template": {}})
    release.owned("v1", "Pod", "api-1-a", old["metadata"]["uid"], deletionTimestamp="2026-01-01T02:00:00Z", status={})
    release.status(updatedReplicas=1, conditions=refused("exceeded quota: small"))
    drained = threading.Event()

    def drain() -> None:
        drained.set()
        kubernetes.delete("v1", "pods", SPACE, "api-1-a", None)

    with meanwhile((5.0, drain)):
        with within(12), pytest.raises(RolloutFailedError, match="exceeded quota: small") as caught:
            release.wait(client)
        assert drained.is_set()
    assert caught.value.kind == "replica-failure"


def test_an_exceeded_deadline_is_told_with_what_is_wrong_with_the_pods(release: Release, client: LoggingClient) -> None:
    pod = release.pod("api-2-a")
    release.event(pod, "Unhealthy", "Readiness probe failed: 503")
    condition = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2026-01-01T02:00:00Z"}
    release.status(updatedReplicas=1, conditions=[condition])
    client.logs = {"api-2-a api current": ["waiting for the queue"]}
    with within(7), pytest.raises(RolloutFailedError) as caught:
        release.wait(client, graces=Graces())
    assert caught.value.cause == (
        'deployment "api" exceeded its progress deadline; Pod api-2-a, container api: it runs and is not ready: '
        "Readiness probe failed: 503; the end of its log: waiting for the queue"
    )


def test_time_that_is_up_is_told_with_kubectls_last_sentence_and_the_pods_trouble(
    release: Release, client: LoggingClient
) -> None:
    release.pod("api-2-a", state={"waiting": {"reason": "ContainerCreating"}})
    release.going_on()
    with within(9), pytest.raises(RolloutLateError, match="not complete after 4 s") as caught:
        release.wait(client, seconds=4)
    assert isinstance(caught.value, PermanentError)
    assert caught.value.cause == (
        'Waiting for deployment "api" rollout to finish: 1 out of 2 new replicas have been updated...; '
        "Pod api-2-a, container api: it has not begun (ContainerCreating)"
    )


def test_a_holder_that_lost_its_lease_stops_at_its_next_look(release: Release, client: LoggingClient) -> None:
    release.going_on()
    lost = threading.Event()

    def still_ours() -> None:
        if lost.is_set():
            raise FencedError("wait", "deployment", "another holder's number")

    with meanwhile((0.3, lost.set)), within(8), pytest.raises(FencedError):
        release.wait(client, still_ours=still_ours)


def test_what_breaks_between_us_and_the_api_server_is_waited_out(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi
) -> None:
    release.going_on()
    steps = (
        (0.3, kubernetes.cut_watches),
        (0.3, lambda: kubernetes.fail("GET", "/deployments", 0, times=3)),
        (0.1, kubernetes.cut_watches),
        (0.3, kubernetes.forget_history),
        (0.0, lambda: kubernetes.fail("GET", "watch=1", 410)),
        (0.0, kubernetes.cut_watches),
        (0.3, lambda: kubernetes.fail("GET", "/pods", 429, times=2, Retry_After="1")),
        (0.3, lambda: kubernetes.fail("GET", "/replicasets", 503, times=7)),
        (0.0, kubernetes.cut_watches),
        (3.0, release.complete),
    )
    with meanwhile(*steps):
        assert release.wait(client, seconds=40).replicas == 2


def test_an_old_token_is_renewed(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi, tmp_path: Any
) -> None:
    release.going_on()

    def renew() -> None:
        kubernetes.kubeconfig(tmp_path, token="second-token")
        kubernetes.tokens = {"second-token"}
        kubernetes.cut_watches()

    with meanwhile((0.3, renew), (2, release.complete)):
        assert release.wait(client).replicas == 2


def test_a_trouble_is_not_final_because_nobody_could_look_for_as_long(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi
) -> None:
    release.going_on()
    release.pod("api-2-a", state={"waiting": {"reason": "ErrImagePull", "message": "refused"}})

    def blind() -> None:
        kubernetes.fail("GET", "/pods", 500, times=10)
        release.pod("api-2-a", ready=True)

    # It was seen once; while the Pods cannot be looked at, the image comes.
    with meanwhile((0.3, blind), (9, release.complete)):
        assert release.wait(client, graces=Graces(image=3), seconds=40).replicas == 2


def test_a_right_that_is_missing_is_told_at_once(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi
) -> None:
    release.going_on()
    kubernetes.fail("GET", "/pods", 403)
    with within(7), pytest.raises(ForbiddenError, match="403"):
        release.wait(client)


def test_events_and_logs_that_may_not_be_read_hide_no_failure(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi
) -> None:
    release.going_on()
    kubernetes.fail("GET", "/events", 403, times=9)
    release.pod("api-2-a", state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=2)
    with within(8), pytest.raises(RolloutFailedError, match="restarted 2 times"):
        release.wait(client)


def test_waiting_costs_few_requests(release: Release, client: LoggingClient, kubernetes: KubernetesApi) -> None:
    release.going_on()
    release.pod("api-2-a")
    kubernetes.requests.clear()
    busy = [(0.05, release.going_on)] * 60
    with meanwhile(*busy, (2, release.complete)):
        release.wait(client, graces=Graces())
    # Five seconds, sixty changes.
    assert len(kubernetes.requests) < 25
    assert kubernetes.count("GET", "/deployments") <= 5


def settled(release: Release) -> None:
    release.complete()
    for name in ("api-2-a", "api-2-b"):
        release.pod(name, ready=True, since="2026-01-01T02:00:00Z")


def test_pods_that_stay_ready_are_told(release: Release, client: LoggingClient) -> None:
    settled(release)
    assert release.settle(client) == "2 new Pods stayed ready for 2 s without a restart"
    assert release.looks >= 2


def test_readiness_that_flaps_for_a_moment_is_seen(release: Release, client: LoggingClient) -> None:
    settled(release)
    dip = (0.4, lambda: release.pod("api-2-b")), (0.0, lambda: release.pod("api-2-b", ready=True))
    with meanwhile(*dip), within(6), pytest.raises(RolloutFailedError, match="readiness flaps: Pod api-2-b") as caught:
        release.settle(client, 5)
    assert caught.value.kind == "flaps"


def test_readiness_that_flapped_while_nobody_could_look_is_seen_by_its_time(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi
) -> None:
    settled(release)

    def unseen() -> None:
        with kubernetes.changed:
            release.pod("api-2-b", ready=True, since="2026-01-01T02:00:09Z")
            kubernetes.version += 1
            kubernetes.oldest = kubernetes.version
            kubernetes.cut_watches()

    with meanwhile((0.4, unseen)), pytest.raises(RolloutFailedError, match="was ready, was not, and is again"):
        release.settle(client, 4)


def test_a_deployment_that_changes_hands_while_it_settles_is_a_failure(release: Release, client: LoggingClient) -> None:
    settled(release)
    patch = {
        "metadata": {"generation": 3},
        "spec": {"template": {"spec": {"containers": [{"name": "api", "image": OLD}]}}},
    }
    with (
        meanwhile((0.4, lambda: release.merge(patch))),
        pytest.raises(RolloutFailedError, match="somebody else changed"),
    ):
        release.settle(client)


def test_an_hpa_that_asks_for_more_while_it_settles_is_no_failure(release: Release, client: LoggingClient) -> None:
    settled(release)
    more = {"metadata": {"generation": 3}, "spec": {"replicas": 5}}
    with meanwhile((0.4, lambda: release.merge(more))):
        assert release.settle(client) == "2 new Pods stayed ready for 2 s without a restart"


@pytest.mark.parametrize("change", [{"metadata": {"annotations": {"note": "x"}}}, {"spec": {"replicas": 1}}])
def test_a_change_that_the_controller_has_not_seen_yet_while_it_settles_is_no_failure(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi, change: Document
) -> None:
    settled(release)
    release.merge(change)

    def seen() -> None:
        wanted = kubernetes.read("apps/v1", "deployments", SPACE, "api")["spec"]["replicas"]
        number = {"updatedReplicas": wanted, "replicas": wanted, "availableReplicas": wanted}
        release.status(observedGeneration=3, **number)

    # After its time, too.
    with meanwhile((1.5, seen)):
        release.settle(client, 1)
    assert release.looks > 2


def test_a_change_that_no_controller_sees_until_the_end_is_a_failure(
    release: Release, client: LoggingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(release)
    monkeypatch.setattr(rollout_stability, "_LAST_LOOK_SECONDS", 1.0)
    release.merge({"metadata": {"annotations": {"note": "x"}}})
    with pytest.raises(RolloutFailedError, match="not complete any more: Waiting for deployment spec update"):
        release.settle(client, 1)


def test_too_few_that_are_left_at_the_end_are_a_failure(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi
) -> None:
    settled(release)

    def fewer() -> None:
        kubernetes.delete("v1", "pods", SPACE, "api-2-b", None)
        release.status(availableReplicas=1)

    with meanwhile((0.4, fewer)), pytest.raises(RolloutFailedError, match=r"not complete any more: .*1 of 2 updated"):
        release.settle(client)


def test_without_a_look_at_the_end_nobody_says_that_it_is_well(
    release: Release, client: LoggingClient, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(release)
    monkeypatch.setattr(rollout_stability, "_LAST_LOOK_SECONDS", 1.0)
    with meanwhile((0.4, lambda: kubernetes.fail("GET", SPACE, 503, times=99))), pytest.raises(TemporaryError):
        release.settle(client, 1)
