"""What is kept of a watch: nothing is lost on the way to the bucket and back, and what nobody knows stays unknown."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.canonical import canonical_bytes
from core.environment_watch import Incident
from core.release_journal import Entry, Journal
from core.watch_counts import BUCKETS
from core.watch_cut_outs import SETTLE, cut_outs
from core.watch_record import DayCounts, WatchBaseline, WatchTick, counts_of
from core.watch_traffic import traffic_findings
from tests.fix_counts import plain_day

AT = datetime(2026, 11, 12, 9, tzinfo=UTC)
counts = st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1e6)), min_size=BUCKETS, max_size=BUCKETS).map(np.array)


def tick(closed: int = 10, **metrics: DayCounts) -> WatchTick:
    return WatchTick(environment="stage", release_id="r-1", closed=closed, at=AT, flow_run_id="run", metrics=metrics)


def day(**known: tuple[float, float]) -> DayCounts:
    requests, bad = np.full(BUCKETS, np.nan), np.full(BUCKETS, np.nan)
    for bucket, (all_, failed) in known.items():
        requests[int(bucket[1:])], bad[int(bucket[1:])] = all_, failed
    return DayCounts.of(requests, bad)


@settings(max_examples=25)
@given(counts, counts)
def test_counts_come_back_as_they_were_to_a_thousandth(requests: np.ndarray, bad: np.ndarray) -> None:
    kept = DayCounts.of(requests, bad)
    again, again_bad = kept.arrays
    known = np.isfinite(requests) & np.isfinite(bad)
    assert (np.isfinite(again) == known).all()
    assert (np.isfinite(again_bad) == known).all()
    assert np.allclose(again[known], requests[known], atol=0.0006)
    assert np.allclose(again_bad[known], bad[known], atol=0.0006)


def test_a_tick_can_be_signed() -> None:
    canonical_bytes(tick(errors=day(b0=(1.5, 0.25))).model_dump(mode="json"))


def test_what_is_known_stays_and_what_is_not_is_filled() -> None:
    first, second = day(b0=(10, 1), b2=(30, 3)), day(b0=(99, 9), b1=(20, 2))
    both = first.filled_by(second)
    assert both == day(b0=(10, 1), b1=(20, 2), b2=(30, 3))
    assert both.filled_by(second) == both
    assert DayCounts.unknown().filled_by(second) == second


def test_known_are_the_closed_buckets_of_which_every_metric_is() -> None:
    found = tick(3, errors=day(b0=(1, 0), b1=(1, 0), b5=(1, 0)), slow=day(b1=(1, 0)))
    assert found.known == 1
    assert tick(3).known == 0


def test_of_what_is_not_over_the_earlier_days_are_no_evidence() -> None:
    old = DayCounts.of(np.full(BUCKETS, 60.0), np.full(BUCKETS, 1.0))
    baseline = WatchBaseline(
        environment="stage", release_id="r-1", read_at=AT, lags=(7, 14), cut_out=(), metrics={"errors": (old, old)}
    )
    found = counts_of(baseline, {"errors": day(b0=(60, 1), b7=(60, 1))}, 5)["errors"]
    assert np.isfinite(found.baseline_requests[:, :5]).all()
    assert np.isnan(found.baseline_requests[:, 5:]).all()
    assert np.isnan(found.requests[7])
    assert counts_of(None, {"errors": old}, 5)["errors"].days == 0


def journal(release_id: str, plan_id: str, outcome: str, begin: int, end: int) -> Journal:
    kind = "rollback" if release_id.startswith("b-") else "release"
    hour = {number: AT.replace(hour=number) for number in (begin, end)}
    entries = (
        Entry(number=1, at=hour[begin], fence=1, holder="h", event="opened"),
        Entry(number=2, at=hour[end], fence=1, holder="h", event="closed", facts={"outcome": outcome}),
    )
    return Journal(
        environment="stage",
        release_id=release_id,
        kind=kind,  # type: ignore[arg-type]
        plan_id=plan_id,
        plan_sha256="0" * 64,
        flow_run_id="run",
        entries=entries,
    )


def test_releases_incidents_and_what_a_bad_version_served_are_cut_out() -> None:
    journals = [
        journal("r-1", "r-1", "released", 1, 2),
        journal("b-2", "r-1", "rolled back", 5, 6),
        journal("r-9", "r-9", "released", 10, 11),
    ]
    incident = Incident(begin=AT.replace(hour=20), end=AT.replace(hour=21), why="the lake was on fire")
    found = cut_outs(journals, [incident], watched="r-9")
    assert [(one.begin.hour, one.why) for one in found] == [
        (1, "release r-1: released"),
        (1, "r-1, until b-2 took it back"),
        (20, "the lake was on fire"),
    ]
    assert found[0].end == AT.replace(hour=2) + SETTLE
    # All that the bad version served, from its first entry to the end of the way back.
    assert found[1].end == AT.replace(hour=6) + SETTLE


def test_a_collapse_of_traffic_is_told_and_a_quiet_service_is_not() -> None:
    usual = plain_day()
    assert traffic_findings("errors", usual, 100) == ()
    fallen = usual.requests.copy()
    fallen[90:100] *= 0.1
    (found,) = traffic_findings("errors", replace(usual, requests=fallen), 100)
    assert found.severity == "warning"
    assert "least busy of the earlier days" in found.text
    # An hour of the morning is told until the evening.
    morning = usual.requests.copy()
    morning[24:36] *= 0.1
    assert traffic_findings("errors", replace(usual, requests=morning), 35) != ()
    (found,) = traffic_findings("errors", replace(usual, requests=morning), 288)
    assert found.text.startswith("traffic: 1 of 24 hours had less than half the requests (errors)")
    assert "the first from bucket 24, 2:05 h after the release" in found.text
    quiet = plain_day(requests=0.25, bad=0)
    assert traffic_findings("errors", replace(quiet, requests=quiet.requests * 0), 100) == ()
    # What nobody saw is no collapse.
    blind = usual.requests.copy()
    blind[88:100] = np.nan
    assert traffic_findings("errors", replace(usual, requests=blind), 100) == ()
