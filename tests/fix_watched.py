"""A watch as it is told at its end, made of a day's counts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from core.evidence import Finding
from core.watch_counts import BUCKETS, Counts
from core.watch_days import LAG_DAYS
from core.watch_record import CutOut, DayCounts, WatchBaseline, WatchEnd, WatchMark, WatchStart, WatchTick, counts_of
from core.watch_report import Watched
from core.watch_verdict import Judgement, judge

FIRST = datetime(2026, 11, 25, 13, 5, tzinfo=UTC)
RELEASE = "r-0123456789ab"
IMAGE = f"registry.test/hello@sha256:{'7632':0<64}"


def start(**changed: object) -> WatchStart:
    """What is watched."""
    fields = {
        "environment": "stage",
        "release_id": RELEASE,
        "plan_sha256": "a" * 64,
        "image": IMAGE,
        "commit": "2" * 40,
        "namespace": "shop",
        "deployments": ("hello", "hello-blue"),
        "old_side": "hello",
        "released_at": FIRST - timedelta(minutes=3),
        "first": FIRST,
    }
    return WatchStart.model_validate(fields | changed)


def watched(
    metrics: Mapping[str, Counts],
    *,
    closed: int = BUCKETS,
    judgement: Judgement | None = None,
    unread: Mapping[str, str] | None = None,
    marks: Sequence[WatchMark] = (),
    sources: Mapping[str, Sequence[Finding]] | None = None,
    not_asked: Mapping[str, str] | None = None,
    cut_out: Sequence[CutOut] = (),
) -> Watched:
    """A watch that saw these counts, judged as a tick judges unless a judgement is given."""
    days = {
        name: tuple(DayCounts.of(n, bad) for n, bad in zip(one.baseline_requests, one.baseline_bad, strict=True))
        for name, one in metrics.items()
    }
    baseline = WatchBaseline(
        environment="stage", release_id=RELEASE, read_at=FIRST, lags=LAG_DAYS, cut_out=tuple(cut_out), metrics=days
    )  # fmt: skip
    tick = WatchTick(
        environment="stage",
        release_id=RELEASE,
        closed=closed,
        at=FIRST + timedelta(minutes=5 * closed + 2),
        flow_run_id="11111111-2222-3333-4444-555555555555",
        metrics={name: DayCounts.of(one.requests, one.bad) for name, one in metrics.items()},
        unread=dict(unread or {}),
    )
    judged = judgement or judge(counts_of(baseline, tick.metrics, closed), closed=closed)
    return Watched(start(), baseline, tick, judged, tuple(marks), dict(sources or {}), dict(not_asked or {}))


def end_of(found: Watched, **changed: object) -> WatchEnd:
    """How it ended."""
    fields = {
        "environment": "stage",
        "release_id": RELEASE,
        "how": "the day is over",
        "verdict": found.judgement.verdict,
        "reasons": found.judgement.reasons,
        "closed": found.tick.closed,
        "at": FIRST + timedelta(days=1, minutes=2),
        "report": "nightshift/evidence/00000007.json",
    }
    return WatchEnd.model_validate(fields | changed)
