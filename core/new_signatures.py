"""From the lines of one look to what of them is new: the errors that no signature of the days before fits, by bucket, with the Pods that had them."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.environment_watch_logs import WatchLogs
from core.log_lines import ErrorLine
from core.log_signatures import Kind, KnownSignatures, LogBaseline, grouped
from core.watch_logs import MOST_PODS, BucketLogs, LogLook, NewSignature

# Of one bucket; what is kept over the watch is bounded once more.
MOST_A_BUCKET = 50
# So many kinds of lines are put together; further ones, the rarest, are left out: what is bounded here is the time of a tick.
MOST_GROUPED = 500


@dataclass(frozen=True)
class SeenError:
    """An error line: in which bucket, of which Pod."""

    bucket: int
    pod: str
    line: ErrorLine


def new_signatures(errors: Iterable[SeenError], known: KnownSignatures) -> dict[int, tuple[NewSignature, ...]]:
    """Given error lines and the frozen signatures, return by bucket those that none of them fits, grouped, the most frequent first."""
    fresh = [one for one in errors if not known.knows(one.line.signature)]
    ordered = [one for one, _ in Counter(one.line.signature for one in fresh).most_common(MOST_GROUPED)]
    template_of = dict(zip(ordered, grouped(ordered), strict=True))
    groups: dict[tuple[int, str], list[SeenError]] = {}
    for one in fresh:
        if template := template_of.get(one.line.signature):
            groups.setdefault((one.bucket, template), []).append(one)
    found: dict[int, list[NewSignature]] = {}
    for (bucket, template), group in groups.items():
        found.setdefault(bucket, []).append(_signature(bucket, template, group))
    return {
        bucket: tuple(sorted(news, key=lambda one: (-one.hits, one.template))[:MOST_A_BUCKET])
        for bucket, news in found.items()
    }


def look_of(
    logs: WatchLogs,
    baseline: LogBaseline | None,
    *,
    kind: Kind,
    first: datetime,
    counts: Mapping[int, tuple[int, int]],
    errors: Sequence[SeenError],
    pods: tuple[int, int],
    short: str = "",
) -> LogLook:
    """Given by bucket how many lines there were and how many of them tell an error, and those of the errors that were looked at, return the look.

    pods: in how many Pods' logs it looked, of how many. Without a baseline nothing is new, since nothing is known.
    """
    new = new_signatures(errors, KnownSignatures(baseline.templates)) if baseline else {}
    looked_at = Counter(one.bucket for one in errors)
    return LogLook(
        kind=kind,
        first=first,
        buckets=tuple(
            BucketLogs(bucket=bucket, lines=lines, errors=bad, looked_at=looked_at[bucket], new=new.get(bucket, ()))
            for bucket, (lines, bad) in counts.items()
        ),
        days=baseline.days if baseline else None,
        whole=bool(baseline and baseline.whole),
        why=baseline.why if baseline else "",
        hits=logs.hits,
        pods=logs.pods,
        pods_read=pods[0],
        pods_all=pods[1],
        short=short,
    )


def _signature(bucket: int, template: str, group: Sequence[SeenError]) -> NewSignature:
    pods = sorted({one.pod for one in group})
    return NewSignature(
        template=template,
        hits=len(group),
        pods=tuple(pods[:MOST_PODS]),
        more=len(pods) > MOST_PODS,
        bucket=bucket,
        example=group[0].line.shown,
    )


def pods_pattern(workloads: Collection[str]) -> str:
    """Given names of Deployments or ReplicaSets, return a regular expression of their Pods' names, as Python's and Lucene's syntax both have it.

    A ReplicaSet is called after its Deployment and a hash, its Pods after it and five letters (Kubernetes, "Deployments", "Pod-template-hash label";
    apimachinery's names.SimpleNameGenerator).
    """
    names = "|".join(re.sub(r"[^a-z0-9-]", lambda found: f"\\{found.group()}", name) for name in sorted(workloads))
    return f"({names})(-[a-z0-9]{{1,10}})?-[a-z0-9]{{5}}"


def by_turns(names: Iterable[str], bucket: int, most: int) -> tuple[str, ...]:
    """Given Pods' names and a bucket, return whose logs to read: so many at most, others in each bucket, the same ones for the same bucket."""
    ordered = sorted(names)
    if len(ordered) <= most:
        return tuple(ordered)
    begin = bucket * most % len(ordered)
    return tuple(sorted((ordered[begin:] + ordered[:begin])[:most]))
