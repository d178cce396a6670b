"""Rollouts on a real cluster: the verdict, and each failure with its cause in one sentence within about half a minute, long before the progress deadline.

All of them run at once, each with a Deployment of its own: what takes time is waiting.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from core.fence import Document
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.rollout import RolloutFailedError, wait_for_rollout
from tasks.rollout_stability import observe_stability
from tests.fix_cluster import Removals, image_turn, lab_program
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800), pytest.mark.xdist_group("rollout")]
# What half a minute may be on a node where seventeen Pods begin at once and other tests run; what only a deadline tells takes ten minutes.
SOON = 100
IMAGES = {
    "rollout-1": (),
    "rollout-2": (),
    "rollout-crash": ("CRASH_AFTER=0.5", "READY_DELAY=never"),
    "rollout-later": ("CRASH_AFTER=25",),
    "rollout-never": ("READY_DELAY=never",),
}


@dataclass
class End:
    """How one rollout ended: its error or sentence, after how many seconds, and what was told on the way."""

    error: RolloutFailedError | None = None
    sentence: str = ""
    seconds: float = 0.0
    told: list[str] = field(default_factory=list)


PROBE: Document = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5}


def deployment(name: str, tag: str, **pod: Any) -> Document:
    # An answer that takes long is none of the failures: a busy machine may take more than the default, a second.
    probe = PROBE | {"failureThreshold": 2}
    container = {
        "name": "hello",
        "image": f"localhost/hello:{tag}",
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "DRAIN", "value": "0"}],
        "readinessProbe": probe,
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}},
        **pod.pop("container", {}),
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": pod.pop("replicas", 1),
            "paused": pod.pop("paused", False),
            "progressDeadlineSeconds": pod.pop("deadline", 600),
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **pod},
            },
        },
    }


def quota(namespace: str, **hard: str) -> Document:
    metadata = {"name": "small", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


class Lab:
    """Namespaces of the tests' own, and rollouts in them."""

    def __init__(self) -> None:
        self.client = KubernetesClient.open(None)
        self._removals = Removals(self.client)

    def namespace(self, *quotas: Callable[[str], Document]) -> str:
        name = self._removals.namespace()
        for make in quotas:
            made = self.client.create(f"/api/v1/namespaces/{name}/resourcequotas", make(name))
            path = f"/api/v1/namespaces/{name}/resourcequotas/{made['metadata']['name']}"
            wait_until(lambda path=path: self.client.get(path).get("status", {}).get("hard"), "the quota holds")
        return name

    def make(self, namespace: str, document: Document) -> Document:
        return self.client.create(find_kind(self.client, "Deployment").path(namespace), document)

    def set_image(self, namespace: str, name: str, tag: str, **spec: int) -> Document:
        path = find_kind(self.client, "Deployment").path(namespace, name)
        containers = [{"name": "hello", "image": f"localhost/hello:{tag}"}]
        change = {"template": {"spec": {"containers": containers}}, **spec}
        return self.client.merge(path, {"spec": change}, strategic=True)

    def wait(self, namespace: str, written: Document, *, seconds: float = 120) -> End:
        end, began = End(), time.monotonic()
        image = written["spec"]["template"]["spec"]["containers"][0]["image"]
        try:
            with KubernetesClient.open(None) as client:
                done = wait_for_rollout(
                    client,
                    namespace,
                    written["metadata"]["name"],
                    written=written,
                    container="hello",
                    image=image,
                    seconds=seconds,
                    on_change=end.told.append,
                    still_ours=lambda: None,
                )
                end.sentence = done.sentence
        except RolloutFailedError as error:
            end.error = error
        end.seconds = time.monotonic() - began
        return end

    def close(self) -> None:
        """Remove the namespaces."""
        self._removals.close()
        self.client.__exit__()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    build = lab_program("apps/hello/build.sh")
    for tag, knobs in IMAGES.items():
        with image_turn():
            subprocess.run([build, tag, *knobs], check=True, capture_output=True, timeout=120)
    there = Lab()
    try:
        yield there
    finally:
        there.close()


FAILING: dict[str, Document] = {
    "image-gone": deployment("image-gone", "never-made"),
    "crash": deployment("crash", "rollout-crash"),
    "never-ready": deployment("never-ready", "rollout-never"),
    "no-node": deployment("no-node", "rollout-1", nodeSelector={"kind-of-node": "none"}),
    "no-secret": deployment(
        "no-secret", "rollout-1", container={"envFrom": [{"secretRef": {"name": "not-there"}}]}
    ),
    "no-volume": deployment(
        "no-volume",
        "rollout-1",
        container={"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]},
        volumes=[{"name": "settings", "configMap": {"name": "not-there"}}],
    ),
    "no-command": deployment("no-command", "rollout-1", container={"command": ["/not-there"]}),
    "init-fails": deployment(
        "init-fails",
        "rollout-1",
        initContainers=[
            {"name": "prepare", "image": "localhost/hello:rollout-1", "command": ["sh", "-c", "echo no table; exit 7"]}
        ],
    ),
    "short-of-memory": deployment(
        "short-of-memory",
        "rollout-1",
        container={"command": ["python3", "-c", "x = 'a' * (200 << 20); print(len(x))"], "resources": {"limits": {"memory": "20Mi"}}},
    ),
    "paused": deployment("paused", "rollout-1", paused=True),
    "zero": deployment("zero", "rollout-1", replicas=0),
    # Late enough for its Pod to run by then; its probe has longer.
    "deadline": deployment(
        "deadline", "rollout-never", deadline=45, container={"readinessProbe": PROBE | {"failureThreshold": 300}}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ends(lab: Lab) -> dict[str, End]:
    """Every rollout that fails, by its name."""
    namespace = lab.namespace()
    no_pods = lab.namespace(lambda name: quota(name, **{"limits.memory": "1Mi"}))
    no_sets = lab.namespace(lambda name: quota(name, **{"count/replicasets.apps": "0"}))
    written = {name: (namespace, lab.make(namespace, document)) for name, document in FAILING.items()}
    written["no-pods"] = (no_pods, lab.make(no_pods, deployment("no-pods", "rollout-1")))
    written["no-sets"] = (no_sets, lab.make(no_sets, deployment("no-sets", "rollout-1")))
    with ThreadPoolExecutor(len(written)) as pool:
        running = {name: pool.submit(lab.wait, *where) for name, where in written.items()}
        return {name: one.result() for name, one in running.items()}


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("image-gone", "image", ["its image localhost/hello:never-made cannot be pulled", "pull"]),
        ("crash", "crash", ["it ended with exit code 3", "restarted 2 times", "the end of its log:", "CRASH_AFTER"]),
        ("never-ready", "probe", ["it runs and is not ready", "Readiness probe failed", "503"]),
        ("no-node", "unschedulable", ["no node takes it (Unschedulable: 0/1 nodes are available", "didn't match Pod's node"]),
        ("no-secret", "configuration", ['it cannot be configured (CreateContainerConfigError: secret "not-there" not found)']),
        ("no-volume", "mount", ["a volume cannot be mounted", 'configmap "not-there" not found']),
        ("no-command", "start", ["it ended with exit code 128 (StartError)", "/not-there", "restarted once"]),
        ("init-fails", "crash", ["init container prepare: it ended with exit code 7", "the end of its log: no table"]),
        ("short-of-memory", "crash", ["it was killed for its memory (OOMKilled, exit code 137)"]),
        ("paused", "paused", ['deployment "paused" is paused']),
        ("zero", "zero-replicas", ['deployment "zero" wants zero replicas']),
        ("deadline", "deadline", ['deployment "deadline" exceeded its progress deadline', "it runs and is not ready"]),
        ("no-pods", "replica-failure", ['deployment "no-pods" cannot make its Pods (FailedCreate)', "exceeded quota: small"]),
        ("no-sets", "replica-set", ['deployment "no-sets" cannot make its ReplicaSet', "exceeded quota: small"]),
    ],
)  # fmt: skip
def test_a_rollout_that_fails_says_why_within_about_half_a_minute(
    ends: dict[str, End], name: str, kind: str, words: list[str]
) -> None:
    end = ends[name]
    assert end.error is not None
    assert end.error.kind == kind
    assert [word for word in words if word not in end.error.cause] == []
    assert end.seconds < SOON


def test_a_good_rollout_is_complete_and_stays_ready_and_one_that_crashes_later_does_not(lab: Lab) -> None:
    namespace = lab.namespace()
    written = lab.make(namespace, deployment("hello", "rollout-1", replicas=2))
    assert lab.wait(namespace, written).sentence == 'deployment "hello" successfully rolled out'
    written = lab.set_image(namespace, "hello", "rollout-2")
    end = lab.wait(namespace, written)
    assert end.sentence == 'deployment "hello" successfully rolled out'
    assert any("new replicas have been updated..." in sentence for sentence in end.told)
    stood = settle(lab, namespace, written, 4)
    assert stood == "2 new Pods stayed ready for 4 s without a restart"
    # One Pod: it is ready long before it ends, which the first of two may not be any more once the second is.
    written = lab.set_image(namespace, "hello", "rollout-later", replicas=1)
    assert lab.wait(namespace, written).sentence == 'deployment "hello" successfully rolled out'
    with pytest.raises(RolloutFailedError, match=r"readiness flaps: Pod hello-\S+ was ready"):
        settle(lab, namespace, written, 90)


def settle(lab: Lab, namespace: str, written: Document, seconds: float) -> str:
    return observe_stability(
        lab.client,
        namespace,
        "hello",
        written=written,
        container="hello",
        image=written["spec"]["template"]["spec"]["containers"][0]["image"],
        seconds=seconds,
        on_change=lambda _told: None,
        still_ours=lambda: None,
    )


def test_a_deadline_that_was_exceeded_before_our_write_is_not_ours(lab: Lab) -> None:
    namespace = lab.namespace()
    first = lab.make(namespace, deployment("hello", "rollout-1"))
    assert lab.wait(namespace, first).error is None
    missing = lab.set_image(namespace, "hello", "never-made", progressDeadlineSeconds=6)
    assert lab.wait(namespace, missing, seconds=30).error is not None
    path = find_kind(lab.client, "Deployment").path(namespace, "hello")
    wait_until(lambda: "ProgressDeadlineExceeded" in str(lab.client.get(path)), "the deadline is exceeded")
    end = lab.wait(namespace, lab.set_image(namespace, "hello", "rollout-1"))
    assert (end.error, end.sentence) == (None, 'deployment "hello" successfully rolled out')
