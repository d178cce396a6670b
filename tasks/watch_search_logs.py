"""The logs of a watch where they are shipped to: one search a look; and once a watch some searches more, to learn what the days before had."""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from core.environment_watch_logs import WatchLogs
from core.errors import TemporaryError
from core.log_lines import told
from core.log_search import Hit, Span, UnusableError, counting_search, counts_of, hits_of, pods_of, reading_search
from core.log_signatures import LogBaseline, train
from core.new_signatures import SeenError, look_of
from core.watch_days import BUCKET
from core.watch_logs import LogLook
from tasks.elasticsearch import ElasticsearchClient

# Of one search of the days before, and of all of them. An index answers with 10,000 at most (index.max_result_window).
SEARCH_LINES, TRAINING_LINES = 5000, 100_000
MOST_PARTS = 24
_DAY = timedelta(days=1)


def search_logs(
    logs: WatchLogs, *, first: datetime, buckets: Sequence[int], pods: str, baseline: LogBaseline | None
) -> LogLook:
    """Given the buckets that are due and a pattern of the new version's Pods, return what their lines tell. Raise what ElasticsearchClient.search raises."""
    spans = {number: (first + BUCKET * number, first + BUCKET * (number + 1)) for number in buckets}
    with ElasticsearchClient(logs) as client:
        body = counting_search(logs, pods, spans, size=logs.lines, seconds=logs.seconds)
        answer = client.search(body, seconds=logs.seconds)
        try:
            counts, hits, number = counts_of(logs, answer, buckets), hits_of(logs, answer), pods_of(answer)
        except UnusableError as error:
            raise client.unusable(error) from error
    placed = [((hit.at - first) // BUCKET, hit) for hit in hits if hit.message]
    errors = [SeenError(bucket, hit.pod, told(hit.message)) for bucket, hit in placed if bucket in counts]
    return look_of(
        logs,
        baseline,
        kind="elasticsearch",
        first=first,
        counts={bucket: (one.lines, one.errors) for bucket, one in counts.items()},
        errors=errors,
        pods=(number, number),
    )


def train_by_search(logs: WatchLogs, *, before: datetime, now: datetime, pods: str) -> LogBaseline:
    """Given the time at which the release began and a pattern of the Pods of any version, return what the errors of the days before it were.

    A day without one line of those Pods does not count: of it nothing is known. Raise what ElasticsearchClient.search raises.
    """
    ends = time.monotonic() + logs.training_seconds
    spans = {day: (before - _DAY * day, before - _DAY * (day - 1)) for day in range(1, logs.days + 1)}
    signatures: list[str] = []
    with ElasticsearchClient(logs) as client:
        body = counting_search(logs, pods, spans, size=0, seconds=logs.training_seconds)
        answer = client.search(body, seconds=logs.training_seconds)
        try:
            counts = counts_of(logs, answer, spans)
            parts = [part for day, one in counts.items() for part in _parts(spans[day], one.errors)]
            for part in parts:
                left = ends - time.monotonic()
                if left <= 0 or len(signatures) >= TRAINING_LINES:
                    break
                signatures += [told(hit.message).signature for hit in _read(client, logs, pods, part, left)]
        except UnusableError as error:
            raise client.unusable(error) from error
    days, total = sum(one.lines > 0 for one in counts.values()), sum(one.errors for one in counts.values())
    why = f"{len(signatures)} of {total} error lines were read" if len(signatures) < total else ""
    return train(signatures, kind="elasticsearch", read_at=now, days=days, whole=not why, why=why)


def _parts(span: Span, errors: int) -> Iterator[Span]:
    """The span in so many equal parts that one search each reads its errors, if they come evenly by half; none when it has none."""
    if not errors:
        return
    number = min(MOST_PARTS, -(-2 * errors // SEARCH_LINES))
    length = (span[1] - span[0]) / number
    for part in range(number):
        yield span[0] + length * part, span[0] + length * (part + 1)


def _read(client: ElasticsearchClient, logs: WatchLogs, pods: str, span: Span, seconds: float) -> list[Hit]:
    body = reading_search(logs, pods, span, size=SEARCH_LINES, seconds=seconds)
    try:
        answer = client.search(body, seconds=seconds)
    except TemporaryError:
        # Of what was not read it is told that it was not; what was read is not thrown away.
        return []
    return [hit for hit in hits_of(logs, answer) if hit.message]
