"""What keeps Pods from becoming ready: one sentence each, and how long it must stand before it is final."""

from typing import Any

import pytest

from core.container_trouble import Graces
from core.patience import Patience
from core.pod_trouble import Document, Trouble, find_troubles, newest_replica_set, pods_of, with_log
from core.redaction import register_secret
from core.stability import first_end, flapping, restarts_by_container, standings

GRACES = Graces()
IMAGE = "registry.example.com/api:2"


def waiting(reason: str, message: str = "", **more: Any) -> Document:
    return container(state={"waiting": {"reason": reason, "message": message}}, **more)


def container(**more: Any) -> Document:
    return {"name": "api", "image": IMAGE, "ready": False, "restartCount": 0, **more}


def ended(code: int, reason: str = "Error", **more: Any) -> Document:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def pod(*containers: Document, name: str = "api-1", **more: Any) -> Document:
    specification = {"containers": [{"name": "api", **more.pop("probes", {})}]}
    metadata = {"name": name, "uid": f"uid-{name}", **more.pop("metadata", {})}
    return {"metadata": metadata, "spec": specification, "status": {"containerStatuses": list(containers), **more}}


def event(reason: str, message: str, at: str = "2026-01-01T02:00:00Z") -> Document:
    return {"reason": reason, "message": message, "lastTimestamp": at}


def trouble_of(document: Document, *events: Document, first_restarts: int = 0) -> Trouble:
    uid = document["metadata"]["uid"]
    (found,) = find_troubles([document], {uid: events}, {uid: first_restarts})
    return found


PULL = 'Failed to pull image "registry.example.com/api:2": rpc error: code = Unknown desc = '


@pytest.mark.parametrize(
    ("status", "events", "kind", "grace", "sentence"),
    [
        (
            waiting("ErrImagePull", "dial tcp: connection refused"),
            (),
            "image",
            GRACES.image,
            f"its image {IMAGE} cannot be pulled (ErrImagePull: dial tcp: connection refused)",
        ),
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "api:2"'),
            (event("Failed", f"{PULL}manifest unknown"), event("Failed", "Error: ErrImagePull", "2026-01-01T02:00:09Z")),
            "image",
            GRACES.image_not_there,
            f"its image {IMAGE} cannot be pulled (ImagePullBackOff: {PULL.replace(IMAGE, '…')}manifest unknown)",
        ),
        (
            # containerd's words; with a registry's whole name and a digest the cause would be cut off.
            waiting("ErrImagePull", f'failed to unpack image "{IMAGE}": failed to resolve "{IMAGE}": {IMAGE}: not found'),
            (),
            "image",
            GRACES.image_not_there,
            f'its image {IMAGE} cannot be pulled (ErrImagePull: failed to unpack image "…": failed to resolve "…": …: not found)',
        ),
        (waiting("ErrImagePull", f"{IMAGE}: not found"), (), "image", GRACES.image_not_there, "cannot be pulled"),
        (
            waiting("InvalidImageName", "couldn't parse image reference"),
            (),
            "image",
            0.0,
            f"its image {IMAGE} cannot be used (InvalidImageName: couldn't parse image reference)",
        ),
        (
            waiting("CreateContainerConfigError", 'secret "database" not found'),
            (),
            "configuration",
            GRACES.configuration,
            'it cannot be configured (CreateContainerConfigError: secret "database" not found)',
        ),
        (
            waiting("RunContainerError", 'exec: "node": not found'),
            (),
            "start",
            GRACES.start,
            'it cannot be started (RunContainerError: exec: "node": not found)',
        ),
        (
            waiting("CrashLoopBackOff", restartCount=2, lastState=ended(3)),
            (),
            "crash",
            0.0,
            "it ended with exit code 3, restarted 2 times",
        ),
        (
            waiting("CrashLoopBackOff", restartCount=1, lastState=ended(0, "Completed")),
            (),
            "crash",
            None,
            "it ended with exit code 0, restarted once",
        ),
        (
            container(state=ended(1, message="no such table"), restartCount=0),
            (),
            "crash",
            None,
            "it ended with exit code 1: no such table",
        ),
        (
            waiting("CrashLoopBackOff", restartCount=4, lastState=ended(137, "OOMKilled")),
            (event("Unhealthy", "Liveness probe failed: slow"),),
            "crash",
            0.0,
            "it was killed for its memory (OOMKilled, exit code 137), restarted 4 times",
        ),
        (
            waiting("CrashLoopBackOff", restartCount=2, lastState=ended(143)),
            (event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500"),),
            "crash",
            0.0,
            "it ended with exit code 143; Liveness probe failed: HTTP probe failed with statuscode: 500, restarted 2 times",
        ),
        (
            waiting("CrashLoopBackOff", restartCount=1, lastState=ended(128, "StartError", message="no such file")),
            (),
            "start",
            0.0,
            "it ended with exit code 128 (StartError): no such file, restarted once",
        ),
        # Between two of its ends, and never held back long enough to be seen so.
        (
            container(state={"running": {}}, restartCount=2, lastState=ended(3)),
            (),
            "crash",
            0.0,
            "it ended with exit code 3, restarted 2 times",
        ),
        (
            container(state={"running": {}}),
            (event("Unhealthy", "Readiness probe failed: 503"), event("Unhealthy", "older", "2026-01-01T01:00:00Z")),
            "probe",
            GRACES.probe,
            "it runs and is not ready: Readiness probe failed: 503",
        ),
        (
            container(state={"running": {}}, restartCount=1),
            (),
            "probe",
            GRACES.probe,
            "it runs and is not ready, restarted once",
        ),
        # Begun again a moment ago.
        (
            container(state={"running": {}}, restartCount=1, lastState=ended(3)),
            (),
            "probe",
            GRACES.probe,
            "it runs and is not ready; before, it ended with exit code 3, restarted once",
        ),
        (
            waiting("ContainerCreating"),
            (event("FailedMount", 'MountVolume.SetUp failed: configmap "settings" not found'),),
            "mount",
            GRACES.mount,
            'a volume cannot be mounted: MountVolume.SetUp failed: configmap "settings" not found',
        ),
        (
            waiting("ContainerCreating"),
            (event("FailedMount", "timed out"), event("Pulling", "Pulling image", "2026-01-01T02:00:05Z")),
            "waiting",
            None,
            "it has not begun (ContainerCreating)",
        ),
        (
            waiting("ContainerCreating"),
            (event("FailedCreatePodSandBox", "no address left"),),
            "mount",
            GRACES.mount,
            "its sandbox cannot be made: no address left",
        ),
    ],
)  # fmt: skip
def test_a_container_that_does_not_come_is_told_with_its_reason_and_its_grace(
    status: Document, events: tuple[Document, ...], kind: str, grace: float | None, sentence: str
) -> None:
    found = trouble_of(pod(status), *events)
    assert (found.kind, found.grace) == (kind, grace)
    assert sentence in found.sentence
    assert found.sentence.startswith("Pod api-1, container api: ")


def test_a_container_that_is_ready_is_no_trouble_whatever_was_before() -> None:
    well = container(state={"running": {}}, ready=True, restartCount=3, lastState=ended(1))
    assert find_troubles([pod(well)], {}, {"uid-api-1": 0}) == []


def test_restarts_of_long_ago_do_not_make_one_more_end_final() -> None:
    again = pod(container(state=ended(1), restartCount=8))
    assert trouble_of(again, first_restarts=7).grace is None
    assert trouble_of(again, first_restarts=6).grace == 0.0


def test_an_init_container_is_told_as_such_and_one_that_is_done_is_none() -> None:
    failing = {"name": "prepare", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(7)}  # fmt: skip
    found = trouble_of(pod(waiting("PodInitializing"), initContainerStatuses=[failing]))
    assert found.sentence == "Pod api-1, init container prepare: it ended with exit code 7, restarted 2 times"
    assert (found.container, found.grace) == ("prepare", 0.0)
    done = {"name": "prepare", "restartCount": 0, "ready": True, "state": ended(0, "Completed")}
    ready = container(state={"running": {}}, ready=True)
    assert find_troubles([pod(ready, initContainerStatuses=[done])], {}, {}) == []


def test_a_volume_of_a_pod_with_init_containers_is_seen_by_them() -> None:
    first = {"name": "prepare", "state": {"waiting": {"reason": "PodInitializing"}}}
    found = trouble_of(
        pod(waiting("PodInitializing"), initContainerStatuses=[first]), event("FailedMount", "no such claim")
    )
    assert found.kind == "mount"


def test_no_node_is_told_in_the_schedulers_words_and_waited_for_when_one_is_announced() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
    }
    lonely = pod(conditions=[condition])
    found = trouble_of(lonely)
    assert found.sentence == "Pod api-1: no node takes it (Unschedulable: 0/3 nodes are available)"
    assert found.grace == GRACES.unschedulable
    assert trouble_of(lonely, event("NotTriggerScaleUp", "max size reached")).grace == GRACES.unschedulable
    for reason in ("TriggeredScaleUp", "Nominated"):
        announced = trouble_of(lonely, event(reason, "node group 3->4"))
        assert announced.grace == GRACES.node_comes
        assert announced.sentence.endswith("; but a node may come: node group 3->4")


def test_a_pod_whose_own_probes_give_it_longer_has_longer() -> None:
    slow = container(state={"running": {}})
    probes = {
        "startupProbe": {"periodSeconds": 10, "failureThreshold": 30},
        "readinessProbe": {"initialDelaySeconds": 5},
    }
    assert trouble_of(pod(slow, probes=probes)).grace == 10 * 30 + 5 + 10 * 3
    assert trouble_of(pod(slow, probes={"readinessProbe": {"periodSeconds": 1}})).grace == GRACES.probe


def test_readiness_gates_and_evicted_pods_are_told_and_end_nothing() -> None:
    ready = container(state={"running": {}}, ready=True)
    gate = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": "target-health"}
    assert (trouble_of(pod(ready, conditions=[gate])).kind, trouble_of(pod(ready, conditions=[gate])).grace) == (
        "gate",
        None,
    )
    evicted = trouble_of(pod(phase="Failed", reason="Evicted", message="low on memory"))
    assert (evicted.sentence, evicted.grace) == ("Pod api-1: it ended (Evicted: low on memory)", None)


def test_of_several_troubles_the_one_that_explains_most_comes_first() -> None:
    unready = pod(container(state={"running": {}}), name="api-1")
    no_image = pod(waiting("ErrImagePull"), name="api-2")
    assert [one.pod for one in find_troubles([unready, no_image], {}, {})] == ["api-2", "api-1"]


def test_a_log_is_cut_to_its_last_lines_and_holds_no_secret() -> None:
    register_secret("hunter2-hunter2")
    crash = trouble_of(pod(waiting("CrashLoopBackOff", restartCount=2, lastState=ended(3))))
    told = with_log(crash, [*(f"line {number}" for number in range(9)), "", "password=hunter2-hunter2", "x" * 900])
    assert told.startswith(f"{crash.sentence}; the end of its log: line 6 | line 7 | line 8 | password=***** | xxx")
    assert len(told) < 400
    assert with_log(crash, ["", " "]) == crash.sentence


def test_words_of_the_cluster_are_one_line_cut_and_without_secrets() -> None:
    register_secret("token-of-the-registry")
    found = trouble_of(pod(waiting("ErrImagePull", "refused\n\tby token-of-the-registry " + "y" * 2000)))
    assert "refused by *****" in found.sentence
    assert "\n" not in found.sentence
    assert len(found.sentence) < 600


def test_an_image_that_is_tried_again_and_a_mount_that_gets_its_words_are_the_same_trouble_as_before() -> None:
    tried, held = trouble_of(pod(waiting("ErrImagePull"))), trouble_of(pod(waiting("ImagePullBackOff")))
    assert tried.key == held.key
    creating = pod(waiting("ContainerCreating"))
    assert trouble_of(creating).key == trouble_of(creating, event("FailedMount", "x")).key


def owned(kind: str, name: str, owner: str, **more: Any) -> Document:
    metadata = {"name": name, "uid": f"uid-{name}", "ownerReferences": [{"controller": True, "uid": owner}], **more}
    template = {"spec": {"containers": [{"name": "api", "image": f"api:{name}"}]}}
    return {"kind": kind, "metadata": metadata, "spec": {"template": template}}


def revision(number: int) -> dict[str, Any]:
    return {"annotations": {"deployment.kubernetes.io/revision": str(number)}}


def test_the_newest_replica_set_is_the_deployments_own_of_the_highest_revision_and_ours() -> None:
    deployment = {"metadata": {"uid": "uid-d"}}
    sets = [
        owned("ReplicaSet", "1", "uid-d", **revision(10)),
        owned("ReplicaSet", "2", "uid-d", **revision(9)),
        owned("ReplicaSet", "3", "uid-other", **revision(11)),
    ]
    assert newest_replica_set(deployment, sets, ("api", "api:1")) is sets[0]
    # Ours is not made yet: the old version's Pods are none of our business.
    assert newest_replica_set(deployment, sets, ("api", "api:4")) is None
    assert newest_replica_set(deployment, [], ("api", "api:1")) is None


def test_pods_that_somebody_ends_are_not_looked_at() -> None:
    replica_set = owned("ReplicaSet", "1", "uid-d")
    stays, goes = owned("Pod", "a", "uid-1"), owned("Pod", "b", "uid-1", deletionTimestamp="2026-01-01T02:00:00Z")
    assert pods_of(replica_set, [stays, goes, owned("Pod", "c", "uid-2")]) == [stays]


def test_patience_counts_from_when_a_thing_was_first_seen_without_a_break() -> None:
    patience = Patience()
    patience.look(["a", "b"], 10.0)
    patience.look(["a"], 15.0)
    patience.look(["a", "b"], 20.0)
    assert [patience.stood(key, 20.0) for key in ("a", "b", "c")] == [10.0, 0.0, 0.0]


def ready_pod(since: str = "2026-01-01T02:00:00Z", *, status: str = "True", restarts: int = 0, **more: Any) -> Document:
    condition = {
        "type": "Ready",
        "status": status,
        "lastTransitionTime": since,
        "message": "containers with unready status",
    }
    one = container(restartCount=restarts, lastState=ended(3, finishedAt="2026-01-01T02:00:00Z"))
    return pod(one, conditions=[condition], **more)


def test_readiness_that_goes_comes_back_unseen_or_a_restart_is_flapping() -> None:
    before = standings({}, [ready_pod()])
    assert flapping(before, [ready_pod()]) == ""
    assert flapping(before, [ready_pod(status="False")]) == (
        "readiness flaps: Pod api-1 was ready and is not any more (containers with unready status)"
    )
    assert "was ready, was not, and is again" in flapping(before, [ready_pod("2026-01-01T02:00:07Z")])
    assert "a container of it was started again (exit code 3, Error)" in flapping(before, [ready_pod(restarts=1)])


def test_a_pod_that_goes_or_comes_is_not_flapping() -> None:
    before = standings({}, [ready_pod()])
    assert flapping(before, []) == ""
    assert flapping(before, [ready_pod(status="False", metadata={"deletionTimestamp": "now"})]) == ""
    assert flapping(before, [ready_pod(), ready_pod(status="False", name="api-2")]) == ""
    # One that came later counts from when it was first ready.
    later = standings(before, [ready_pod(), ready_pod(name="api-2", restarts=1)])
    assert "Pod api-2 was ready and is not any more" in flapping(
        later, [ready_pod(name="api-2", status="False", restarts=1)]
    )


def test_a_container_that_ended_since_one_looked_is_told_by_pod_and_container() -> None:
    before = restarts_by_container([ready_pod(restarts=1)])
    assert first_end(before, [ready_pod(restarts=1)]) is None
    found = first_end(before, [ready_pod(restarts=2)])
    assert found is not None
    assert found.sentence == "Pod api-1, container api: it ended with exit code 3, restarted 2 times"
    # It is not started again yet.
    now_ended = pod(container(restartCount=1, state=ended(137, "OOMKilled")))
    found = first_end(before, [now_ended])
    assert found is not None
    assert "it was killed for its memory (OOMKilled, exit code 137)" in found.sentence
    # One that came since has none to begin with.
    assert first_end({}, [ready_pod(name="api-2", restarts=1)]) is not None


def test_a_pod_whose_containers_were_ended_by_others_is_no_end_of_its_own() -> None:
    assert first_end({}, [ready_pod(restarts=1, metadata={"deletionTimestamp": "now"})]) is None
    assert first_end({}, [pod(container(state=ended(137)), phase="Failed")]) is None
