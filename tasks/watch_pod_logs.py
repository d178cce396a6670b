"""The logs of a watch as the Pods' containers wrote them, by the Kubernetes API: of a few Pods by turns, a bounded number of bytes each.

`sinceTime`, `timestamps`, `limitBytes` and `previous` as the API reference has them ("Pod", "get read log of the specified Pod"). limitBytes ends the text wherever it is
reached, from the earliest line on, so a log that is cut says nothing of the end of its time: those buckets are told as not read in whole.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from core.environment_watch_logs import WatchLogs
from core.errors import NightshiftError, PermanentError, TemporaryError
from core.fence import Document
from core.log_lines import error_line
from core.log_signatures import LogBaseline, train
from core.new_signatures import SeenError, by_turns, look_of
from core.watch_days import BUCKET
from core.watch_logs import LogLook
from tasks.kubernetes_answers import ForbiddenError
from tasks.kubernetes_client import KubernetesClient

# As the kubelet writes it with timestamps=true (RFC 3339 with nanoseconds).
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) ?(.*)", re.DOTALL)
_ATTEMPTED = "read a Pod's log"
_REACH = "Check that the worker reaches the API server, and the cluster's health"
_TRAINING_BYTES = 8 * 1024 * 1024


@dataclass
class _Reader:
    """Reads the logs of Pods since a time, one after the other, and keeps in mind what it did not read."""

    client: KubernetesClient
    namespace: str
    container: str | None
    since: datetime
    most: int
    ends: float
    texts: list[tuple[str, str]] = field(default_factory=list)
    pods: int = 0
    cut: int = 0
    late: int = 0
    failed: list[NightshiftError] = field(default_factory=list)

    def read(self, pods: Iterable[Document]) -> None:
        """Read them. Raise ForbiddenError when our account may not, TemporaryError when none could be read."""
        for pod in pods:
            if self.ends <= time.monotonic():
                self.late += 1
                continue
            name, before = str(pod["metadata"]["name"]), len(self.texts)
            try:
                for text in self._logs_of(pod):
                    self.texts.append((name, text))
                    self.cut += bool(text) and (len(text.encode()) >= self.most or not text.endswith("\n"))
            except ForbiddenError:
                raise
            except NightshiftError as error:
                self.failed.append(error)
                continue
            self.pods += len(self.texts) > before
        if not self.texts and (self.failed or self.late):
            found = self.failed[0].found if self.failed else f"none of {self.late} Pods in time"
            raise TemporaryError(_ATTEMPTED, f"namespace {self.namespace}", found, _REACH)

    def short(self) -> str:
        """What was left out, in words."""
        parts = [
            f"logs of {self.cut} Pods are longer than what is read of one" if self.cut else "",
            f"{self.late} Pods were not read in time" if self.late else "",
            f"{len(self.failed)} Pods could not be read ({self.failed[0].found})" if self.failed else "",
        ]
        return "; ".join(part for part in parts if part)

    def _logs_of(self, pod: Document) -> Iterator[str]:
        """What its container wrote before it was restarted within that time, and what it writes now. Nothing when it has not begun, or is gone."""
        container = self.container or _container_of(pod)
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/log"
        choice = {
            "container": container,
            "timestamps": "true",
            "sinceTime": self.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "limitBytes": str(self.most),
        }
        previous = [{"previous": "true"}] if _restarted_since(pod, container, self.since) else []
        for more in (*previous, {}):
            seconds = max(0.1, self.ends - time.monotonic())
            status, text = self.client.answer(path, seconds=seconds, most=self.most, **choice, **more)
            if status == 200:
                yield text
            elif status not in {400, 404}:
                raise _refused(status, text, f"{pod['metadata']['name']} in namespace {self.namespace}")


def read_pod_logs(
    client: KubernetesClient,
    logs: WatchLogs,
    *,
    first: datetime,
    buckets: Sequence[int],
    namespace: str,
    pods: str,
    container: str | None,
    baseline: LogBaseline | None,
) -> LogLook:
    """Given the buckets that are due, without a gap, and a pattern of the new version's Pods, return what their lines tell.

    Raise PermanentError when there is no such Pod, or its log may not be read; TemporaryError when none could be.
    """
    found = _pods(client, namespace, pods)
    names = by_turns(found, buckets[-1], logs.read_pods)
    since = first + BUCKET * buckets[0]
    reader = _Reader(client, namespace, container, since, logs.read_kib * 1024, time.monotonic() + logs.seconds)
    reader.read(found[name] for name in names)
    lines, bad = Counter[int](), Counter[int]()
    seen: list[SeenError] = []
    pattern = re.compile(logs.pattern)
    for pod, text in reader.texts:
        left = logs.lines // len(reader.texts)
        for at, line in _lines(text):
            bucket = (at - first) // BUCKET
            if bucket not in buckets:
                continue
            lines[bucket] += 1
            error = error_line(line, pattern)
            if error is not None:
                bad[bucket] += 1
                if left > 0:
                    seen.append(SeenError(bucket, pod, error))
                left -= 1
    return look_of(
        logs,
        baseline,
        kind="pods",
        first=first,
        counts={bucket: (lines[bucket], bad[bucket]) for bucket in buckets},
        errors=seen,
        pods=(reader.pods, len(found)),
        short=reader.short(),
    )


def train_by_pods(
    client: KubernetesClient,
    logs: WatchLogs,
    *,
    before: datetime,
    now: datetime,
    namespace: str,
    pods: str,
    container: str | None,
) -> LogBaseline:
    """Given the time at which the release began and a pattern of the old version's Pods that are still there, return what their errors before it were."""
    found = _pods(client, namespace, pods)
    names = by_turns(found, 0, logs.read_pods)
    since = before - timedelta(days=logs.days)
    ends = time.monotonic() + logs.training_seconds
    reader = _Reader(client, namespace, container, since, _TRAINING_BYTES, ends)
    reader.read(found[name] for name in names)
    pattern = re.compile(logs.pattern)
    signatures: list[str] = []
    earliest = before
    for _, text in reader.texts:
        for at, line in _lines(text):
            if at >= before:
                break
            earliest = min(earliest, at)
            error = error_line(line, pattern)
            if error is not None:
                signatures.append(error.signature)
    days = round((before - earliest) / timedelta(days=1), 2)
    why = reader.short() or (f"{reader.pods} of {len(found)} Pods were read" if reader.pods < len(found) else "")
    return train(signatures, kind="pods", read_at=now, days=min(logs.days, int(days)), whole=not why, why=why)


def _pods(client: KubernetesClient, namespace: str, pods: str) -> dict[str, Document]:
    """The Pods whose names fit, by name."""
    fits = re.compile(pods)
    path = f"/api/v1/namespaces/{namespace}/pods"
    found = {str(pod["metadata"]["name"]): pod for pod in client.list(path) if fits.fullmatch(pod["metadata"]["name"])}
    if not found:
        raise PermanentError(_ATTEMPTED, f"namespace {namespace}", "there is no Pod of it", "Is it scaled to none?")
    return found


def _refused(status: int, text: str, on: str) -> NightshiftError:
    try:
        message = json.loads(text)["message"]
    except (ValueError, RecursionError, TypeError, KeyError):
        message = text
    found = f"{status}: {str(message)[:200]}"
    if status in {401, 403}:
        return ForbiddenError(
            _ATTEMPTED, on, found, "Give the worker's account get on pods/log, see deployments/kubernetes/rbac.yaml"
        )
    return TemporaryError(_ATTEMPTED, on, found, _REACH)


def _container_of(pod: Document) -> str:
    """The one that kubectl takes: by its annotation, else the first."""
    named = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    return str(named or pod["spec"]["containers"][0]["name"])


def _restarted_since(pod: Document, container: str, since: datetime) -> bool:
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        if one.get("name") == container:
            ended = ((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
            at = _moment(str(ended or ""))
            return at is not None and at >= since
    return False


def _lines(text: str) -> Iterator[tuple[datetime, str]]:
    """The lines that begin with a time. What has none is the rest of one that was cut in two."""
    for line in text.split("\n"):
        match = _STAMPED.fullmatch(line)
        at = _moment(match[1]) if match else None
        if match and at is not None:
            yield at, match[2]


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
