"""Whole releases whose gates read metrics: bad figures send the traffic back at once, missing ones hold it where it is, and neither ever lets it on."""

from collections.abc import Callable

import pytest

from core.release_journal import Journal
from tests.fix_kubernetes import KubernetesApi
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_proxy import TcpProxy
from tests.fix_release import Stage
from tests.fix_release_gates import HOLD_MINUTES, SCRAPE_SECONDS, Did, PassingTime, Scraped
from tests.fix_release_migration import Migrating
from tests.fix_release_shift import Route

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-metrics")]

HOLD_SECONDS = HOLD_MINUTES * 60
HALF_FAILED = "50 of 100 requests of the new version failed (50.00%), allowed are 1.00%; 0 of 100 of the old (0.00%), allowed is 2 times that"
Turn = Callable[[Scraped, PrometheusApi], object]


def found(stage: Stage, step: str) -> str:
    """What the newest report says of a step: its finding, or its error."""
    (one,) = [one for one in stage.reports()[-1].steps if one.name == step]
    return " ".join([str(one.facts.get("found", "")), *(error.text for error in one.findings)])


def events(journal: Journal) -> list[str]:
    """What a journal says from the first step that failed on."""
    told = [f"{one.event} {one.step}".strip() for one in journal.entries]
    return told[next(number for number, one in enumerate(told) if one.startswith("failed")) :]


def serves_the_old_version_alone(stage: Stage, route: Route) -> bool:
    """Whether the release is undone: weights, Pods, worker, lease, journal."""
    (journal,) = stage.journals()
    return (
        route.weights() == {"hello": 100, "hello-blue": 0}
        and stage.deployment("hello-blue")["spec"]["replicas"] == 0
        and {stage.image_of(), stage.image_of("worker")} == {stage.image("v1")}
        and (journal.outcome, stage.lease_holder()) == ("rolled back", "")
    )


def test_a_version_that_does_well_gets_all_of_the_traffic_and_each_share_has_its_figures(
    stage: Stage, route: Route, scraped: Scraped
) -> None:
    state = stage.release("v2", adopt=True)
    assert state.is_completed(), state.message
    assert route.shares("hello-blue") == [0, 10, 25, 50, 100]
    well = "0 of 100 requests of the new version failed (0.00%), allowed are 1.00%; "
    for share in (10, 25, 50):
        assert well + "0 of 100 of the old (0.00%)" in found(stage, f"shift {share} % of the traffic")
    # Nobody is left to compare with.
    assert well + "no old version beside it to compare with" in found(stage, "shift 100 % of the traffic")


@pytest.mark.parametrize("share", [10, 50])
def test_a_version_that_fails_half_of_its_requests_at_a_share_has_no_traffic_any_more(
    stage: Stage, route: Route, scraped: Scraped, passing_time: PassingTime, share: int
) -> None:
    route.when("hello-blue", share, lambda: setattr(scraped, "new", Did(errors=25)))
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    shares = [0, 10, 25, 50]
    assert route.shares("hello-blue") == [*shares[: shares.index(share) + 1], 0]
    assert f"could not pass the gates at {share} % of the traffic" in str(state.message)
    assert f"{HALF_FAILED}. Look at the new version's Pods and logs" in str(state.message)
    assert HALF_FAILED in found(stage, f"shift {share} % of the traffic")
    assert serves_the_old_version_alone(stage, route)
    # By the second scrape, not after the longest hold.
    assert passing_time.passed < HOLD_SECONDS / 2


def test_a_version_that_fails_once_it_has_all_of_the_traffic_is_held_to_the_limit_alone_and_goes_back(
    stage: Stage, route: Route, scraped: Scraped
) -> None:
    route.when("hello-blue", 100, lambda: setattr(scraped, "new", Did(errors=25)))
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert route.shares("hello-blue") == [0, 10, 25, 50, 100, 0]
    assert "50 of 100 requests of the new version failed (50.00%), allowed are 1.00%; no old" in str(state.message)
    assert serves_the_old_version_alone(stage, route)


def test_a_version_that_is_slow_goes_back_though_none_of_its_requests_fails(
    stage: Stage, route: Route, scraped: Scraped
) -> None:
    scraped.new.slow = 10
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert route.shares("hello-blue") == [0, 10, 0]
    slow = "20 of 100 requests of the new version took longer than 1 s (20.00%), allowed are 5.00%; 0 of 100 of the old"
    assert slow in str(state.message)
    assert "failed" not in str(state.message)
    assert serves_the_old_version_alone(stage, route)


def test_a_version_that_fails_while_it_soaks_is_not_left_in_the_traffic_until_the_end_of_it(
    stage: Stage, route: Route, scraped: Scraped, passing_time: PassingTime
) -> None:
    stage.settings["release"]["traffic"]["soak_seconds"] = 3600
    scraped.new.errors = 25
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert route.shares("hello-blue") == [0, 10, 0]
    assert passing_time.passed < HOLD_SECONDS


def turned(**settings: object) -> Turn:
    """The scripted Prometheus, or what it has, made another."""

    def turn(scraped: Scraped, prometheus: PrometheusApi) -> None:
        for name, value in settings.items():
            setattr(scraped if hasattr(scraped, name) else prometheus, name, value)

    return turn


NO_DATA: dict[str, tuple[Turn, str]] = {
    "NaN": (turned(last="NaN"), 'status="200"} has the value nan, which no counter has'),
    "empty": (
        lambda _scraped, prometheus: setattr(prometheus, "answer", lambda _query, _at: []),
        "Prometheus has no series of hello-blue-",
    ),
    "no requests": (turned(new=Did(requests=0)), "0 of 0 requests of the new version failed (no requests)"),
    "three requests": (turned(new=Did(requests=0.08)), "0 of 3 requests of the new version failed (0.00%)"),
    "three failed requests": (turned(new=Did(0.08, 0.08)), "3 of 3 requests of the new version failed (100.00%)"),
    "few of the old": (turned(old=Did(requests=0.08)), "fewer than 100 requests of the old version"),
    "refused": (lambda _scraped, prometheus: prometheus.go_away(), "Connection refused"),
    "starting": (turned(always=(503, "", {})), "503: Service Unavailable"),
    "warnings": (turned(extra={"warnings": ["a store is away"]}), "only a part of the data: a store is away"),
    "another clock": (turned(clock_apart=300), "metrics are not of now: the clock of Prometheus goes "),
}


@pytest.mark.parametrize(("turn", "told"), NO_DATA.values(), ids=NO_DATA.keys())
def test_without_data_that_tell_anything_the_share_stays_for_so_long_and_then_the_release_goes_back(  # noqa: PLR0917
    stage: Stage,
    route: Route,
    scraped: Scraped,
    prometheus_api: PrometheusApi,
    passing_time: PassingTime,
    turn: Turn,
    told: str,
) -> None:
    turn(scraped, prometheus_api)
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert route.shares("hello-blue") == [0, 10, 0]
    assert HOLD_SECONDS - SCRAPE_SECONDS < passing_time.passed < HOLD_SECONDS * 2
    message = str(state.message)
    assert (
        f"could not pass the gates at 10 % of the traffic ({stage.image('v2')}): not decided for 5 minutes: " in message
    )
    assert told in message
    assert "Find out why it could not be judged (Prometheus, what it scrapes, whether there are requests)" in message
    assert told in found(stage, "shift 10 % of the traffic")
    assert serves_the_old_version_alone(stage, route)


def test_a_prometheus_that_is_away_for_a_while_only_delays_a_good_version(
    stage: Stage, route: Route, scraped: Scraped, prometheus_api: PrometheusApi, passing_time: PassingTime
) -> None:
    prometheus_api.go_away()
    held: list[list[int]] = []

    def come_back() -> None:
        held.append(route.shares("hello-blue"))
        prometheus_api.come_back()

    passing_time.after(HOLD_SECONDS - 4 * SCRAPE_SECONDS, come_back)
    state = stage.release("v2", adopt=True)
    assert state.is_completed(), state.message
    assert held == [[0, 10]]
    assert route.shares("hello-blue") == [0, 10, 25, 50, 100]


def test_a_prometheus_that_goes_away_for_good_during_the_shift_stops_it_at_the_share_that_is_reached(
    stage: Stage, route: Route, scraped: Scraped, prometheus_api: PrometheusApi
) -> None:
    route.when("hello-blue", 50, prometheus_api.go_away)
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert route.shares("hello-blue") == [0, 10, 25, 50, 0]
    assert "could not pass the gates at 50 % of the traffic" in str(state.message)
    assert serves_the_old_version_alone(stage, route)


def test_what_was_not_seen_while_a_share_soaked_does_not_count_against_it(
    stage: Stage, route: Route, scraped: Scraped, prometheus_api: PrometheusApi, passing_time: PassingTime
) -> None:
    stage.settings["release"]["traffic"]["soak_seconds"] = 2 * HOLD_SECONDS
    prometheus_api.go_away()
    passing_time.after(2 * HOLD_SECONDS + 4 * SCRAPE_SECONDS, prometheus_api.come_back)
    state = stage.release("v2", adopt=True)
    assert state.is_completed(), state.message
    assert route.shares("hello-blue") == [0, 10, 25, 50, 100]


def test_after_a_migration_the_traffic_goes_back_first_and_needs_no_database_for_it(
    migrating: Migrating,
    route: Route,
    scraped: Scraped,
    kubernetes: KubernetesApi,
    tcp_proxy: Callable[[int], TcpProxy],
) -> None:
    """Nothing is done to the database on the way back, not even a look; here it lets nobody in since the share was written."""
    stage, begun = migrating.stage, list[tuple[int, int]]()
    settings = stage.settings["databases"]["app"]
    proxy = tcp_proxy(settings["port"])
    settings["port"] = proxy.port
    scraped.new.errors = 25

    def close_the_database() -> None:
        begun.append((proxy.accepted, len(kubernetes.requests)))
        migrating.server.execute("postgres", f"ALTER DATABASE {migrating.database} WITH ALLOW_CONNECTIONS false")

    route.when("hello-blue", 10, close_the_database)
    state = migrating.release(adopt=True)
    assert state.name == "RolledBack", state.message
    assert HALF_FAILED in str(state.message)
    assert route.shares("hello-blue") == [0, 10, 0]
    assert serves_the_old_version_alone(stage, route)
    back = ["failed shift 10 % of the traffic", "compensate", "intent traffic (back)", "done traffic (back)"]
    assert events(stage.journals()[0])[: len(back)] == back
    ((sessions, requests),) = begun
    assert 0 < sessions == proxy.accepted
    written = [
        path for method, path in kubernetes.requests[requests:] if method != "GET" and "/namespaces/shop/" in path
    ]
    assert "/httproutes/hello" in written[0], written
    assert not [one for one in written if "/jobs" in one]


def test_after_a_breaking_migration_a_version_that_fails_is_held_where_it_is_and_a_person_brings_it_back(
    migrating: Migrating, route: Route, scraped: Scraped
) -> None:
    stage = migrating.stage
    route.when("hello-blue", 25, lambda: setattr(scraped, "new", Did(errors=25)))
    state = migrating.release(adopt=True, schema_compatibility="breaking")
    assert (state.name, state.is_failed()) == ("Failed", True), state.message
    message = str(state.message)
    assert "HELD, it is neither out nor back: traffic and Pods were left as they are" in message
    assert f"could not pass the gates at 25 % of the traffic ({stage.image('v2')}): {HALF_FAILED}" in message
    assert "old version serves" not in message
    assert route.weights() == {"hello": 75, "hello-blue": 25}
    (journal,) = stage.journals()
    back = stage.recover(release_id=journal.release_id, decision="back", reason="incident 7")
    assert back.is_completed(), back.message
    assert route.shares("hello-blue") == [0, 10, 25, 0]
    assert serves_the_old_version_alone(stage, route)
