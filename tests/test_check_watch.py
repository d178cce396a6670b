"""`nightshift check` and watches: told before a release, not at the end of its day, is what could never be counted, compared or acted on."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.checks import Check
from core.environment_gates import Gates
from core.environment_watch import Incident, Watch
from core.watch_checks import days_check, policy_check, retention_check, retention_of
from deployments.command.probe import Probe
from deployments.command.probes import probes_of, run_probes
from deployments.command.watch_probes import watch_probes
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_release import Stage

pytestmark = pytest.mark.xdist_group("prefect")

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
COUNTED = Gates(prometheus_url="http://prometheus:9090")


def incident(begin: int, end: int) -> Incident:
    """From so many days ago until so many."""
    return Incident(begin=NOW - timedelta(days=begin), end=NOW - timedelta(days=end), why="a campaign")


@pytest.mark.parametrize(
    ("policy", "gates", "state", "told"),
    [
        ("alert", COUNTED, "passed", "requests are counted"),
        ("roll-back", COUNTED, "passed", "requests are counted"),
        ("alert", Gates(), "warning", "prometheus_url is empty: nothing is counted, and no watch ends healthy"),
        ("roll-back", Gates(), "failed", "prometheus_url is empty: nothing is counted"),
        ("roll-back", COUNTED.model_copy(update={"metrics": False}), "failed", "release.gates.metrics is false"),
    ],
)
def test_what_could_never_be_acted_on_is_told(policy: Any, gates: Gates, state: str, told: str) -> None:
    found = policy_check(Watch(policy=policy), gates)
    assert (found.state, told in found.found) == (state, True), found


@pytest.mark.parametrize(
    ("incidents", "state", "told"),
    [
        ((), "passed", "no incident"),
        ((incident(8, 7.4),), "passed", "no incident"),
        ((incident(8, 6),), "warning", "leave 3 of four weeks"),
        ((incident(30, 13),), "warning", "leave 1 of four weeks: the 4 days before are compared with"),
        ((incident(40, 0),), "failed", "a release of now is compared with nothing"),
        ((incident(40, 6), incident(5, 1.2)), "failed", "leave 0 of four weeks and 1 of the four days before"),
    ],
)
def test_incidents_that_leave_nothing_to_compare_with_are_told(
    incidents: tuple[Incident, ...], state: str, told: str
) -> None:
    found = days_check(Watch(incidents=incidents), NOW, BERLIN)
    assert (found.state, told in found.found) == (state, True), found


@pytest.mark.parametrize(
    ("told", "days"),
    [("15d", 15), ("5w", 35), ("1y", 365), ("5w3d or 512MB", 38), ("36h", 1.5), ("512MB", None), ("", None)],
)
def test_how_long_prometheus_keeps_what_it_has_is_read_in_its_own_words(told: str, days: float | None) -> None:
    assert retention_of(told) == (None if days is None else timedelta(days=days))


@pytest.mark.parametrize(
    ("told", "policy", "state", "compared"),
    [
        ("15d", "alert", "warning", "compared with 2 weeks"),
        ("15d", "roll-back", "failed", "compared with 2 weeks"),
        ("1w", "alert", "warning", "compared with the days before"),
        ("4w", "alert", "warning", "compared with 3 weeks"),
        ("5w", "roll-back", "passed", "keeps 5w"),
        ("10GB", "roll-back", "passed", "bounded by size alone"),
        (None, "roll-back", "passed", "does not say"),
    ],
)
def test_a_prometheus_that_forgets_too_soon_is_told(told: str | None, policy: Any, state: str, compared: str) -> None:
    found = retention_check(Watch(policy=policy), told)
    assert (found.state, compared in found.found) == (state, True), found


def rows(stage: Stage) -> dict[str, Check]:
    """The rows that are about watches."""
    probes: list[Probe] = watch_probes(stage.environment)
    return {one.name: one for found in run_probes(probes) for one in found}


def answering(now: float = 5, *, lags: tuple[int, ...] = (7, 14, 21, 28)) -> Callable[[str, float], list[Any]]:
    """A Prometheus that has these numbers now, and so many days before."""

    def answer(_query: str, at: float) -> list[Any]:
        ago = round((datetime.now(UTC).timestamp() - at) / 86400)
        return [{"metric": {}, "values": [[at, str(now)]]}] if ago in (0, *lags) else []

    return answer


def test_each_part_of_a_watch_has_its_row(stage: Stage, prometheus_api: PrometheusApi) -> None:
    public = PrometheusApi()
    public.always = (200, "[]", {"Content-Type": "application/json"})
    prometheus_api.answer = answering()
    stage.settings["release"]["gates"] = {"prometheus_url": prometheus_api.address}
    stage.settings["watch"] = {
        "probes": {"url": public.address},
        "alerts": {"url": public.address},
        "grafana": {"url": public.address},
    }
    found = rows(stage)
    assert {one.state for one in found.values()} == {"passed"}, found
    assert list(found) == [
        "watch: policy",
        "watch: days to compare with",
        "watch: Prometheus",
        "watch: requests",
        "watch: Alertmanager",
        "watch: Grafana",
        "watch: public address",
    ]
    assert "counted now, and at this time of the last four weeks" in found["watch: requests"].found
    public.always = (403, "no", {})
    refused = rows(stage)
    assert {name for name, one in refused.items() if one.state == "failed"} == {
        "watch: Alertmanager",
        "watch: Grafana",
        "watch: public address",
    }
    assert "watch.grafana.token" in refused["watch: Grafana"].next_step
    public.go_away()
    # What is away is asked again for a moment: one of them stands for all.
    stage.settings["watch"] = {"probes": {"url": public.address}}
    assert "no watch ends healthy while it is so" in rows(stage)["watch: public address"].found


def test_what_prometheus_does_not_have_is_told_by_query(stage: Stage, prometheus_api: PrometheusApi) -> None:
    stage.settings["release"]["gates"] = {"prometheus_url": prometheus_api.address}
    stage.settings["watch"] = {"policy": "roll-back"}
    prometheus_api.retention = "15d"
    prometheus_api.answer = answering(lags=(7,))
    found = rows(stage)
    assert found["watch: Prometheus"].state == "failed"
    assert found["watch: requests"].state == "warning"
    assert (
        "none at this time of day 14, 21, 28 days ago: while it is so, nothing is sent back"
        in found["watch: requests"].found
    )
    prometheus_api.answer = lambda _query, _at: []
    told = rows(stage)["watch: requests"].found
    assert "errors: Prometheus has no requests of the api's Pods now" in told
    assert "whether each Pod is scraped cannot be told" in told


def test_a_prometheus_that_refuses_or_is_away_fails(stage: Stage, prometheus_api: PrometheusApi) -> None:
    stage.settings["release"]["gates"] = {"prometheus_url": prometheus_api.address}
    stage.settings["watch"] = {}
    prometheus_api.always = (401, "sign in", {})
    found = rows(stage)["watch: Prometheus"]
    assert (found.state, "prometheus_token" in found.next_step) == ("failed", True), found
    prometheus_api.go_away()
    assert rows(stage)["watch: Prometheus"].state == "failed"


def test_an_environment_without_the_table_has_no_such_rows(stage: Stage) -> None:
    assert watch_probes(stage.environment) == []
    stage.settings["watch"] = {}
    assert "watch: policy" in [one.name for one in probes_of(stage.environment)]
