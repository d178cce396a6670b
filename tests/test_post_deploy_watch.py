"""A day after a release through the flow, on the small API with a scripted Prometheus: what it finds, tells, does once, and how it ends."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from prefect.client.orchestration import get_client

from core.keys import watch_folder
from core.watch_counts import BUCKETS
from core.watch_verdict import Judgement
from flows.post_deploy_watch import post_deploy_watch
from flows.rollback import rollback
from tasks.object_store import ObjectStore
from tasks.watch_count import count
from tasks.watch_schedule import remove_schedule
from tasks.watch_steps import judged
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_watch import Day

pytestmark = pytest.mark.xdist_group("watch-flow")


@pytest.mark.services
def test_a_release_hands_over_to_its_watch_and_a_quiet_day_ends_healthy(day: Day) -> None:
    state = day.begin()
    assert state.is_completed(), state.message
    assert day.schedules() == [f"watch-{day.release_id}"]
    assert day.tick(0, 10).is_completed()
    for bucket in (1, 2, 100):
        state = day.tick(bucket)
        assert state.is_completed(), state.message
        assert state.message.startswith(f"{bucket} of {BUCKETS} buckets: ")
    state = day.tick(BUCKETS)
    assert (state.name, state.is_completed()) == ("Healthy", True), state.message
    assert "would have been" in state.message
    assert (day.end.verdict, day.end.how, day.end.closed) == ("healthy", "the day is over", BUCKETS)
    assert day.schedules() == []
    assert [one for one in day.names if one.startswith("tick-")] == ["tick-288-288"]
    assert len(day.runs_of("watch-sign-off")) == 1
    again = day.tick(BUCKETS)
    assert again.is_completed()
    assert again.message.startswith("ended already: ")
    report = day.stage.reports()[-1]
    assert (report.flow, report.verdict) == ("post-deploy-watch", "passed")


def worse(day: Day, begin: int = 10, times: float = 6.0) -> None:
    day.errors[begin:] *= times


def test_a_worse_version_is_told_once_and_the_day_ends_degraded(day: Day) -> None:
    day.begin()
    worse(day)
    assert day.tick(10).is_completed()
    state = day.tick(30)
    assert (state.name, state.is_failed()) == ("Degraded", True), state.message
    assert "worse than before: errors: E = " in state.message
    assert "nightshift rollback stage" in state.message
    reports = len(day.stage.reports())
    later = day.tick(31)
    assert later.is_completed()
    assert "worse than before, as told" in later.message
    assert len(day.stage.reports()) == reports
    assert day.runs_of("rollback") == []
    assert day.tick(BUCKETS).name == "Degraded"
    assert day.end.verdict == "degraded"
    assert "rollback-asked" not in day.names


@pytest.mark.services
class TestActing:
    def test_where_the_environment_says_so_the_rollback_is_asked_for_once(self, day: Day) -> None:
        day.stage.settings["watch"]["policy"] = "roll-back"
        day.begin()
        worse(day)
        state = day.tick(30)
        assert state.name == "Degraded", state.message
        assert "Its rollback was asked for" in state.message
        (run,) = day.runs_of("rollback")
        assert run.parameters["release_id"] == day.release_id
        assert run.parameters["requested_by"] == "post-deploy-watch"
        assert "errors: E = " in run.parameters["reason"]
        for bucket in (30, 31, 40):
            assert day.tick(bucket).is_completed()
        assert len(day.runs_of("rollback")) == 1

    def test_the_rollback_that_was_asked_for_takes_it_back_and_ends_the_watch(self, day: Day) -> None:
        day.stage.settings["watch"]["policy"] = "roll-back"
        day.begin()
        worse(day)
        day.tick(30)
        (run,) = day.runs_of("rollback")
        given = {name: run.parameters[name] for name in ("reason", "release_id", "requested_by")}
        state = day.stage.run_rollback(**given)
        assert state.is_completed(), state.message
        assert day.stage.image_of() == day.stage.image("v1")
        state = day.tick(31)
        assert state.name == "Degraded", state.message
        assert (day.end.how, day.end.verdict) == ("rolled back", "degraded")
        assert day.runs_of("watch-sign-off") == []

    def test_late_at_night_it_is_advised_to_go_forward(self, day: Day) -> None:
        day.stage.settings["watch"]["policy"] = "roll-back"
        day.begin()
        worse(day, begin=270)
        state = day.tick(285)
        assert state.name == "Degraded"
        assert "release a mend" in state.message
        assert day.runs_of("rollback") == []

    def test_what_cannot_be_asked_for_is_told_and_asked_again(self, day: Day) -> None:
        day.stage.settings["watch"]["policy"] = "roll-back"
        day.begin()
        worse(day)
        with get_client(sync_client=True) as prefect:
            prefect.delete_deployment(prefect.read_deployment_by_name("rollback/stage").id)
        state = day.tick(30)
        assert state.name == "Degraded"
        assert "the server has no such deployment" in state.message
        rollback.to_deployment(name="stage", parameters={"environment": "stage"}).apply()
        day.tick(31)
        assert len(day.runs_of("rollback")) == 1

    @pytest.mark.parametrize("lags", [(7, 14), (1, 2, 3, 4)])
    def test_fewer_than_four_weeks_tell_and_send_nothing_back(self, day: Day, lags: tuple[int, ...]) -> None:
        day.stage.settings["watch"]["policy"] = "roll-back"
        day.lags = lags
        day.begin()
        worse(day)
        state = day.tick(60)
        assert (state.name, state.is_failed()) == ("Suspect", True), state.message
        assert "looks worse than before: errors: looks worse" in state.message
        assert f"nightshift rollback stage --release {day.release_id}" in state.message
        assert day.tick(61).is_completed()
        state = day.tick(BUCKETS)
        assert state.name == "Insufficient", state.message
        assert "NO PASS: the new version looks worse" in state.message
        assert day.runs_of("rollback") == []

    def test_total_failure_is_told_at_once_where_there_is_nothing_to_compare_with(self, day: Day) -> None:
        day.lags = ()
        day.begin()
        day.errors[:] = 600
        state = day.tick(1)
        assert (state.name, state.is_failed()) == ("Suspect", True), state.message
        assert "600 of 600 requests bad in 1 bucket" in state.message

    def test_what_ended_hours_ago_is_told_and_not_sent_back(self, day: Day) -> None:
        day.stage.settings["watch"]["policy"] = "roll-back"
        day.begin()
        day.errors[10:20] = 200
        day.api.go_away()
        day.tick(9)
        day.api.come_back()
        state = day.tick(200)
        assert state.name == "Degraded", state.message
        assert day.runs_of("rollback") == []


@pytest.mark.services
class TestWhatHappensToTicks:
    def test_doubled_late_and_out_of_order_the_verdict_is_the_same(self, day: Day) -> None:
        day.begin()
        worse(day, begin=200, times=2.0)
        for bucket in (1, 1, 3, 2, 100, 99, 250, 250, 249):
            assert not day.tick(bucket).is_crashed()
        newest = day.newest
        assert (newest.closed, newest.known) == (250, 250)
        day.tick(BUCKETS)
        found = day.end
        # A second watch that saw all of it in one look.
        once = look_once(day)
        assert (found.verdict, found.reasons) == (once.verdict, once.reasons)

    def test_a_tick_that_was_killed_before_it_kept_anything_is_made_up_for(
        self, day: Day, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        day.begin()
        day.tick(1)
        with monkeypatch.context() as patch:
            patch.setattr("flows.post_deploy_watch.keep_tick", interrupted)
            with pytest.raises(KeyboardInterrupt):
                day.tick(2)
        assert day.newest.closed == 1
        day.tick(3)
        assert (day.newest.closed, day.newest.known) == (3, 3)

    def test_killed_between_telling_and_noting_it_is_told_again_and_asked_for_once(
        self, day: Day, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        day.stage.settings["watch"]["policy"] = "roll-back"
        day.begin()
        worse(day)
        with monkeypatch.context() as patch:
            patch.setattr("tasks.watch_records.WatchRecords.keep_mark", interrupted)
            with pytest.raises(KeyboardInterrupt):
                day.tick(30)
        assert day.tick(31).name == "Degraded"
        assert len(day.runs_of("rollback")) == 1

    def test_killed_at_its_end_it_is_ended_by_the_sweep(self, day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
        day.begin()
        day.tick(100)
        with monkeypatch.context() as patch:
            patch.setattr("tasks.watch_end.write_report", interrupted)
            with pytest.raises(KeyboardInterrupt):
                day.tick(BUCKETS)
        assert "ended" not in day.names
        state = day.sweep()
        assert state.is_completed(), state.message
        assert day.end.verdict == "healthy"
        assert len(day.runs_of("watch-sign-off")) == 1

    @pytest.mark.parametrize("apart", [-300.0, 300.0])
    def test_a_clock_that_is_five_minutes_wrong_changes_nothing(self, day: Day, apart: float) -> None:
        day.begin()
        worse(day, begin=20)
        # The worker's clock is wrong by so much, so Prometheus' is apart by the other way.
        day.api.clock_apart = -apart
        day.tick(50, 75 + apart)
        assert (day.newest.closed, day.newest.known) == (50, 50)
        assert "degraded" in day.names


@pytest.mark.services
class TestBlind:
    def test_prometheus_away_for_hours_is_told_once_and_filled_in_afterwards(self, day: Day) -> None:
        day.begin()
        day.tick(20)
        day.api.go_away()
        assert day.tick(23).is_completed()
        state = day.tick(26)
        assert (state.name, state.is_failed()) == ("Blind", True), state.message
        assert "the observer is blind since" in state.message
        assert day.tick(40).is_completed()
        assert (day.newest.closed, day.newest.known) == (40, 20)
        day.api.come_back()
        day.tick(41)
        assert day.newest.known == 41
        assert day.tick(BUCKETS).name == "Healthy"

    def test_a_trouble_while_nobody_saw_is_found_afterwards(self, day: Day) -> None:
        day.begin()
        worse(day, begin=30)
        day.tick(20)
        day.api.go_away()
        day.tick(90)
        day.api.come_back()
        assert day.tick(91).name == "Degraded"

    def test_away_at_the_end_of_the_day_it_is_waited_for_and_then_blind(self, day: Day) -> None:
        day.begin()
        day.tick(100)
        day.api.go_away()
        state = day.tick(BUCKETS)
        assert "ended" not in day.names, state.message
        day.at(BUCKETS, 3600 * 7)
        state = day.sweep()
        assert day.end.verdict == "blind"
        assert state.is_failed()

    def test_away_from_the_beginning_it_is_never_healthy(self, day: Day) -> None:
        day.begin()
        day.api.go_away()
        day.tick(20)
        assert day.newest.verdict == "blind"
        day.at(BUCKETS, 3600 * 7)
        day.sweep()
        assert day.end.verdict == "blind"

    def test_a_metric_that_is_called_otherwise_now_is_blind(self, day: Day) -> None:
        day.begin()
        day.requests[:] = np.nan
        state = day.tick(30)
        assert state.name == "Blind", state.message
        assert "was a metric renamed" in state.message
        assert day.tick(BUCKETS).name == "Blind"

    def test_three_requests_an_hour_are_insufficient(self, day: Day) -> None:
        day.requests[:], day.errors[:], day.slow[:] = 0.25, 0, 0
        day.before = (0.25, 0.0, 0.0)
        day.begin()
        assert day.tick(BUCKETS).name == "Insufficient"

    def test_traffic_that_collapses_is_a_warning(self, day: Day) -> None:
        day.begin()
        for one in (day.requests, day.errors, day.slow):
            one[50:] *= 0.05
        state = day.tick(70)
        assert state.is_completed()
        assert any(one.text.startswith("traffic: ") for one in day.newest.findings)

    def test_without_prometheus_nothing_is_healthy(self, day: Day) -> None:
        del day.stage.settings["release"]["gates"]["prometheus_url"]
        day.begin()
        assert day.tick(20).is_completed()
        state = day.tick(BUCKETS)
        assert state.name == "Insufficient"
        assert "nothing is counted" in state.message


@pytest.fixture
def public(day: Day) -> Iterator[PrometheusApi]:
    """The public address, which the watch asks; it may go away."""
    api = PrometheusApi()
    api.always = (200, "well", {})
    day.stage.settings["watch"]["probes"] = {"url": api.address, "paths": ["/ready"], "timeout_seconds": 10}
    day.stage.settings["watch"]["policy"] = "roll-back"
    yield api
    api.go_away()


@pytest.mark.services
class TestNotSeen:
    def test_a_public_address_that_refuses_all_day_is_told_and_no_pass(self, day: Day, public: PrometheusApi) -> None:
        day.begin()
        public.go_away()
        assert day.tick(1).is_completed()
        state = day.tick(8)
        assert (state.name, state.is_failed()) == ("Suspect", True), state.message
        assert "nobody outside gets an answer since" in state.message
        assert day.tick(9).is_completed()
        state = day.tick(BUCKETS)
        assert (state.name, state.is_failed()) == ("Insufficient", True), state.message
        assert "NO PASS: what was counted is not all that users had: from outside: GET" in state.message
        assert "without an answer from outside, as told at" in state.message
        assert (day.end.verdict, day.runs_of("rollback")) == ("insufficient", [])

    def test_one_that_refused_before_the_release_is_no_pass_and_no_suspicion(
        self, day: Day, public: PrometheusApi
    ) -> None:
        public.go_away()
        day.begin()
        for bucket in (1, 8, 20):
            assert day.tick(bucket).is_completed()
        state = day.tick(BUCKETS)
        assert state.name == "Insufficient", state.message
        assert "in 4 of 4 looks (and before the release, too: no answer: ConnectError" in state.message

    def test_one_that_answers_is_a_pass(self, day: Day, public: PrometheusApi) -> None:
        day.begin()
        assert day.tick(1).is_completed()
        assert day.tick(BUCKETS).name == "Healthy"
        assert public.asked

    @pytest.mark.parametrize("changed", [{}, {"metrics": False}])
    def test_prometheus_that_somebody_took_out_of_the_file_is_told_as_blind(
        self, day: Day, changed: dict[str, bool]
    ) -> None:
        day.begin()
        gates = day.stage.settings["release"]["gates"]
        day.stage.settings["release"]["gates"] = gates | changed if changed else {"minimum_requests": 10}
        day.stage.write()
        assert day.tick(3).is_completed()
        state = day.tick(6)
        assert (state.name, state.is_failed()) == ("Blind", True), state.message
        assert "nothing is counted: release.gates.prometheus_url is empty" in state.message
        assert day.tick(7).is_completed()
        assert day.tick(BUCKETS).name == "Blind"

    def test_pods_that_prometheus_does_not_scrape_are_told_and_no_pass(self, day: Day) -> None:
        day.scraped = 1
        day.begin()
        assert day.tick(1).is_completed()
        assert any("1 of 2 ready Pods" in one.text for one in day.newest.findings), day.newest.findings
        state = day.tick(8)
        assert (state.name, state.is_failed()) == ("Blind", True), state.message
        assert "the observer sees only a part of the requests since" in state.message
        assert day.tick(9).is_completed()
        day.scraped = 2
        assert day.tick(10).is_completed()
        state = day.tick(BUCKETS)
        assert state.name == "Insufficient", state.message
        assert "of the new version's Pods were not scraped" in state.message


@pytest.mark.services
class TestTheNextRelease:
    def test_another_release_ends_the_watch_as_superseded(self, day: Day) -> None:
        day.begin()
        day.tick(20)
        first = day.release_id
        day.begin("v3", commit="3" * 40)
        second = day.release_id
        assert len(day.runs_of("post-deploy-watch")) == 3
        day.release_id = first
        state = day.tick(21)
        assert (state.name, state.is_completed()) == ("Superseded", True), state.message
        assert (day.end.how, day.end.verdict) == ("superseded", "superseded")
        assert day.schedules() == [f"watch-{second}"]
        assert day.runs_of("watch-sign-off") == []

    def test_what_its_last_look_found_is_not_hidden_by_its_end(self, day: Day) -> None:
        day.begin()
        worse(day, begin=0)
        day.tick(0, 10)
        first = day.release_id
        day.begin("v3", commit="3" * 40)
        day.release_id = first
        day.stop_after(20)
        state = day.tick(21)
        assert (state.name, state.is_failed()) == ("Degraded", True), state.message
        assert "it is not live any more" in state.message

    def test_back_on_a_release_whose_watch_ended_it_is_said_that_nobody_watches(self, day: Day) -> None:
        day.begin()
        first = day.release_id
        day.begin("v3", commit="3" * 40)
        second = day.release_id
        day.release_id = first
        assert day.tick(1).name == "Superseded"
        day.release_id = second
        assert day.stage.run_rollback("it is worse").is_completed()
        day.tick(1)
        state = day.sweep()
        assert state.is_failed()
        assert f"{first} is live again, and its watch ended" in state.message
        assert day.sweep().is_completed()

    def test_a_release_that_went_back_by_itself_is_not_watched(self, day: Day) -> None:
        state = day.begin_badly()
        assert state.name == "RolledBack"
        assert day.schedules() == []


@pytest.mark.services
class TestSweep:
    def test_with_nothing_to_do_it_says_so(self, day: Day) -> None:
        day.stage.write()
        state = day.sweep()
        assert (state.is_completed(), state.message) == (True, "no watch goes on")

    def test_a_watch_that_stood_still_is_told_and_caught_up(self, day: Day) -> None:
        day.begin()
        day.tick(5)
        day.at(30)
        state = day.sweep()
        assert state.is_failed()
        assert "stood still since" in state.message
        assert (day.newest.closed, day.newest.known) == (30, 30)

    def test_a_watch_that_was_never_begun_is(self, day: Day) -> None:
        del day.stage.settings["watch"]
        state = day.stage.release("v2")
        assert state.is_completed()
        day.stage.settings["watch"] = {}
        day.stage.write()
        day.now = datetime.now(UTC)
        state = day.sweep()
        assert state.is_failed()
        assert "was missing: begun now" in state.message
        assert len(day.schedules()) == 1

    def test_a_schedule_that_somebody_removed_is_made_again(self, day: Day) -> None:
        day.begin()
        remove_schedule("stage", day.release_id)
        day.at(2)
        assert day.sweep().is_completed()
        assert day.schedules() == [f"watch-{day.release_id}"]

    def test_a_sign_off_that_nobody_gives_is_reminded_of(self, day: Day) -> None:
        day.begin()
        day.tick(BUCKETS)
        day.now = day.end.at + timedelta(days=3, minutes=1)
        state = day.sweep()
        assert state.is_failed()
        assert "nobody signed off" in state.message
        assert len(day.runs_of("watch-sign-off")) == 2
        assert day.sweep().is_completed()
        day.now += timedelta(days=3)
        assert day.sweep().is_failed()


@pytest.mark.services
class TestDamage:
    def test_a_signed_object_under_another_name_is_a_forgery(self, day: Day) -> None:
        day.begin()
        day.tick(1)
        day.tick(2)
        store = ObjectStore.open(day.stage.environment)
        folder = watch_folder(day.stage.environment.prefix, day.release_id)
        store.put(f"{folder}tick-999-999.json", store.get(f"{folder}tick-001-001.json"))
        state = day.tick(3)
        assert state.is_failed()
        assert "it is a copy of tick-001-001" in state.message

    def test_a_record_that_somebody_changed_stops_the_watch_and_is_named(self, day: Day) -> None:
        day.begin()
        day.tick(1)
        store = ObjectStore.open(day.stage.environment)
        key = f"{watch_folder(day.stage.environment.prefix, day.release_id)}tick-001-001.json"
        store.put(key, store.get(key).replace(b'"closed":1', b'"closed":2'))
        state = day.tick(2)
        assert state.is_failed()
        assert "verify the watch's tick-001-001" in state.message

    def test_a_junk_end_does_not_silence_the_sweep(self, day: Day) -> None:
        day.stage.settings["watch"]["sign_off"] = False
        day.begin()
        day.tick(1)
        store = ObjectStore.open(day.stage.environment)
        store.put(f"{watch_folder(day.stage.environment.prefix, day.release_id)}ended.json", b"{}")
        state = day.sweep()
        assert state.is_failed(), state.message
        assert "verify the watch's ended" in state.message

    def test_junk_of_an_older_release_keeps_no_other_watch_from_being_looked_at(self, day: Day) -> None:
        day.begin()
        first = day.release_id
        day.tick(BUCKETS)
        store, folder = ObjectStore.open(day.stage.environment), day.stage.environment.prefix
        store.put(f"{watch_folder(folder, first)}ended.json", b"{}")
        day.begin("v3", commit="3" * 40)
        second = day.release_id
        day.at(30)
        state = day.sweep()
        assert state.is_failed()
        assert f"{first}: could not verify the watch's ended" in str(state.message)
        assert (day.newest.closed, day.newest.known) == (30, 30)
        # That a file is there signs nothing off.
        store.put(f"{watch_folder(folder, first)}signed-off.json", b"{}")
        store.put(f"{watch_folder(folder, 'r-0123456789ab')}watch.json", b"{}")
        day.at(40)
        state = day.sweep()
        for told in ("r-0123456789ab: ", f"{second}: ", f"{first}: could not verify the watch's signed-off"):
            assert told in str(state.message), state.message
        assert (day.newest.closed, day.newest.known) == (40, 40)

    def test_a_release_without_a_watch_is_named(self, day: Day) -> None:
        day.stage.write()
        state = post_deploy_watch("stage", "r-0123456789ab", return_state=True)
        assert state.is_failed()
        assert "no watch of it was begun" in state.message

    def test_without_a_table_watch_a_release_says_that_nobody_watches(self, day: Day) -> None:
        del day.stage.settings["watch"]
        state = day.stage.release("v2")
        assert state.is_completed()
        (report,) = day.stage.reports()
        assert any("nobody watches" in one.text for step in report.steps for one in step.findings)
        state = post_deploy_watch("stage", return_state=True)
        assert state.is_failed()
        assert "no table [watch]" in state.message


def interrupted(*_arguments: object, **_named: object) -> None:
    """Stands for a kill: no line of ours runs after it."""
    raise KeyboardInterrupt


def look_once(day: Day) -> Judgement:
    """What is said of the whole day by who looks at its end alone."""
    counted = count(day.stand_anew(), day.newest_replica_sets, day.at(BUCKETS))
    return judged(day.stand_anew(), counted)
