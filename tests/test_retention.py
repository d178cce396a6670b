"""Retention over its whole space: random catalogues, policies, zones and times."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.backup_id import make_backup_id
from core.catalogue import USABLE, CatalogueEntry, State
from core.environment import Retention
from core.retention import Plan, plan_retention, protect

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe")


def entry(time: datetime, state: State = "decoded", suffix: int = 0) -> CatalogueEntry:
    return CatalogueEntry(make_backup_id(time, suffix.to_bytes(4, "big")), state, 1, int(time.timestamp()), ())


def nightly(count: int, state: State = "decoded", now: datetime = NOON) -> list[CatalogueEntry]:
    return [entry(now - timedelta(days=days), state) for days in reversed(range(count))]


def reason(plan: Plan, backup: CatalogueEntry) -> str:
    return next(d.reason for d in plan.decisions if d.backup_id == backup.backup_id)


def kept(plan: Plan, backup: CatalogueEntry) -> bool:
    return backup.backup_id in set(plan.kept)


policies = st.builds(
    Retention,
    days=st.integers(1, 60),
    minimum_keep=st.integers(1, 12),
    keep_daily=st.integers(0, 10),
    keep_weekly=st.integers(0, 8),
    keep_monthly=st.integers(0, 6),
)
zones = st.sampled_from(ZONES).map(ZoneInfo)
# Times around both daylight saving changes of 2026 are as likely as all others together.
instants = st.one_of(
    st.integers(0, 300 * 86400).map(lambda seconds: NOON - timedelta(seconds=seconds)),
    st.integers(-90_000, 90_000).map(lambda s: datetime(2026, 10, 25, 1, tzinfo=UTC) + timedelta(seconds=s)),
    st.integers(-90_000, 90_000).map(lambda s: datetime(2026, 3, 29, 1, tzinfo=UTC) + timedelta(seconds=s)),
)
states = st.sampled_from(["incomplete", "uploaded", "decoded", "proven"])
catalogues = st.lists(st.tuples(instants, states), max_size=60).map(
    lambda items: [entry(time, state, number) for number, (time, state) in enumerate(items)]
)


@given(catalogues, policies, zones)
def test_every_backup_is_decided_exactly_once(entries, policy, zone):
    plan = plan_retention(entries, policy, NOON, zone)
    with_manifest = sorted(e.backup_id for e in entries if e.state != "incomplete")
    assert [d.backup_id for d in plan.decisions] == with_manifest
    assert sorted([*plan.kept, *plan.deleted]) == with_manifest
    assert all(d.reason for d in plan.decisions)


@given(catalogues, policies, zones)
def test_the_newest_proven_or_else_the_newest_decoded_is_always_kept(entries, policy, zone):
    plan = plan_retention(entries, policy, NOON, zone)
    proven = sorted(e.backup_id for e in entries if e.state == "proven")
    decoded = sorted(e.backup_id for e in entries if e.state == "decoded")
    best = (proven or decoded)[-1:]
    assert set(best) <= set(plan.kept)


@given(catalogues, policies, zones)
def test_the_minimum_is_kept_in_usable_backups_and_in_all(entries, policy, zone):
    plan = plan_retention(entries, policy, NOON, zone)
    left = set(plan.kept)
    usable = {e.backup_id for e in entries if e.state in USABLE}
    backups = {e.backup_id for e in entries if e.state != "incomplete"}
    assert len(left & usable) >= min(policy.minimum_keep, len(usable))
    assert len(left) >= min(policy.minimum_keep, len(backups))


@given(catalogues, policies, zones)
def test_nothing_younger_than_the_age_is_deleted(entries, policy, zone):
    by_id = {e.backup_id: e for e in entries}
    plan = plan_retention(entries, policy, NOON, zone)
    assert all(NOON - by_id[i].snapshot_time >= timedelta(days=policy.days) for i in plan.deleted)


@given(catalogues, policies, zones)
def test_every_old_backup_that_nothing_protects_is_deleted(entries, policy, zone):
    plan = plan_retention(entries, policy, NOON, zone)
    if not plan.refusal:
        protected = protect(entries, policy, zone).reasons
        for e in entries:
            if e.state != "incomplete" and NOON - e.snapshot_time >= timedelta(days=policy.days):
                assert kept(plan, e) == (e.backup_id in protected)


@given(catalogues, policies, zones, st.integers(0, 400 * 86400))
def test_an_earlier_time_deletes_no_more(entries, policy, zone, seconds):
    later = set(plan_retention(entries, policy, NOON, zone).deleted)
    earlier = set(plan_retention(entries, policy, NOON - timedelta(seconds=seconds), zone).deleted)
    assert earlier <= later


@given(catalogues, policies, zones)
def test_planning_again_after_the_plan_was_carried_out_deletes_nothing(entries, policy, zone):
    left = set(plan_retention(entries, policy, NOON, zone).kept)
    again = plan_retention([e for e in entries if e.backup_id in left], policy, NOON, zone)
    assert list(again.deleted) == []


@given(catalogues, policies, zones, st.randoms(use_true_random=False))
def test_the_order_of_the_entries_does_not_matter(entries, policy, zone, random):
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert plan_retention(shuffled, policy, NOON, zone) == plan_retention(entries, policy, NOON, zone)


@given(catalogues, policies, zones, st.data())
def test_what_was_found_to_be_forged_neither_protects_nor_is_deleted(entries, policy, zone, data):
    usable = [e.backup_id for e in entries if e.state in USABLE]
    bad = data.draw(st.lists(st.sampled_from(usable), unique=True)) if usable else []
    worth = {i: data.draw(st.sampled_from(["incomplete", "uploaded"])) for i in bad}
    plan = plan_retention(entries, policy, NOON, zone, worth=worth)
    good = set(usable) - set(bad)
    assert set(bad) <= set(plan.kept)
    assert len(set(plan.kept) & good) >= min(policy.minimum_keep, len(good))
    assert not set(protect(entries, policy, zone, worth).reasons) & set(bad)


@given(catalogues, policies, zones, st.integers(301, 90 * 86400))
def test_a_snapshot_in_the_future_stops_every_deletion(entries, policy, zone, seconds):
    future = entry(NOON + timedelta(seconds=seconds), "uploaded", 9999)
    plan = plan_retention([*entries, future], policy, NOON, zone)
    assert list(plan.deleted) == []
    assert future.backup_id in plan.refusal


@given(catalogues, policies, zones, st.integers(0, 3650))
def test_a_clock_that_jumps_ahead_still_leaves_the_minimum(entries, policy, zone, days):
    plan = plan_retention(entries, policy, NOON + timedelta(days=days), zone)
    usable = {e.backup_id for e in entries if e.state in USABLE}
    assert len(set(plan.kept) & usable) >= min(policy.minimum_keep, len(usable))


def test_reasons_are_told_in_words():
    entries = nightly(45)
    entries[30] = entry(entries[30].snapshot_time, "proven")
    plan = plan_retention(entries, Retention(minimum_keep=7), NOON, BERLIN)
    assert reason(plan, entries[30]) == "newest proven"
    assert reason(plan, entries[-1]) == "younger than 30 days (0 days)"
    assert reason(plan, entries[-13]) == "younger than 30 days (12 days)"
    assert reason(plan, entries[14]) == "30 days old and not needed"
    assert list(plan.deleted) == [e.backup_id for e in entries[:15]]


def test_a_backup_goes_at_the_second_it_reaches_its_age_and_not_before():
    old = entry(NOON - timedelta(days=30), suffix=1)
    entries = [old, *nightly(10)]
    policy = Retention(days=30, minimum_keep=1)
    assert list(plan_retention(entries, policy, NOON - timedelta(microseconds=1), BERLIN).deleted) == []
    assert list(plan_retention(entries, policy, NOON, BERLIN).deleted) == [old.backup_id]


def test_age_is_a_duration_that_the_change_of_clocks_does_not_touch():
    # Clocks went back on 25 October: the same local time 30 days later is 30 days and one hour.
    taken = datetime(2026, 10, 10, 2, tzinfo=BERLIN)
    same_local_time = datetime(2026, 11, 9, 2, tzinfo=BERLIN)
    entries = [entry(taken), entry(same_local_time - timedelta(days=1), suffix=1)]
    policy = Retention(days=30, minimum_keep=1)
    an_hour_before = same_local_time.astimezone(UTC) - timedelta(hours=1)
    assert list(plan_retention(entries, policy, an_hour_before, BERLIN).deleted) == [entries[0].backup_id]
    assert list(plan_retention(entries, policy, an_hour_before - timedelta(seconds=1), BERLIN).deleted) == []


def test_while_nothing_is_proven_the_newest_decoded_is_kept_though_uploaded_ones_are_newer():
    decoded = entry(NOON - timedelta(days=90), "decoded")
    plan = plan_retention([decoded, *nightly(40, "uploaded")], Retention(days=1, minimum_keep=1), NOON, BERLIN)
    assert reason(plan, decoded) == "newest decoded, while none is proven"


def test_backups_that_were_never_decoded_do_not_push_usable_ones_out():
    usable = [entry(NOON - timedelta(days=100 + n)) for n in range(3)]
    plan = plan_retention([*usable, *nightly(40, "uploaded")], Retention(days=10, minimum_keep=3), NOON, BERLIN)
    assert all(kept(plan, e) for e in usable)
    assert sum(1 for _ in plan.deleted) == 30


def test_nothing_is_deleted_while_no_backup_is_known_to_be_good():
    plan = plan_retention(nightly(90, "uploaded"), Retention(days=1, minimum_keep=1), NOON, BERLIN)
    assert list(plan.deleted) == []
    assert "none is known to be good" in plan.refusal


def test_a_pin_is_kept_whatever_its_age():
    entries = nightly(60)
    policy = Retention(days=5, minimum_keep=1, pins=(entries[0].backup_id,))
    plan = plan_retention(entries, policy, NOON, BERLIN)
    assert reason(plan, entries[0]) == "pinned"
    assert not kept(plan, entries[1])


def test_weeks_and_months_end_in_the_environments_zone():
    # 31 October 23:30 UTC is 1 November in Berlin: the month's newest there, not October's.
    halloween = entry(datetime(2026, 10, 31, 23, 30, tzinfo=UTC))
    before = entry(datetime(2026, 10, 31, 22, 30, tzinfo=UTC))
    policy = Retention(days=1, minimum_keep=1, keep_monthly=2)
    newest = entry(NOON, "proven")
    berlin = plan_retention([before, halloween, newest], policy, NOON, BERLIN)
    assert reason(berlin, before) == "monthly: newest of 2026-10"
    assert not kept(berlin, halloween)
    utc = plan_retention([before, halloween, newest], policy, NOON, ZoneInfo("UTC"))
    assert reason(utc, halloween) == "monthly: newest of 2026-10"
    assert not kept(utc, before)


def test_the_iso_week_of_new_year_is_named_with_its_iso_year():
    old = entry(datetime(2027, 1, 3, 12, tzinfo=UTC))
    newest = entry(datetime(2027, 3, 1, 12, tzinfo=UTC), "proven")
    plan = plan_retention(
        [old, newest], Retention(minimum_keep=1, keep_weekly=2), datetime(2027, 3, 1, 13, tzinfo=UTC), BERLIN
    )
    assert reason(plan, old) == "weekly: newest of 2026-W53"


def test_generations_count_only_usable_backups():
    good = entry(NOON - timedelta(days=40, hours=5))
    unread = entry(NOON - timedelta(days=40), "uploaded", 1)
    policy = Retention(days=5, minimum_keep=1, keep_daily=2)
    plan = plan_retention([good, unread, entry(NOON)], policy, NOON, BERLIN)
    assert kept(plan, good)
    assert not kept(plan, unread)


def test_a_day_that_the_clock_leaves_and_enters_again_counts_once():
    # Newfoundland put its clocks back at 00:01 until 2011: Saturday, one minute of Sunday, Saturday again, Sunday.
    back = datetime(2010, 11, 7, 2, 31, tzinfo=UTC)
    times = [
        back - timedelta(days=5),
        back - timedelta(seconds=30),
        back + timedelta(minutes=30),
        back + timedelta(hours=3),
    ]
    entries = [entry(time, suffix=number) for number, time in enumerate(times)]
    policy = Retention(days=1, minimum_keep=1, keep_daily=3)
    plan = plan_retention(entries, policy, NOON, ZoneInfo("America/St_Johns"))
    assert list(plan.kept) == [entries[n].backup_id for n in (0, 2, 3)]


def test_a_naive_time_and_a_backup_that_comes_twice_are_refused():
    with pytest.raises(ValueError, match="time zone"):
        plan_retention([], Retention(), NOON.replace(tzinfo=None), BERLIN)
    with pytest.raises(ValueError, match="twice"):
        plan_retention([entry(NOON), entry(NOON)], Retention(), NOON, BERLIN)
