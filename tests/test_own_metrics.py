"""From what was read to samples: names, labels, what is not known; and the rule by which a bucket is read again."""

import math
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from core.drill_trend import DrillPoint
from core.environment import Objectives
from core.errors import TemporaryError
from core.evidence import Verdict as RunVerdict
from core.own_metrics import (
    METRICS,
    ClosedFacts,
    DatabaseFacts,
    EnvironmentFacts,
    NewestBackup,
    Unread,
    families,
)
from core.own_metrics_watches import WATCH_STATES, WATCH_VERDICTS, OpenWatch
from core.own_runs import FLOWS, Run, chain_problems, last_runs, last_successes, open_since
from core.release_journal import Outcome
from core.watch_standing import State as WatchState
from core.watch_verdict import Verdict as WatchVerdict
from tasks.metrics_registry import KEPT_SECONDS, REFRESH_SECONDS, Found, Refreshed, look_at_all, registry_of
from tests.fix_metrics import told, value
from tests.waiting import wait_until

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)
UNITS = ("_seconds", "_bytes", "_info", "_timestamp_seconds")
COUNTS = {"nightshift_up", "nightshift_backups", "nightshift_backup_rows", "nightshift_evidence_reports", "nightshift_releases_open",
          "nightshift_distrusted_objects", "nightshift_recent_releases", "nightshift_recent_watches",
          "nightshift_watches_open", "nightshift_watches_open_troubled"}  # fmt: skip
ONE_OF = re.compile(r"_(verdict|outcome)$")


def a_run(sequence: int, flow: str = "nightly-backup", **more: object) -> Run:
    """A run of an hour's number; each report knows the one before."""
    fields: dict[str, object] = {
        "sequence": sequence,
        "sha256": f"sha {sequence}",
        "previous_sha256": f"sha {sequence - 1}" if sequence > 1 else None,
        "flow": flow,
        "started": NOW + timedelta(hours=sequence),
        "finished": NOW + timedelta(hours=sequence, minutes=5),
        "verdict": "passed",
        "dry_run": False,
        "failed": {"app": False},
        "began": frozenset(),
        "drills": (),
    }
    return Run(**{**fields, **more})  # type: ignore[arg-type]


TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SIZES = st.integers(0, 2**60)
NAMES = st.sampled_from(["app", "billing", "a-b_c"])
RUNS = st.builds(
    Run,
    sequence=st.integers(1, 10**6),
    sha256=st.just(""),
    previous_sha256=st.none(),
    flow=st.sampled_from(sorted(FLOWS)),
    started=TIMES,
    finished=TIMES,
    verdict=st.sampled_from(get_args(RunVerdict)),
    dry_run=st.booleans(),
    failed=st.dictionaries(NAMES, st.booleans()),
    began=st.just(frozenset()),
    drills=st.lists(
        st.builds(
            DrillPoint,
            time=TIMES,
            database=NAMES,
            backup_id=st.just("b"),
            server=st.just("s"),
            phases=st.dictionaries(st.sampled_from(["fetch", "restore"]), SIZES),
            plain_bytes=SIZES,
            outcome=st.sampled_from(["proven", "failed"]),
            indicative=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
)
FACTS = st.builds(
    EnvironmentFacts,
    environment=st.just("local"),
    read_at=TIMES,
    read_seconds=st.floats(0, 100),
    objectives=st.builds(
        Objectives,
        recovery_point_hours=st.integers(1, 100),
        restore_minutes=st.integers(0, 9),
        proof_age_hours=st.integers(0, 9),
    ),
    databases=st.lists(
        st.builds(
            DatabaseFacts,
            database=NAMES,
            backups=st.dictionaries(st.sampled_from(["decoded", "proven"]), SIZES),
            recovery_point=st.none() | TIMES,
            proof=st.none() | TIMES,
            newest=st.none()
            | st.builds(
                NewestBackup,
                stored_bytes=SIZES,
                plain_bytes=SIZES,
                rows=st.none() | SIZES,
                duration=st.timedeltas(timedelta(0), timedelta(days=9)),
            ),
        ),
        max_size=3,
        unique_by=lambda one: one.database,
    ).map(tuple),
    runs=st.lists(RUNS, max_size=6, unique_by=lambda one: one.sequence).map(tuple),
    closed=st.lists(
        st.builds(
            ClosedFacts,
            release_id=st.just("r"),
            kind=st.sampled_from(["release", "rollback"]),
            outcome=st.sampled_from(get_args(Outcome)),
            began=st.none() | TIMES,
            at=TIMES,
        ),
        max_size=4,
    ).map(tuple),
    open_releases=st.lists(TIMES, max_size=2).map(tuple),
    open_watches=st.lists(
        st.builds(
            OpenWatch,
            began=TIMES,
            looked=st.none() | TIMES,
            states=st.lists(st.sampled_from(WATCH_STATES), unique=True).map(tuple),
            blind_since=st.none() | TIMES,
        ),
        max_size=2,
    ).map(tuple),
)


@given(FACTS)
def test_whatever_is_read_makes_a_page_that_open_metrics_takes_with_no_sample_twice(facts: EnvironmentFacts) -> None:
    pages: list[Found] = [facts, Unread("other")]
    page = open_metrics(registry_of(lambda: pages)).decode()
    seen = [
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]
    assert len({(name, labels) for name, labels, _ in seen}) == len(seen)
    assert all(math.isfinite(number) for _, _, number in seen)
    assert {name for name, labels, _ in seen if ("environment", "other") in labels} == {"nightshift_up"}


def test_each_name_tells_its_unit() -> None:
    for name, (_, labels) in METRICS.items():
        assert re.fullmatch(r"nightshift_[a-z0-9_]+", name)
        assert name.endswith(UNITS) or name in COUNTS or ONE_OF.search(name), name
        assert not name.endswith(("_total", "_count", "_sum", "_bucket")), "a gauge is none of these"
        assert set(labels) <= {"database", "state", "flow", "verdict", "phase", "kind", "outcome", "version"}


def test_the_verdicts_of_a_watch_are_those_of_a_watch() -> None:
    assert get_args(WatchVerdict) == WATCH_VERDICTS
    assert get_args(WatchState) == WATCH_STATES


def test_every_sample_has_the_labels_of_its_metric() -> None:
    for family in families([facts_of(a_run(1))], "1.0", NOW):
        assert all(len(labels) == len(family.labels) for labels, _ in family.samples), family.name


def facts_of(*runs: Run) -> EnvironmentFacts:
    database = DatabaseFacts("app", {"decoded": 1}, NOW, None, None)
    return EnvironmentFacts("local", NOW, 0.1, Objectives(), (database,), len(runs), runs)


def test_a_failed_run_leaves_the_success_before_it() -> None:
    good, bad = a_run(1), a_run(2, failed={"app": True}, verdict="failed")
    assert last_runs([bad, good])["nightly-backup"] == bad
    assert last_successes([bad, good], ["app"]) == {("nightly-backup", "app"): good.finished}


def test_a_backup_of_one_database_is_no_success_of_another() -> None:
    both, one = a_run(1, failed={"app": False, "billing": False}), a_run(2, failed={"app": False, "billing": True})
    found = last_successes([both, one, a_run(3)], ["app", "billing"])
    assert found["nightly-backup", "app"] == a_run(3).finished
    assert found["nightly-backup", "billing"] == both.finished


def test_a_dry_run_is_neither_a_run_nor_a_success() -> None:
    dry = a_run(2, "release", dry_run=True, failed={"r-1": False})
    assert last_runs([dry]) == {}
    assert last_successes([dry], ["app"]) == {}
    wet = replace(dry, dry_run=False)
    assert last_successes([wet], ["app"]) == {("release", ""): wet.finished}


def test_a_release_is_refused_only_when_a_run_tells_of_it_and_none_began_it() -> None:
    told_of = a_run(1, "release", failed={"r-1": True})
    assert open_since([told_of], "r-1", NOW) is None
    assert open_since([told_of], "r-2", NOW) == NOW
    assert open_since([replace(told_of, began=frozenset({"r-1"}))], "r-1", NOW) == NOW
    recovered = a_run(2, "release-recovery", failed={"r-1": True}, began=frozenset({"r-1"}))
    assert open_since([told_of, recovered], "r-1", NOW) == NOW


def test_a_release_whose_plan_each_sweep_writes_anew_does_not_grow_younger() -> None:
    killed = a_run(1, "release-recovery", failed={"r-1": True}, began=frozenset({"r-1"}))
    again = replace(killed, sequence=2, started=killed.started + timedelta(hours=1))
    assert open_since([killed, again], "r-1", killed.started + timedelta(hours=9)) == killed.started


@given(st.integers(1, 40), st.data())
def test_each_report_that_is_missing_or_unreadable_is_counted(length: int, data: st.DataObject) -> None:
    whole = [a_run(number) for number in range(1, length + 1)]
    assert chain_problems(whole, 0, 1, length) == 0
    gone = data.draw(st.sets(st.integers(1, length)))
    forged = data.draw(st.sets(st.sampled_from(sorted(gone)))) if gone else set()
    left = [run for run in whole if run.sequence not in gone]
    assert chain_problems(left, len(forged), 1, length) == len(gone)


def test_a_report_that_was_replaced_by_another_good_one_is_counted() -> None:
    assert chain_problems([a_run(1), replace(a_run(2), sha256="another"), a_run(3)], 0, 1, 3) == 1


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def refreshed(read: Callable[[], EnvironmentFacts]) -> tuple[Refreshed, Clock]:
    clock = Clock()
    return Refreshed("local", read, clock), clock


def test_a_bucket_is_read_again_after_a_minute_and_not_before() -> None:
    reads: list[EnvironmentFacts] = []

    def read() -> EnvironmentFacts:
        reads.append(facts_of())
        return reads[-1]

    one, clock = refreshed(read)
    assert look_at_all([one], 20) == [reads[0]]
    clock.seconds += REFRESH_SECONDS - 1
    assert look_at_all([one], 20) == [reads[0]]
    clock.seconds += 1
    assert look_at_all([one], 20) == [reads[1]]
    assert len(reads) == 2


def test_a_look_that_fails_leaves_nothing_of_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([facts_of()])

    def read() -> EnvironmentFacts:
        for one in answers:
            return one
        raise TemporaryError("list", "s3://b", "it is down")

    one, clock = refreshed(read)
    assert isinstance(look_at_all([one], 20)[0], EnvironmentFacts)
    clock.seconds += REFRESH_SECONDS
    assert look_at_all([one], 20) == [Unread("local")]
    assert "local: could not list (s3://b): it is down" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_of_ours_is_no_good_news_either() -> None:
    def read() -> EnvironmentFacts:
        raise ZeroDivisionError

    one, _ = refreshed(read)
    assert look_at_all([one], 20) == [Unread("local")]
    for thread in threading.enumerate():
        if thread.name == "read local":
            # What it raised is told only then.
            thread.join()


def test_while_a_slow_bucket_is_read_the_look_before_is_told_for_five_minutes_and_a_scrape_does_not_wait_for_it() -> (
    None
):
    go_on, reads = threading.Event(), []

    def read() -> EnvironmentFacts:
        reads.append(1)
        if len(reads) > 1:
            go_on.wait(20)
        return facts_of()

    one, clock = refreshed(read)
    (before,) = look_at_all([one], 20)
    clock.seconds += REFRESH_SECONDS
    assert look_at_all([one], 0) == [before]
    clock.seconds += KEPT_SECONDS
    assert look_at_all([one], 0) == [Unread("local")]
    assert len(reads) == 2, "never twice at once"
    go_on.set()
    wait_until(lambda: isinstance(look_at_all([one], 0)[0], EnvironmentFacts), "what was read at last is told")


def test_a_bucket_that_was_never_read_is_down_until_it_answers() -> None:
    go_on = threading.Event()

    def read() -> EnvironmentFacts:
        go_on.wait(20)
        return facts_of()

    one, _ = refreshed(read)
    assert look_at_all([one], 0) == [Unread("local")]
    go_on.set()
    assert isinstance(look_at_all([one], 20)[0], EnvironmentFacts)


def test_what_was_read_is_told_as_moments() -> None:
    """However late somebody looks: the page is the same, and the age is his clock's."""
    page = open_metrics(registry_of(lambda: [facts_of(a_run(1))])).decode()
    found = told(page.replace("# EOF\n", ""))
    assert value(found, "recovery_point_timestamp_seconds", environment="local", database="app") == NOW.timestamp()
    assert not any("age" in name for name, _ in found)
