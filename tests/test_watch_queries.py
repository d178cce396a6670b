"""What a watch asks, answered by Prometheus' own evaluation (promtool test rules): first errors, resets, Pods that come and go, renamed metrics."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from core.environment_gates import Gates
from core.watch_queries import MetricQueries, metric_queries, observer_query
from tests.leave_out import leave_out

pytestmark = pytest.mark.services
PODS = "api-[a-z]+"
USER = 'job="api", route="/x"'


def queries(**settings: object) -> dict[str, MetricQueries]:
    return {one.metric: one for one in metric_queries(Gates.model_validate(settings), PODS)}


ERRORS, SLOW = (queries()[name] for name in ("errors", "slow"))


def evaluated(folder: Path, series: dict[str, str], expected: list[tuple[str, str, float | None]]) -> None:
    """Hold that each query has at its time (e.g. "10m") this one value, or none. Series are given minute by minute."""
    program = shutil.which("promtool")
    if program is None:
        leave_out("no promtool")
    cases = [
        {"expr": query, "eval_time": at, "exp_samples": [] if value is None else [{"labels": "{}", "value": value}]}
        for query, at, value in expected
    ]
    given = [{"series": name, "values": values} for name, values in series.items()]
    document = {"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": cases}]}
    (folder / "test.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [program, "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def requests(pod: str, status: str) -> str:
    return f'http_requests_total{{pod="api-{pod}", status="{status}", {USER}}}'


def test_all_pods_of_a_side_are_one_number_and_others_are_not_in_it(tmp_path: Path) -> None:
    series = {
        requests("a", "200"): "0+60x30",
        requests("b", "200"): "0+120x30",
        'http_requests_total{pod="worker-a", status="200", route="/x"}': "0+1000x30",
        'http_requests_total{pod="api-a", status="200", route="/health"}': "0+1000x30",
    }
    evaluated(tmp_path, series, [(ERRORS.requests, "20m", 900), (ERRORS.bad, "20m", None)])


def test_the_first_errors_of_a_pod_are_counted_and_once(tmp_path: Path) -> None:
    # Its series begins with 3 in the minute 12; the bucket ends at 15.
    series = {requests("a", "200"): "0+60x30", requests("a", "500"): "_x11 3x20"}
    evaluated(tmp_path, series, [(ERRORS.bad, "10m", None), (ERRORS.bad, "15m", 3), (ERRORS.bad, "20m", 0)])


def test_a_pod_that_is_new_counts_from_zero_and_one_that_is_gone_counts_no_more(tmp_path: Path) -> None:
    series = {requests("a", "200"): "0+60x12 stale", requests("b", "200"): "_x13 50+50x20"}
    # Of b: 50 at minute 14, 100 at 15.
    evaluated(tmp_path, series, [(ERRORS.requests, "25m", 250)])


def test_a_counter_that_begins_anew_is_no_negative_number(tmp_path: Path) -> None:
    evaluated(tmp_path, {requests("a", "200"): "600+60x11 0+60x20"}, [(ERRORS.requests, "20m", 300)])


def test_a_target_that_was_away_for_a_while_does_not_count_all_that_it_ever_counted(tmp_path: Path) -> None:
    series = {requests("a", "200"): "100000+60x10 _x30 103000+60x20", 'up{job="x"}': "1x60"}
    found = [(ERRORS.requests, "30m", None), (ERRORS.requests, "50m", 300)]
    evaluated(tmp_path, series, found)


def test_where_prometheus_was_away_nothing_is_known(tmp_path: Path) -> None:
    series = {'up{job="x"}': "1x10 _x20 1x30"}
    query = observer_query()
    evaluated(tmp_path, series, [(query, "15m", 1), (query, "30m", None), (query, "34m", None), (query, "40m", 1)])


def test_a_metric_or_label_that_was_renamed_has_no_requests_instead_of_no_errors(tmp_path: Path) -> None:
    renamed = {f'requests_total{{pod="api-a", status="200", {USER}}}': "0+60x30"}
    other_label = {f'http_requests_total{{pod="api-a", code="500", {USER}}}': "0+60x30"}
    evaluated(tmp_path, {**renamed, **other_label}, [(ERRORS.requests, "20m", None), (ERRORS.bad, "20m", None)])


def test_slow_is_what_is_not_below_the_bound_however_it_is_written(tmp_path: Path) -> None:
    def bucket(le: str) -> str:
        return f'http_request_duration_seconds_bucket{{pod="api-a", le="{le}", {USER}}}'

    series = {bucket("0.5"): "0+10x30", bucket("1.0"): "0+50x30", bucket("+Inf"): "0+60x30"}
    evaluated(tmp_path, series, [(SLOW.requests, "20m", 300), (SLOW.bad, "20m", 250)])
    assert SLOW.good
    series = {bucket("0.5"): "0+10x30", bucket("+Inf"): "0+60x30"}
    evaluated(tmp_path, series, [(SLOW.requests, "20m", 300), (SLOW.bad, "20m", None)])


def test_without_a_histogram_only_errors_are_asked_for() -> None:
    assert list(queries(durations="")) == ["errors"]
