"""The logs of a watch: the one look of a tick, and what is learned of the days before, once a watch."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import TypeVar

from core.environment_watch_logs import WatchLogs
from core.errors import ConfigurationError, NightshiftError, PermanentError
from core.log_signatures import LogBaseline
from core.new_signatures import look_of, pods_pattern
from core.watch_days import closed_buckets
from core.watch_logs import LogLook, LogSeen, due_buckets
from tasks.kubernetes_client import KubernetesClient
from tasks.watch_pod_logs import read_pod_logs, train_by_pods
from tasks.watch_search_logs import search_logs, train_by_search

T = TypeVar("T")
# What one look reads of buckets that were missed.
MOST_SEARCHED, MOST_READ = 48, 12


def look_at_logs(
    logs: WatchLogs,
    *,
    first: datetime,
    now: datetime,
    seen: LogSeen | None,
    baseline: LogBaseline | None,
    workloads: Collection[str],
    namespace: str = "",
    container: str | None = None,
    client: KubernetesClient | None = None,
) -> LogLook:
    """Given a watch's first bucket and what was seen before, return what the lines of the buckets that are due tell; of none, when none is due.

    Args:
        workloads: names of the Deployments (or ReplicaSets) whose Pods are the new version's.
        baseline: what was learned of the days before; None: errors are only counted.
        container: whose log; None: the one that kubectl takes. client: for kind = "pods".

    Raise TemporaryError or PermanentError, and nothing else.
    """
    if logs.kind == "off":
        raise ConfigurationError("look at the logs", "watch.logs.kind", "they are off", "Do not look")
    closed = closed_buckets(first, now, timedelta(seconds=logs.settle_seconds))
    due = due_buckets(seen, closed, MOST_SEARCHED if logs.kind == "elasticsearch" else MOST_READ)
    if not due:
        return look_of(logs, baseline, kind=logs.kind, first=first, counts={}, errors=(), pods=(0, 0))
    pods = pods_pattern(workloads)
    if logs.kind == "elasticsearch":
        return _safely(lambda: search_logs(logs, first=first, buckets=due, pods=pods, baseline=baseline))
    reader = _needed(client)
    run = _run_to_the_end(due)
    return _safely(
        lambda: read_pod_logs(
            reader,
            logs,
            first=first,
            buckets=run,
            namespace=namespace,
            pods=pods,
            container=container,
            baseline=baseline,
        )
    )


def train_logs(
    logs: WatchLogs,
    *,
    before: datetime,
    now: datetime,
    workloads: Collection[str],
    namespace: str = "",
    container: str | None = None,
    client: KubernetesClient | None = None,
) -> LogBaseline | None:
    """Given the time at which the release began, return what the errors before it were; None when logs are off.

    workloads: names of the Deployments whose Pods are the old version's; with kind = "pods" those must be there still, so it is called before they go.
    Raise TemporaryError or PermanentError, and nothing else.
    """
    if logs.kind == "off":
        return None
    pods = pods_pattern(workloads)
    if logs.kind == "elasticsearch":
        return _safely(lambda: train_by_search(logs, before=before, now=now, pods=pods))
    reader = _needed(client)
    return _safely(
        lambda: train_by_pods(reader, logs, before=before, now=now, namespace=namespace, pods=pods, container=container)
    )


def _run_to_the_end(due: tuple[int, ...]) -> tuple[int, ...]:
    """The last buckets of those that follow each other: a log is read from a time on."""
    begin = len(due) - 1
    while begin and due[begin - 1] == due[begin] - 1:
        begin -= 1
    return due[begin:]


def _needed(client: KubernetesClient | None) -> KubernetesClient:
    if client is None:
        raise ConfigurationError("read a Pod's log", "watch.logs", "there is no cluster", "Choose another kind")
    return client


def _safely(read: Callable[[], T]) -> T:
    """What comes from outside may have any form; whatever it does to us, it is an error of ours in the end."""
    try:
        return read()
    except NightshiftError:
        raise
    except Exception as error:
        found = f"an answer of an unknown form ({type(error).__name__}: {error})"
        raise PermanentError("look at the logs", "watch.logs", found[:300], "Look at [watch.logs]") from error
