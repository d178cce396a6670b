"""The logs of a watch as the Pods' containers wrote them: of a few Pods by turns, so many bytes and seconds, the trouble before a restart too."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.environment_watch_logs import WatchLogs
from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.log_signatures import LogBaseline, train
from core.watch_logs import LogLook, logs_after, logs_findings
from tasks import watch_pod_logs
from tasks.hasty_kubernetes import HastyClient
from tasks.kubernetes_client import KubernetesClient
from tasks.watch_logs import look_at_logs, train_logs
from tests.fix_kubernetes import KubernetesApi

FIRST = datetime(2026, 11, 26, 10, tzinfo=UTC)
KNOWN = train(["order <NUM> failed"], kind="pods", read_at=FIRST, days=7)


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "production"}})
    with KubernetesClient.open(None) as opened:
        yield opened


def pod(api: KubernetesApi, name: str, *lines: str, status: dict[str, Any] | None = None, **more: Any) -> None:
    containers = [{"name": "api", "image": "x"}, {"name": "sidecar", "image": "x"}]
    metadata = {"name": name, "namespace": "production", **more}
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
    api.set_status("v1", "pods", "production", name, phase="Running", **(status or {}))
    api.set_log("production", name, "".join(f"{line}\n" for line in lines))


def line(minutes: float, text: str) -> str:
    return f"{(FIRST + timedelta(minutes=minutes)).strftime('%Y-%m-%dT%H:%M:%S')}.123456789Z {text}"


def looked(
    client: KubernetesClient, *, minutes: float = 10, baseline: LogBaseline | None = KNOWN, **more: Any
) -> LogLook:
    logs = WatchLogs.model_validate({"kind": "pods", "settle_seconds": 0, "seconds": 5, **more})
    at = FIRST + timedelta(minutes=minutes)
    return look_at_logs(
        logs,
        first=FIRST,
        now=at,
        seen=None,
        baseline=baseline,
        workloads=["api"],
        namespace="production",
        client=client,
    )


def test_lines_are_counted_by_closed_bucket_and_new_errors_told(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    for name in ("api-7f5d9c-aaaaa", "api-7f5d9c-bbbbb"):
        pod(
            kubernetes,
            name,
            line(-1, "ERROR before the release"),
            line(1, '{"level":"error","msg":"order 17 failed"}'),
            line(2, '{"level":"info","msg":"all is well"}'),
            *(line(6, f'{{"level":50,"msg":"redis {number} is away"}}') for number in range(3)),
            "    at a place in code, without a time",
            line(11, "ERROR of a bucket that is not over"),
        )
    pod(kubernetes, "other-7f5d9c-aaaaa", line(1, "ERROR of another workload"))
    found = looked(client)
    assert [(one.bucket, one.lines, one.errors, one.looked_at) for one in found.buckets] == [(0, 4, 2, 2), (1, 6, 6, 6)]
    assert (found.pods_read, found.pods_all, found.short) == (2, 2, "")
    ((finding),) = logs_findings(logs_after(None, found, bucket=1))
    assert finding.severity == "warning"
    assert '"redis <NUM> is away", 6 times, on api-7f5d9c-aaaaa, api-7f5d9c-bbbbb' in finding.text
    asked = [path for _, path in kubernetes.requests if "/log?" in path]
    assert len(asked) == 2
    assert all("sinceTime=2026-11-26T10%3A00%3A00Z" in path and "container=api&" in path for path in asked)


@pytest.mark.usefixtures("client")
def test_a_client_that_has_two_seconds_reads_the_same(kubernetes: KubernetesApi) -> None:
    pod(kubernetes, "api-7f5d9c-aaaaa", line(1, "ERROR redis is away"))
    with HastyClient.within(None, seconds=10) as hasty:
        found = looked(hasty, minutes=5)
    assert (found.pods_read, found.buckets[0].new[0].template) == (1, "redis is away")


def test_of_many_pods_a_few_are_read_by_turns(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    for number in range(12):
        pod(kubernetes, f"api-7f5d9c-{number:05d}", line(1, "ERROR redis is away"))
    found = looked(client, minutes=5)
    assert (found.pods_read, found.pods_all, kubernetes.count("GET", "/log?")) == (5, 12, 5)
    first = {path.split("/pods/")[1].split("/")[0] for _, path in kubernetes.requests if "/log?" in path}
    kubernetes.requests.clear()
    looked(client, minutes=10)
    second = {path.split("/pods/")[1].split("/")[0] for _, path in kubernetes.requests if "/log?" in path}
    assert len(second - first) == 5


def test_what_a_container_said_before_it_was_restarted_is_read_too(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-26T10:03:00Z"}}
    states = {"containerStatuses": [{"name": "api", "restartCount": 1, "lastState": ended}]}
    pod(kubernetes, "api-7f5d9c-aaaaa", line(4, "started"), status=states)
    kubernetes.set_log("production", "api-7f5d9c-aaaaa/previous", line(2, "FATAL out of money") + "\n")
    found = looked(client, minutes=5)
    assert found.buckets[0].new[0].template == "out of money"
    assert found.pods_read == 1
    # It was restarted before what is looked at.
    ended["terminated"]["finishedAt"] = "2026-11-26T09:03:00Z"
    pod(kubernetes, "api-7f5d9c-bbbbb", line(4, "started"), status=states)
    kubernetes.requests.clear()
    looked(client, minutes=5)
    assert [path for _, path in kubernetes.requests if "bbbbb" in path and "previous" in path] == []


def test_a_log_that_is_too_long_is_cut_and_that_is_told(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    pod(kubernetes, "api-7f5d9c-aaaaa", *(line(1, f"ERROR {'x' * 100}") for _ in range(1000)))
    pod(kubernetes, "api-7f5d9c-bbbbb", line(1, "ERROR redis is away"))
    found = looked(client, minutes=5, read_kib=16, lines=100)
    assert found.short == "logs of 1 Pods are longer than what is read of one"
    assert found.buckets[0].errors < 130
    # One Pod that says much leaves room for the others.
    assert {one.template for one in found.buckets[0].new} == {"x" * 48, "redis is away"}
    assert found.buckets[0].looked_at == 51


def test_rubbish_and_secrets_do_no_harm(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    pod(
        kubernetes,
        "api-7f5d9c-aaaaa",
        line(1, "\x00\udcff\udcfe\x1b[31mERROR\x1b[0m password=hunter2x9 is wrong"),
        line(1, "y" * 100_000),
        line(1, '{"level":"error","msg":' + '"z' * 1000),
        "2026-13-45T10:00:00Z ERROR at no time",
        "",
    )
    found = looked(client, minutes=5)
    (new,) = found.buckets[0].new
    assert "hunter2x9" not in found.model_dump_json()
    assert "password=***** is wrong" in new.template


def test_pods_that_have_not_begun_or_are_gone_are_passed_over(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    for name in ("aaaaa", "bbbbb", "ccccc"):
        pod(kubernetes, f"api-7f5d9c-{name}", line(1, "ERROR redis is away"))
    kubernetes.fail("GET", "api-7f5d9c-aaaaa/log", 400)
    kubernetes.fail("GET", "api-7f5d9c-bbbbb/log", 404)
    found = looked(client, minutes=5)
    assert (found.pods_read, found.pods_all, found.short) == (1, 3, "")
    kubernetes.fail("GET", "api-7f5d9c-aaaaa/log", 500)
    found = looked(client, minutes=5)
    assert (found.pods_read, found.short) == (2, "1 Pods could not be read (500: scripted 500)")


def test_logs_that_cannot_be_read_are_an_error_in_a_sentence(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    with pytest.raises(PermanentError, match="there is no Pod of it"):
        looked(client)
    pod(kubernetes, "api-7f5d9c-aaaaa", line(1, "x"))
    kubernetes.fail("GET", "/log", 503, times=1)
    with pytest.raises(TemporaryError, match="503"):
        looked(client)
    kubernetes.fail("GET", "/log", 403)
    with pytest.raises(PermanentError, match=r"403.*get on pods/log"):
        looked(client)
    logs = WatchLogs(kind="pods", settle_seconds=0)
    with pytest.raises(ConfigurationError, match="no cluster"):
        look_at_logs(logs, first=FIRST, now=FIRST + timedelta(minutes=5), seen=None, baseline=None, workloads=["api"])


def test_slow_logs_cost_no_more_than_their_time(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    for name in ("aaaaa", "bbbbb", "ccccc"):
        pod(kubernetes, f"api-7f5d9c-{name}", line(1, "ERROR redis is away"))
    looked(client, minutes=5)
    kubernetes.slow("GET", "bbbbb/log", 8)
    began = time.monotonic()
    found = looked(client, minutes=5, seconds=1.5)
    assert time.monotonic() - began < 7
    assert found.pods_read == 1
    assert found.short.startswith("1 Pods were not read in time; 1 Pods could not be read (no answer: ReadTimeout")


def test_the_old_version_s_pods_are_learned_from_as_far_as_they_go(
    kubernetes: KubernetesApi, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 24 * 60
    pod(
        kubernetes,
        "old-5c4b3a-aaaaa",
        line(-9 * day, "ERROR too long ago"),
        line(-3.5 * day, "ERROR order 17 failed"),
        line(-1, "ERROR order 18 failed"),
        line(1, "ERROR after the release began"),
    )
    logs = WatchLogs(kind="pods")

    def trained() -> LogBaseline:
        found = train_logs(logs, before=FIRST, now=FIRST, workloads=["old"], namespace="production", client=client)
        assert found is not None
        return found

    assert (trained().templates, trained().days, trained().whole) == (("order <NUM> failed",), 3, True)
    monkeypatch.setattr(watch_pod_logs, "_TRAINING_BYTES", 60)
    assert (trained().whole, trained().why) == (False, "logs of 1 Pods are longer than what is read of one")
