"""What `nightshift check` says of the table [watch] before a release: whether a watch could ever say something, and act where it is to."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from core.checks import Check
from core.environment_gates import Gates
from core.environment_watch import Incident, Watch
from core.watch_counts import BUCKETS
from core.watch_cut_outs import cut_outs
from core.watch_days import LAG_DAYS, YOUNG_LAG_DAYS, counterparts, first_bucket

POLICY, DAYS, PROMETHEUS, REQUESTS = (
    "watch: policy",
    "watch: days to compare with",
    "watch: Prometheus",
    "watch: requests",
)
# Fewer usable weeks: the days before are compared with; and below four nothing is sent back (docs/watch.md).
_LEAST_WEEKS, _ALL_WEEKS = 2, len(LAG_DAYS)
# As Prometheus writes a duration (prometheus/common, model.Duration.String): 5w, 15d, 1h30m.
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_SECONDS = (365 * 86400, 7 * 86400, 86400, 3600, 60, 1, 0.001)
# A series is looked for six hours further back (core.watch_queries).
_EARLIER = timedelta(hours=6)


def policy_check(watch: Watch, gates: Gates) -> Check:
    """Given the tables [watch] and [release.gates], return whether what the file asks for can come about."""
    lacking = ""
    if gates.prometheus_url is None:
        lacking = "release.gates.prometheus_url is empty"
    elif not gates.metrics:
        lacking = "release.gates.metrics is false"
    if not lacking:
        return Check(name=POLICY, state="passed", found=f"{watch.policy}; requests are counted")
    if watch.policy == "roll-back":
        found = f"roll-back, and {lacking}: nothing is counted, so that a crash loop alone sends a release back"
        return Check(name=POLICY, state="failed", found=found, next_step='Give prometheus_url, or set policy = "alert"')
    found = f"{lacking}: nothing is counted, and no watch ends healthy"
    return Check(name=POLICY, state="warning", found=found, next_step="Give release.gates.prometheus_url")


def days_check(watch: Watch, now: datetime, zone: ZoneInfo) -> Check:
    """Given [watch], the time (aware) and the environment's time zone, return how many days its incidents leave to a release of now."""
    weeks = _days_left(watch.incidents, LAG_DAYS, now, zone)
    if weeks == _ALL_WEEKS:
        return Check(name=DAYS, state="passed", found="no incident takes one of the four weeks away")
    mend = "Make the times of [[watch.incidents]] shorter: only what was no guide"
    if weeks >= _LEAST_WEEKS:
        found = f"[[watch.incidents]] leave {weeks} of four weeks: what looks worse is told, and nothing is sent back"
        return Check(name=DAYS, state="warning", found=found, next_step=mend)
    young = _days_left(watch.incidents, YOUNG_LAG_DAYS, now, zone)
    if max(weeks, young) >= _LEAST_WEEKS:
        found = f"[[watch.incidents]] leave {weeks} of four weeks: the {young} days before are compared with, and nothing is sent back"
        return Check(name=DAYS, state="warning", found=found, next_step=mend)
    found = f"[[watch.incidents]] leave {weeks} of four weeks and {young} of the four days before: a release of now is compared with nothing, and no watch ends healthy"
    return Check(name=DAYS, state="failed", found=found, next_step=mend)


def retention_check(watch: Watch, told: str | None) -> Check:
    """Given [watch] and how long Prometheus keeps what it has, in its own words (None: it does not say), return whether that is enough for four weeks."""
    kept = None if told is None else retention_of(told)
    if kept is None:
        why = "does not say how long it keeps what it has" if told is None else f"keeps {told}: bounded by size alone"
        return Check(name=PROMETHEUS, state="passed", found=f"it answers, and {why}")
    weeks = sum(kept >= timedelta(days=lag) + _EARLIER for lag in LAG_DAYS)
    if weeks == _ALL_WEEKS:
        return Check(name=PROMETHEUS, state="passed", found=f"it answers, and keeps {told}")
    # Where weeks are too few, a watch goes by the days before.
    compared = f"{weeks} weeks" if weeks >= _LEAST_WEEKS else "the days before"
    found = f"it keeps {told}: a release is compared with {compared}, not with four weeks, so that nothing is sent back by its requests"
    state = "failed" if watch.policy == "roll-back" else "warning"
    return Check(
        name=PROMETHEUS, state=state, found=found, next_step="Start Prometheus with --storage.tsdb.retention.time=35d"
    )


def retention_of(told: str) -> timedelta | None:
    """Given storageRetention of /api/v1/status/runtimeinfo (`15d`, `5w or 512MB`), return the time; None when there is none."""
    found = _DURATION.fullmatch(told.partition(" or ")[0].strip())
    if found is None or not any(found.groups()):
        return None
    seconds = sum(int(number) * each for number, each in zip(found.groups("0"), _SECONDS, strict=True))
    return timedelta(seconds=seconds) if seconds else None


def requests_check(watch: Watch, lacking: Sequence[str], weeks: Collection[int]) -> Check:
    """Given which queries answer nothing now, in sentences, and how many days before Prometheus has requests at this time of day, return whether a watch could count."""
    if lacking:
        next_step = "Look at requests, durations, error_label and targets of [release.gates]: nightshift asks Prometheus by them"
        return Check(name=REQUESTS, state="warning", found="; ".join(lacking), next_step=next_step)
    missing = [lag for lag in LAG_DAYS if lag not in weeks]
    if not missing:
        return Check(name=REQUESTS, state="passed", found="counted now, and at this time of the last four weeks")
    found = f"counted now; Prometheus has none at this time of day {', '.join(map(str, missing))} days ago"
    what = "nothing is sent back" if watch.policy == "roll-back" else "a watch tells less"
    return Check(name=REQUESTS, state="warning", found=f"{found}: while it is so, {what}")


def _days_left(incidents: Sequence[Incident], lags: Sequence[int], now: datetime, zone: ZoneInfo) -> int:
    """Of how many of these days half the buckets or more are not cut out."""
    holes = cut_outs((), incidents)
    days = (counterparts(first_bucket(now), lag, zone, holes) for lag in lags)
    return sum(2 * sum(one is not None for one in day) >= BUCKETS for day in days)
