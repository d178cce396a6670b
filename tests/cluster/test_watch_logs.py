"""The logs of real Pods: what the old version said is learned, and what the new one says besides is told, with its Pods, before a restart too."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.environment_watch_logs import WatchLogs
from core.watch_logs import LogSeen, logs_after, logs_findings
from tasks.kubernetes_client import KubernetesClient
from tasks.watch_logs import look_at_logs, train_logs
from tests.fix_hello import HelloImages
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Deploy = Callable[..., None]


@pytest.fixture
def deploy(cluster: KubernetesClient, drill_namespace: str, hello_images: HelloImages) -> Deploy:
    def deployed(name: str, replicas: int, **knobs: str) -> None:
        labels = {"app": name}
        container = {
            "name": "hello",
            "image": hello_images.first,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": key, "value": value} for key, value in knobs.items()],
            "ports": [{"containerPort": 8080}],
        }
        template = {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        }
        document: dict[str, Any] = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        }
        cluster.create(f"/apis/apps/v1/namespaces/{drill_namespace}/deployments", document)

    return deployed


def pods_of(cluster: KubernetesClient, namespace: str, name: str) -> list[str]:
    """The names of the Pods of an application that answer."""
    pods = cluster.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={name}")
    path = f"/api/v1/namespaces/{namespace}/pods"
    names = [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"]
    return [one for one in names if cluster.answer(f"{path}/{one}:8080/proxy/x", seconds=5)[0] in {200, 500}]


def test_errors_of_the_new_version_alone_are_told(
    cluster: KubernetesClient, drill_namespace: str, deploy: Deploy
) -> None:
    deploy("old", 1, ERROR_RATE="0")
    # Each request fails, and is logged as an error; and after some seconds it ends, having said so.
    deploy("new", 2, ERROR_RATE="1", CRASH_AFTER="8")
    wait_until(lambda: len(pods_of(cluster, drill_namespace, "old")) == 1, "the old version answers", seconds=120)
    logs = WatchLogs(kind="pods", hits=1, settle_seconds=0, seconds=20)
    where = {"namespace": drill_namespace, "client": cluster}
    baseline = train_logs(logs, before=datetime.now(UTC), now=datetime.now(UTC), workloads=["old"], **where)
    assert baseline is not None
    assert (baseline.lines, baseline.days, baseline.whole) == (0, 0, True)

    # A bucket that ends now: five minutes in which both versions began.
    def told() -> LogSeen | None:
        pods_of(cluster, drill_namespace, "new")
        now = datetime.now(UTC)
        first = now - timedelta(minutes=5)
        look = look_at_logs(logs, first=first, now=now, seen=None, baseline=baseline, workloads=["new"], **where)
        seen = logs_after(None, look, bucket=0)
        templates = {one.template for one in seen.new if len(one.pods) == 2}
        return seen if templates == {"request", "CRASH_AFTER"} else None

    ends, seen = time.monotonic() + 150, told()
    while seen is None and time.monotonic() < ends:
        time.sleep(0.5)
        seen = told()
    assert seen is not None
    findings = [one.text for one in logs_findings(seen)]
    assert any('"CRASH_AFTER"' in text and "new-" in text for text in findings), json.dumps(findings)
    assert all(one.severity == "note" for one in logs_findings(seen))
    assert (seen.most_pods, seen.pods_read, seen.errors[0] is not None) == (2, 2, True)
