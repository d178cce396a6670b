"""Days after a release in a real Prometheus that remembers five weeks, read and judged: troubles are found, and nothing is called healthy that nobody saw."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from core.environment_gates import Gates
from core.errors import NightshiftError, TemporaryError
from core.watch_counts import BUCKETS, Counts
from core.watch_days import LAG_DAYS, Interval, bucket_starts, counterparts, first_bucket
from core.watch_record import WatchBaseline, counts_of
from core.watch_verdict import Judgement, judge
from tasks.prometheus import PrometheusClient
from tasks.watch_counts import read_side, scraped_by
from tests.fix_recorded_prometheus import RELEASED, Application, remembering

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("recorded-prometheus")]
FIRST = first_bucket(RELEASED)
ZONE = ZoneInfo("Europe/Berlin")
HOUR = 60
APPLICATIONS = (
    Application("well"),
    Application("threefold", errors=lambda minute: 0.9 if minute >= 8 * HOUR else 0.3),
    Application("slow", slow=lambda minute: 2.4 if minute >= 20 * HOUR else 0.6),
    Application(
        "dead",
        errors=lambda minute: 60 if minute >= 17 * HOUR else 0.3,
        requests=lambda minute: 0 if minute >= 17 * HOUR else 60,
    ),
    Application("unscraped", known=lambda minute: minute < 10 * HOUR),
    Application("renamed", renamed=True),
    Application(
        "collapsed",
        requests=lambda minute: 0.4 if minute >= HOUR else 60,
        errors=lambda minute: 0.002 if minute >= HOUR else 0.3,
        slow=lambda minute: 0.004 if minute >= HOUR else 0.6,
    ),
    Application(
        "quiet", requests=lambda _m: 0.05, errors=lambda _m: 0.001, slow=lambda _m: 0.001, before=(0.05, 0.001, 0.001)
    ),
)


@dataclass(frozen=True)
class Recorded:
    """The server, and the days of its applications as a watch reads them."""

    address: str

    def counts(
        self, job: str, closed: int = BUCKETS, cut_out: tuple[Interval, ...] = (), **gates: str
    ) -> dict[str, Counts]:
        settings = {
            "requests": f'http_requests_total{{pod=~"{{pods}}",job="{job}"}}',
            "durations": f'http_request_duration_seconds_bucket{{pod=~"{{pods}}",job="{job}"}}',
            **gates,
        }
        chosen = Gates.model_validate(settings)
        now = [start if number < closed else None for number, start in enumerate(bucket_starts(FIRST))]
        with PrometheusClient(self.address, patience=5) as client:
            seen = read_side(client, chosen, "api-new-[a-z]", now)
            days = [
                read_side(client, chosen, "api-old[0-9]+-[a-z]", counterparts(FIRST, lag, ZONE, cut_out))
                for lag in LAG_DAYS
            ]
        baseline = WatchBaseline(
            environment="stage",
            release_id="r-1",
            read_at=RELEASED,
            lags=LAG_DAYS,
            cut_out=(),
            metrics={metric: tuple(day[metric] for day in days) for metric in seen},
        )
        return counts_of(baseline, seen, closed)

    def judged(self, job: str) -> Judgement:
        return judge(self.counts(job))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with remembering(tmp_path_factory.mktemp("recorded"), list(APPLICATIONS)) as address:
        yield Recorded(address)


def test_a_day_like_the_weeks_before_is_healthy(recorded: Recorded) -> None:
    found = recorded.judged("well")
    assert found.verdict == "healthy", found.reasons
    assert {one.metric for one in found.metrics} == {"errors", "slow"}
    assert all(one.coverage == 1 and one.detectable_factor < 2.5 for one in found.metrics)


def test_the_counts_are_those_that_were_made(recorded: Recorded) -> None:
    counts = recorded.counts("well")["errors"]
    # 60 a minute, and of these 0.3 failed; beside them those that did not.
    assert counts.requests.sum() == pytest.approx(24 * HOUR * 60.3, rel=0.02)
    assert counts.bad.sum() == pytest.approx(24 * HOUR * 0.3, rel=0.2)
    assert counts.baseline_bad.sum(axis=-1) == pytest.approx([24 * HOUR * 0.3] * 4, rel=0.2)


@pytest.mark.parametrize(
    ("job", "metric", "hour", "within"),
    [("threefold", "errors", 8, 3), ("slow", "slow", 20, 2), ("dead", "errors", 17, 0.1)],
)
def test_a_trouble_is_found_with_its_metric_and_its_hour(
    recorded: Recorded, job: str, metric: str, hour: float, within: float
) -> None:
    found = recorded.judged(job)
    assert found.verdict == "degraded"
    (alarmed,) = [one for one in found.metrics if one.acts]
    assert (alarmed.metric, alarmed.alarm is not None) == (metric, True)
    assert hour * 12 <= (alarmed.alarm or 0) <= (hour + within) * 12


@pytest.mark.parametrize(("job", "verdict"), [("unscraped", "blind"), ("renamed", "blind"), ("quiet", "insufficient")])
def test_what_nobody_saw_and_what_hardly_happened_is_never_healthy(recorded: Recorded, job: str, verdict: str) -> None:
    found = recorded.judged(job)
    assert found.verdict == verdict, found.reasons


def test_a_traffic_that_collapsed_is_not_healthy(recorded: Recorded) -> None:
    assert recorded.judged("collapsed").verdict in {"insufficient", "blind"}


def test_a_bound_that_the_histogram_does_not_have_is_unknown(recorded: Recorded) -> None:
    counts = recorded.counts("well", slow_seconds="0.25")
    assert np.isnan(counts["slow"].requests).all()
    assert judge(counts).verdict == "blind"


def test_what_is_not_over_yet_is_not_asked_for_and_later_looks_say_the_same_of_it(recorded: Recorded) -> None:
    early, late = (recorded.counts("threefold", closed)["errors"] for closed in (100, BUCKETS))
    assert np.isnan(early.requests[100:]).all()
    assert np.isnan(early.baseline_requests[:, 100:]).all()
    assert np.array_equal(early.requests[:100], late.requests[:100])
    assert np.array_equal(early.baseline_bad[:, :100], late.baseline_bad[:, :100])


def test_an_incident_that_is_cut_out_is_no_baseline(recorded: Recorded) -> None:
    begin = FIRST - timedelta(days=7) + timedelta(hours=3)
    counts = recorded.counts("well", cut_out=(Interval(begin, begin + timedelta(hours=2), "INC-7"),))["errors"]
    # Three o'clock and five are ends of buckets beside it.
    assert np.isnan(counts.baseline_requests[0, 36:60]).all()
    assert (counts.baseline_requests[:, 60:] > 0).all()
    assert (counts.baseline_requests[1, 36:60] > 0).all()


@pytest.mark.parametrize(("hours", "verdict"), [(1, "healthy"), (5, "blind")])
def test_hours_in_which_prometheus_was_away_are_unknown_and_too_many_of_them_blind(
    tmp_path: Path, hours: int, verdict: str
) -> None:
    away = range(6 * HOUR, (6 + hours) * HOUR)
    # All its time before the outage half of its requests fail: were they counted when it is back, that would be an alarm.
    well = Application("well", before=(60, 0.3, 0.6))
    with remembering(tmp_path, [well], runs=lambda minute: minute not in away) as address:
        found = Recorded(address).judged("well")
    assert found.verdict == verdict, found.reasons
    assert all(one.alarm is None for one in found.metrics)
    assert found.metrics[0].coverage == pytest.approx(1 - hours / 24, abs=0.02)


def test_a_prometheus_that_is_gone_is_an_error_and_no_verdict() -> None:
    with pytest.raises(TemporaryError):
        Recorded("http://127.0.0.1:9").judged("well")


def test_a_query_that_it_does_not_take_is_told(recorded: Recorded) -> None:
    with pytest.raises(NightshiftError, match="query Prometheus"):
        recorded.counts("well", error_values="(?!4)..")


def test_a_bucket_is_read_once_its_last_scrape_has_come_in() -> None:
    assert scraped_by(15) == timedelta(seconds=40)
