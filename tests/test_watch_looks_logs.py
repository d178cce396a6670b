"""What the look at the logs learns of the time before: nothing from the new version itself, and once."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from core.environment_watch_logs import WatchLogs
from tasks import watch_looks
from tasks.object_reader import ObjectMissingError
from tests.fix_elasticsearch import ElasticsearchApi
from tests.fix_kubernetes import KubernetesApi

NOW = datetime(2026, 11, 26, 10, tzinfo=UTC)


class Records:
    """Keeps what was learned."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def known_logs(self) -> Any:
        if not self.kept:
            raise ObjectMissingError("read", "known-logs.json", "it is not there")
        return self.kept[0]

    def keep(self, record: Any) -> bool:
        self.kept.append(record)
        return True


def stand(logs: WatchLogs, old_side: str = "") -> Any:
    start = SimpleNamespace(
        environment="staging", release_id="r-1", namespace="production", deployments=("api",), old_side=old_side
    )
    return SimpleNamespace(
        settings=SimpleNamespace(logs=logs),
        start=start,
        records=Records(),
        planned_at=lambda: NOW - timedelta(minutes=30),
    )


def test_what_came_up_with_the_new_version_is_not_learned(
    kubernetes: KubernetesApi, elasticsearch_api: ElasticsearchApi
) -> None:
    elasticsearch_api.log(NOW - timedelta(hours=3), "order 17 failed", pod="api-5c4b3a-aaaaa")
    elasticsearch_api.log(NOW - timedelta(minutes=10), "redis is away", pod="api-7f5d9c-aaaaa")
    found = stand(WatchLogs(kind="elasticsearch", address=elasticsearch_api.address))
    known = watch_looks._known_logs(found, None, NOW)
    assert known is not None
    assert known.templates == ("order <NUM> failed",)
    asked = len(elasticsearch_api.asked)
    assert watch_looks._known_logs(found, None, NOW) == known
    assert len(elasticsearch_api.asked) == asked


@pytest.mark.parametrize("old_side", ["", "api-blue"])
def test_of_pods_only_the_old_side_s_are_learned_from_and_none_are_no_error(
    kubernetes: KubernetesApi, old_side: str
) -> None:
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "production"}})
    spec = {"containers": [{"name": "api", "image": "x"}]}
    for name in ("api-7f5d9c-aaaaa", "api-blue-7f5d9c-aaaaa"):
        metadata = {"name": name, "namespace": "production"}
        kubernetes.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        kubernetes.set_log("production", name, f"2026-11-26T09:00:00Z ERROR told by {name.removesuffix('-aaaaa')}\n")
    known = watch_looks._known_logs(stand(WatchLogs(kind="pods"), old_side), None, NOW)
    assert (known.templates if known else None) == (("told by api-blue-<NUM>f<NUM>d<NUM>c",) if old_side else None)
    assert watch_looks._known_logs(stand(WatchLogs(kind="pods"), "api-green"), None, NOW) is None
