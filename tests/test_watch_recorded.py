"""Days after a release through the flow, with a real Prometheus that remembers weeks and that day of each application: what is told, when, and how the day ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from core.keys import watch_folder
from core.watch_counts import BUCKETS
from core.watch_days import first_bucket
from tasks.object_store import ObjectStore
from tasks.sealed import sealed_bytes
from tasks.secrets import signing_keys
from tests.fix_recorded_prometheus import RELEASED, Application, record, running
from tests.fix_watch import Day
from tests.ports import free_port

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("watch-recorded")]
HOUR, HOUR_BUCKETS = 60, 12
# Prometheus itself did not run for an hour and a half of the day: of that time nothing is known.
AWAY = range(13 * HOUR, 14 * HOUR + 30)
APPLICATIONS = (
    Application("well"),
    Application("threefold", errors=lambda minute: 0.9 if minute >= 2 * HOUR else 0.3),
    Application("slow", slow=lambda minute: 3.0 if minute >= 2 * HOUR else 0.6),
    Application("unscraped", known=lambda minute: minute < 2 * HOUR),
    Application("renamed", renamed=True),
    Application(
        "collapsed",
        requests=lambda minute: 0.6 if minute >= 2 * HOUR else 60,
        errors=lambda minute: 0.003 if minute >= 2 * HOUR else 0.3,
        slow=lambda minute: 0.006 if minute >= 2 * HOUR else 0.6,
    ),
    Application(
        "quiet", requests=lambda _m: 0.05, errors=lambda _m: 0.001, slow=lambda _m: 0.001, before=(0.05, 0.001, 0.001)
    ),
)


@dataclass
class Recorded:
    """The Prometheus, made once the name of the new version's ReplicaSet is known. All applications' Pods have the same names; their label `job` differs."""

    folder: Path
    replica_set: str = ""
    port: int = field(default_factory=free_port)
    process: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def remember(self, replica_set: str) -> None:
        """Record the days, once; the server runs afterwards."""
        if not self.replica_set:
            self.replica_set = replica_set
            for one in APPLICATIONS:
                one.old_pods, one.new_pods = (
                    ("hello-old{lag}-a", "hello-old{lag}-b"),
                    (
                        f"{replica_set}-a",
                        f"{replica_set}-b",
                    ),
                )
            record(self.folder, APPLICATIONS, lambda minute: minute not in AWAY)
            self.start()
        assert replica_set == self.replica_set

    def start(self) -> None:
        """Start the server, at the same address each time."""
        self.process.enter_context(running(self.folder, self.port))

    def stop(self) -> None:
        """End it."""
        self.process.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    found = Recorded(tmp_path_factory.mktemp("recorded"))
    yield found
    found.stop()


@pytest.fixture
def begun(day: Day, recorded: Recorded) -> Callable[[str], Day]:
    """Release a version of an application for real; its day is the recorded one."""

    def begin(job: str) -> Day:
        state = day.begin()
        assert state.is_completed(), state.message
        stage = day.stage
        (new,) = (
            one["metadata"]["name"]
            for one in stage.client.list("/apis/apps/v1/namespaces/shop/replicasets")
            if one["spec"]["template"]["spec"]["containers"][0]["image"] == stage.image("v2")
            and one["metadata"]["name"].startswith("hello-")
        )
        recorded.remember(new)
        # Its Prometheus knows this day only.
        start = day.start.model_copy(update={"released_at": RELEASED, "first": first_bucket(RELEASED)})
        environment = stage.environment
        key = f"{watch_folder(environment.prefix, day.release_id)}watch.json"
        ObjectStore.open(environment).put(key, sealed_bytes(start, signing_keys(environment)[0]))
        stage.settings["release"]["gates"] |= {
            "prometheus_url": recorded.address,
            "requests": f'http_requests_total{{pod=~"{{pods}}",job="{job}"}}',
            "durations": f'http_request_duration_seconds_bucket{{pod=~"{{pods}}",job="{job}"}}',
        }
        stage.write()
        assert day.start.first == first_bucket(RELEASED)
        return day

    return begin


@pytest.mark.parametrize(("job", "metric"), [("threefold", "errors"), ("slow", "slow")])
def test_a_version_that_is_worse_since_its_third_hour_is_told_within_three_hours(
    begun: Callable[[str], Day], job: str, metric: str
) -> None:
    day = begun(job)
    assert day.tick(0, 10).is_completed()
    early = day.tick(2 * HOUR_BUCKETS)
    assert early.is_completed(), early.message
    state = day.tick(5 * HOUR_BUCKETS)
    assert (state.name, state.is_failed()) == ("Degraded", True), state.message
    assert f"worse than before: {metric}: E = " in state.message
    assert day.tick(BUCKETS).name == "Degraded"
    assert (day.end.verdict, day.end.how) == ("degraded", "the day is over")
    assert any(one.startswith(metric) for one in day.end.reasons)


def test_a_quiet_day_ends_healthy_with_its_report_its_pictures_and_the_question_to_a_person(
    begun: Callable[[str], Day],
) -> None:
    day = begun("well")
    for bucket in (0, 1, 2, 6 * HOUR_BUCKETS, 200):
        state = day.tick(bucket)
        assert state.is_completed(), state.message
        assert state.message.startswith(f"{bucket} of {BUCKETS} buckets: ")
    state = day.tick(BUCKETS)
    assert (state.name, state.is_completed()) == ("Healthy", True), state.message
    # What Prometheus did not see when it did not run is told.
    assert day.newest.known == pytest.approx(BUCKETS - len(AWAY) / 5, abs=2)
    assert (day.end.verdict, day.end.closed) == ("healthy", BUCKETS)
    report = day.stage.reports()[-1]
    assert (report.flow, report.verdict) == ("post-deploy-watch", "passed")
    assert "draw" in {one.name for one in report.steps}
    (drawn,) = (one for one in report.steps if one.name == "draw")
    assert {"errors", "slow", "evidence"} <= set(drawn.facts["pictures"])
    with get_client(sync_client=True) as prefect:
        keys = {one.key for one in prefect.read_artifacts()}
    assert {f"watch-{one}-stage" for one in drawn.facts["pictures"]} <= keys
    (run,) = day.runs_of("watch-sign-off")
    assert run.parameters["release_id"] == day.release_id
    assert day.schedules() == []


def test_a_prometheus_that_is_killed_for_hours_is_told_and_what_it_kept_is_filled_in(
    begun: Callable[[str], Day], recorded: Recorded
) -> None:
    day = begun("threefold")
    assert day.tick(HOUR_BUCKETS).is_completed()
    recorded.stop()
    try:
        assert day.tick(HOUR_BUCKETS + 2).is_completed()
        state = day.tick(HOUR_BUCKETS + 7)
        assert (state.name, state.is_failed()) == ("Blind", True), state.message
        assert "the observer is blind since 2026-11-12 10:00 UTC" in state.message
        assert "127.0.0.1" in state.message
        # Told once, and neither a pass nor a failure of the release.
        assert day.tick(6 * HOUR_BUCKETS).is_completed()
        assert (day.newest.closed, day.newest.known) == (6 * HOUR_BUCKETS, HOUR_BUCKETS)
        assert "degraded" not in day.names
    finally:
        recorded.start()
    state = day.tick(6 * HOUR_BUCKETS + 1)
    assert state.name == "Degraded", state.message
    assert day.newest.known == 6 * HOUR_BUCKETS + 1


@pytest.mark.parametrize("job", ["unscraped", "renamed"])
def test_requests_that_prometheus_does_not_have_are_told_as_blind_and_never_healthy(
    begun: Callable[[str], Day], job: str
) -> None:
    day = begun(job)
    assert not day.tick(1).is_failed()
    state = day.tick(4 * HOUR_BUCKETS)
    assert (state.name, state.is_failed()) == ("Blind", True), state.message
    assert "was a metric renamed, is it scraped?" in state.message
    assert day.tick(BUCKETS).name == "Blind"
    assert day.end.verdict == "blind"


def test_a_traffic_that_collapses_is_told_and_no_report_of_its_day_is_a_plain_pass(begun: Callable[[str], Day]) -> None:
    day = begun("collapsed")
    assert day.tick(2 * HOUR_BUCKETS).is_completed()
    day.tick(4 * HOUR_BUCKETS)
    last, hours = (one for one in day.newest.findings if one.text.startswith("traffic: "))
    assert {last.severity, hours.severity} == {"warning"}
    assert "2 of 4 hours had less than half" in hours.text
    # It goes on to the evening: what was seen of its morning may be enough for a verdict, and is no plain pass.
    state = day.tick(BUCKETS)
    assert "warnings of other sources" in str(state.message) or not state.is_completed(), state.message
    report = day.stage.reports()[-1]
    assert report.verdict != "passed"
    told = [one for step in report.steps for one in step.findings if "of 24 hours had less than half" in one.text]
    assert [one.severity for one in told] == ["warning"]


def test_three_requests_an_hour_are_insufficient(begun: Callable[[str], Day]) -> None:
    day = begun("quiet")
    assert day.tick(4 * HOUR_BUCKETS).is_completed()
    state = day.tick(BUCKETS)
    assert (state.name, state.is_failed()) == ("Insufficient", True), state.message
