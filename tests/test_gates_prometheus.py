"""The gate by metrics against a real Prometheus that scrapes Pods of known figures."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from core.errors import PermanentError, TemporaryError
from core.gate_readings import PodSide
from core.metric_gate import Verdict
from core.watch_checks import retention_of
from core.watch_queries import made_by_pattern
from core.watch_scraped import scraped_query
from tasks.gates import check_metrics
from tasks.prometheus import PrometheusClient
from tests.fix_prometheus import Pod, Prometheus
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("prometheus")]


def side(name: str) -> PodSide:
    return PodSide(names=(name,), replica_sets=(name.rpartition("-")[0],))


def judged(prometheus: Prometheus, name: str, *, old: bool = True, **settings: object) -> Verdict:
    prometheus.pods["old-1-a"].counts = {"200": 1000}
    prometheus.scraped(*({name, "old-1-a"} if prometheus.pods[name].answers else {"old-1-a"}))
    return check_metrics(prometheus.gates(**settings), new=side(name), old=side("old-1-a") if old else None)


def test_a_good_version_passes_with_its_exact_figures(prometheus: Prometheus) -> None:
    prometheus.pods["good-1-a"].counts = {"200": 800}
    verdict = judged(prometheus, "good-1-a")
    assert verdict.state == "pass", verdict
    compared = "(0.00%), allowed are {}; 0 of 1000 of the old (0.00%), allowed is 2 times that"
    assert [one.found for one in verdict.findings] == [
        f"0 of 800 requests of the new version failed {compared.format('1.00%')}",
        f"0 of 800 requests of the new version took longer than 1 s {compared.format('5.00%')}",
    ]


def test_half_of_the_requests_failing_fails_from_the_first_scrape_that_shows_it(prometheus: Prometheus) -> None:
    """Prometheus' own increase() sees none of these errors: their series begins with them."""
    pod = prometheus.pods["bad-1-a"]
    prometheus.scraped("bad-1-a")
    pod.counts = {"200": 100, "500": 100}
    verdict = judged(prometheus, "bad-1-a")
    assert (verdict.state, "100 of 200 requests of the new version failed (50.00%)" in verdict.found) == ("fail", True)
    with PrometheusClient(prometheus.address) as client:
        [seen] = client.query('sum(increase(http_requests_total{pod="bad-1-a",status="500"}[1m]))', time.time())
    assert seen.value == 0


def test_slow_requests_fail(prometheus: Prometheus) -> None:
    pod = prometheus.pods["slow-1-a"]
    pod.counts, pod.slow = {"200": 300}, 90
    verdict = judged(prometheus, "slow-1-a")
    assert (verdict.state, "90 of 300 requests of the new version took longer than 1 s" in verdict.found) == (
        "fail",
        True,
    )


def test_a_bound_that_is_no_bucket_holds(prometheus: Prometheus) -> None:
    prometheus.pods["good-1-a"].counts = {"200": 800}
    verdict = judged(prometheus, "good-1-a", slow_seconds=0.7)
    assert (verdict.state, "no bucket of 0.7 seconds" in verdict.found) == ("inconclusive", True)


def test_three_requests_hold_whatever_they_were(prometheus: Prometheus) -> None:
    pod = prometheus.pods["few-1-a"]
    pod.counts = {"200": 3}
    assert judged(prometheus, "few-1-a").state == "inconclusive"
    pod.counts = {"200": 0, "500": 3}
    assert judged(prometheus, "few-1-a").state == "inconclusive"


def test_a_restart_neither_passes_nor_hides_the_errors_before_it(prometheus: Prometheus) -> None:
    pod = prometheus.pods["reset-1-a"]
    pod.counts = {"200": 500}
    assert judged(prometheus, "reset-1-a").state == "pass"
    pod.counts = {"200": 20}
    verdict = judged(prometheus, "reset-1-a")
    assert (verdict.state, "0 of 520 requests" in verdict.found, "restarted" in verdict.found) == (
        "inconclusive",
        True,
        True,
    )
    pod.counts = {"200": 20, "500": 200}
    prometheus.scraped("reset-1-a")
    pod.counts = {"200": 300}
    verdict = judged(prometheus, "reset-1-a")
    assert (verdict.state, "200 of 1000 requests" in verdict.found) == ("fail", True)


def test_a_pod_that_cannot_be_scraped_holds(prometheus: Prometheus) -> None:
    verdict = judged(prometheus, "away-1-a")
    assert verdict.state == "inconclusive", verdict
    beside = PodSide(names=("good-1-a", "away-1-a"))
    prometheus.pods["good-1-a"].counts = {"200": 800}
    prometheus.scraped("good-1-a")
    verdict = check_metrics(prometheus.gates(), new=beside, old=None)
    assert (verdict.state, "does not scrape away-1-a" in verdict.found) == ("inconclusive", True)


def test_a_pod_that_nobody_knows_holds(prometheus: Prometheus) -> None:
    verdict = check_metrics(prometheus.gates(), new=side("unknown-1-a"), old=None)
    assert (verdict.state, "empty is not zero" in verdict.found) == ("inconclusive", True)


def test_samples_that_grew_old_hold(prometheus: Prometheus) -> None:
    pod = prometheus.pods["late-1-a"]
    pod.counts = {"200": 500}
    prometheus.scraped("late-1-a")
    later = datetime.now(UTC) + timedelta(seconds=40)
    verdict = check_metrics(prometheus.gates(), new=side("late-1-a"), old=None, clock=lambda: later)
    assert (verdict.state, "s old, more than 15 s" in verdict.found) == ("inconclusive", True)


def test_the_client_knows_a_real_prometheus(prometheus: Prometheus) -> None:
    with PrometheusClient(prometheus.address) as client:
        client.ready()
        assert retention_of(client.retention() or "") == timedelta(days=15)
        [rule] = client.rules()
        assert (rule.group, rule.name, rule.kind, rule.error) == ("api", "Errors", "alerting", "")
        assert client.query("vector(7)", time.time())[0].value == 7
        assert client.query("nothing_of_this_name", time.time()) == ()
        series = client.query_range("vector(1)", start=time.time() - 60, end=time.time(), step=30)
        assert [value for _, value in series[0].points] == [1, 1, 1]
        with pytest.raises(PermanentError, match=r"400: .*parse error"):
            client.query("up{", time.time())
        with pytest.raises(PermanentError, match="11,000"):
            client.query_range("vector(1)", start=0, end=time.time(), step=1)
        with pytest.raises(PermanentError, match="a matrix, not a vector"):
            client.query("up[1m]", time.time())


def test_a_watch_learns_how_many_pods_are_scraped(prometheus: Prometheus) -> None:
    prometheus.scraped("good-1-a", "old-1-a")
    query = scraped_query(prometheus.gates(), made_by_pattern(("old-1", "good-1", "away-1", "gone-1")))
    nobody = scraped_query(prometheus.gates(), made_by_pattern(("away-1", "gone-1")))
    assert query is not None
    assert nobody is not None
    with PrometheusClient(prometheus.address) as client:

        def counted(asked: str) -> list[float]:
            at = time.time()
            return [value for one in client.query_range(asked, start=at, end=at, step=300) for _, value in one.points]

        # A scrape that came too late on a busy machine is one that failed, until the next one.
        wait_until(lambda: counted(query) == [2], "both are counted")
        assert counted(nobody) == []


def test_a_prometheus_that_went_away_holds(prometheus: Prometheus) -> None:
    gone = Prometheus(prometheus.address.rpartition(":")[0] + ":9", {"x-1-a": Pod()})
    assert check_metrics(gone.gates(), new=side("x-1-a"), old=None).state == "inconclusive"
    with PrometheusClient(gone.address, sleep=lambda _seconds: None) as client, pytest.raises(TemporaryError):
        client.ready()
