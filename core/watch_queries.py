"""What a watch asks Prometheus: how many requests of a bucket, and how many of them bad, over all Pods of a side in one number.

`increase()` alone does not do: of a series that begins within the five minutes it gives what came after its first sample, so the first errors of a new
version, whose series begin at 1, would never be seen (core.counters). A series that was not there in the hours before counts from zero. But a Prometheus that
was away itself knew no series at all: of the bucket after its return nothing is known (`observer_query`).

One number for a side however many Pods it has, and one query for a day: the number of queries does not grow with Pods, and an hour that was missed is asked
for afterwards.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from core.environment_gates import Gates
from core.gate_readings import buckets_selector, filled, quoted
from core.watch_counts import BUCKET_MINUTES

_EARLIER = "6h"
_BUCKET = f"{BUCKET_MINUTES}m"


@dataclass(frozen=True)
class MetricQueries:
    """Of one metric: all requests, and those that are bad (or, `good` set, those that are not, which the bad ones are the rest of)."""

    metric: str
    requests: str
    bad: str
    good: bool = False


def grown(selector: str) -> str:
    """Given a selector of counters, return a query for how much all of them together grew in a bucket, asked at its end; nothing when there is none of them."""
    earlier = f"last_over_time({selector}[{_EARLIER}] offset {_BUCKET})"
    return f"sum((increase({selector}[{_BUCKET}]) and {earlier}) or ({selector} unless {earlier}))"


def any_pods_pattern(deployments: Iterable[str]) -> str:
    """Given names of Deployments, return a pattern of their Pods' names, whatever their version: NAME, a ReplicaSet's hash, and five characters of the Pod's own."""
    return "|".join(f"{quoted(name)}-[a-z0-9]+-[a-z0-9]+" for name in deployments)


def made_by_pattern(replica_sets: Iterable[str]) -> str:
    """Given names of ReplicaSets, return a pattern of the names of all Pods that they made, also of those that are gone."""
    return "|".join(f"{quoted(name)}-[a-z0-9]+" for name in replica_sets)


def observer_query() -> str:
    """A query that has an answer where Prometheus scraped anything at a bucket's beginning: else nothing is known of the bucket."""
    return f"count(up offset {_BUCKET})"


def metric_queries(gates: Gates, pods: str) -> tuple[MetricQueries, ...]:
    """Given the table [release.gates] and a pattern of Pods, return what to ask for errors and, where there is a histogram, for slow requests.

    Requests without the label that tells a failed one are not counted: were it renamed in the new version, none of them would ever be bad.
    """
    requests = filled(gates.requests, pods)
    found = [
        MetricQueries(
            "errors",
            grown(_with(requests, f'{gates.error_label}!=""')),
            grown(_with(requests, f'{gates.error_label}=~"{_in_string(gates.error_values)}"')),
        )
    ]
    if gates.durations is not None:
        buckets = buckets_selector(filled(gates.durations, pods), gates.slow_seconds)
        found.append(
            MetricQueries("slow", grown(_with(buckets, 'le="+Inf"')), grown(_with(buckets, 'le!="+Inf"')), good=True)
        )
    return tuple(found)


def _with(selector: str, matcher: str) -> str:
    return f"{selector.rstrip().removesuffix('}').rstrip().removesuffix(',')},{matcher}}}"


def _in_string(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace('"', '\\"')
