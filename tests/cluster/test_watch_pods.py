"""The watch's looks on a real node: a version that ends at once is a crash loop within one look, and what is killed for its memory is told so."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.fence import Document
from core.pods_elsewhere import HELD_BACK
from core.pods_look import PodsLook, Watched
from core.watch_pods import PodsSeen, crash_loop, pods_after, pods_findings
from tasks.hasty_kubernetes import HastyClient
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.watch_pods import look_at_pods
from tests.cluster.test_rollout import Lab, deployment
from tests.fix_cluster import image_turn, lab_program
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]
IMAGE = "localhost/hello:watch-pods-1"
NAMES = ("api", "worker", "web")
WATCHED = tuple(Watched(deployment=name, containers=("hello",), image=IMAGE) for name in NAMES[:2])


@pytest.fixture
def lab(cluster: KubernetesClient) -> Iterator[Lab]:
    build = lab_program("apps/hello/build.sh")
    with image_turn():
        subprocess.run([build, "watch-pods-1"], check=True, capture_output=True, timeout=120)
    there = Lab()
    yield there
    there.close()


def command(*words: str) -> dict[str, Any]:
    return {"container": {"command": list(words), "readinessProbe": None, "resources": {"limits": {"memory": "24Mi"}}}}


def made(lab: Lab, namespace: str, name: str, **more: Any) -> None:
    document = deployment(name, "watch-pods-1", **more)
    lab.make(namespace, document)


def test_a_version_that_ends_at_once_is_found_in_one_look_and_an_end_for_want_of_memory_is_told(lab: Lab) -> None:
    namespace = lab.namespace()
    made(lab, namespace, "web")
    made(lab, namespace, "api", replicas=2)
    made(lab, namespace, "worker")

    def look(before: PodsSeen | None) -> PodsLook:
        with HastyClient.within(None, seconds=60) as client:
            return look_at_pods(client, namespace, WATCHED, before=before)

    wait_until(lambda: all(_ready(lab.client, namespace, name) for name in NAMES), "all Pods are ready", seconds=120)
    seen = pods_after(None, look(None), bucket=-1)
    assert seen.elsewhere is not None
    assert (seen.elsewhere.everywhere.workloads, seen.elsewhere.everywhere.crashing) == (1, 0)
    # The version stays the same, its Pods are made anew: as if what it needs were gone.
    for name, words in {
        "api": ("sh", "-c", "exit 3"),
        "worker": ("python3", "-c", "import time; time.sleep(1); b'x' * 2**30"),
    }.items():
        path = find_kind(lab.client, "Deployment").path(namespace, name)
        lab.client.merge(
            path,
            {"spec": {"template": {"spec": {"containers": [{"name": "hello", **command(*words)["container"]}]}},
                      "strategy": {"rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}}}},
            strategic=True,
        )  # fmt: skip
    began, found = time.monotonic(), ""
    while time.monotonic() - began < 240:
        after = pods_after(seen, look(seen), bucket=0)
        found = crash_loop(after, bucket=0) or ""
        # A container that was just started anew is not held back in that look, and events come a little later.
        held = any(HELD_BACK in one.what for one in after.standing) and any(
            one.reason == "BackOff" for one in after.events
        )
        if "api: 2 of 2" in found and any(one.oom_kills for one in after.totals) and held:
            break
        time.sleep(1)
    assert "api: 2 of 2 Pods of the new version crash again and again" in found
    assert "exit code 3" in found
    assert "of 1 other workloads 0 do" in found
    assert len(after.replica_sets) == 4
    texts = [one.text for one in pods_findings(after)]
    assert any("worker: container hello" in text and "for want of memory (OOMKilled)" in text for text in texts), texts
    assert any(HELD_BACK in one.what for one in after.standing)
    assert any(one.reason == "BackOff" for one in after.events), after.events


def _ready(client: KubernetesClient, namespace: str, name: str) -> bool:
    document: Document = client.get(find_kind(client, "Deployment").path(namespace, name))
    status = document.get("status") or {}
    return bool(status.get("readyReplicas") == document["spec"]["replicas"])
