"""What a watch says of a release, of all that it saw so far: a pure function, so that a day that is replayed gives the same.

| verdict | means |
|---|---|
| degraded | a signal that may send a release back reached its threshold |
| healthy | none did, enough of the day was seen, and a trouble of the size that matters would have been found |
| insufficient | none did, but so little happened, or so few days are there to compare with, that a trouble would not have been found |
| blind | none did, and too little of the day was seen: the observer was away, not the trouble |

A release that came meanwhile makes it superseded; what was found until then stands beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.burn_rate import burn_process, first_burn_alarm
from core.day_totals import bad_share, expected_bad, hours_compared, ratio_to_expected
from core.detectable_effect import rounded_up, smallest_detectable_factor, smallest_detectable_share
from core.dispersion import LEAST_DAYS, dispersion
from core.placebo import is_confirmed
from core.sequential_test import ALPHA, MOST_FAIL, e_process, first_alarm, threshold
from core.units import counted
from core.watch_counts import BUCKETS, BUCKETS_AN_HOUR, Array, Counts

Verdict = Literal["healthy", "degraded", "insufficient", "blind", "superseded"]
# Fewer release-free days advise, and never send a release back (DESIGN §6).
LEAST_DAYS_TO_ACT = 4
# So few expected bad requests a day that three times as many are no evidence of anything: there a share is asked for, not a factor.
RARE = 3.0
# In a bucket, before it is told that most of them are bad.
LEAST_TO_TELL = 20


@dataclass(frozen=True)
class Demands:
    """What must be so that nothing found means healthy.

    Args:
        coverage: the share of the day's buckets that must have been seen.
        factor: a trouble of this factor must have been detectable, in each metric …
        ignored: … or, where the days before had hardly a bad request, one of this share, up to which all is well whatever was before (release.gates.ratio_ignored).
    """

    coverage: float = 0.9
    factor: float = 3.0
    ignored: float = 0.0


@dataclass(frozen=True)
class MetricVerdict:
    """What one metric says, and the path that leads there.

    Args:
        process: E after each bucket.
        alarm: the bucket after which it reached the threshold; None: it did not.
        expected: how many bad requests the days before lead one to expect. share: of the new version's requests, the bad ones. detectable_share: so large a
            share would have been found; known where few are expected.
        ratio: how many times as many bad requests there were as the days before lead one to expect, over the day.
        hours_compared: of the hours in which either side had requests, the share in which both had, and the new version not next to none.
        acts: whether that may send a release back; else it advises, and `why_not` says why.
    """

    metric: str
    days: int
    coverage: float
    dispersion: float
    threshold: float
    process: tuple[float, ...]
    alarm: int | None
    detectable_factor: float
    acts: bool
    why_not: str = ""
    ratio: float = 0.0
    hours_compared: float = 1.0
    expected: float = math.inf
    share: float = 0.0
    detectable_share: float = math.inf

    def lasts(self, closed: int) -> bool:
        """Whether what raised the alarm goes on: it came within the last hour, or the evidence still grows. What ended hours ago is told, and is no reason to act now."""
        if self.alarm is None:
            return False
        hour = BUCKETS_AN_HOUR
        now, before = self.process[max(0, closed - 1)], self.process[max(0, closed - 1 - hour)]
        return self.alarm >= closed - hour or now > before

    @property
    def largest(self) -> float:
        """The largest E of the day."""
        return max(self.process, default=1.0)


@dataclass(frozen=True)
class Judgement:
    """The verdict, its reasons in sentences, each metric's, and that of the absolute guard where there is an objective."""

    verdict: Verdict
    reasons: tuple[str, ...]
    metrics: tuple[MetricVerdict, ...] = field(repr=False, default=())
    guard: MetricVerdict | None = field(repr=False, default=None)
    # What looks worse and may not send a release back. It is told all the same.
    advised: tuple[str, ...] = ()
    # Whether what makes it degraded goes on: only then a release is sent back.
    lasts: bool = False
    # Why the counts are not the whole (core.watch_doubts).
    doubts: tuple[str, ...] = ()


def judge(
    metrics: Mapping[str, Counts],
    *,
    closed: int = BUCKETS,
    demands: Demands = Demands(),
    alpha: float = ALPHA,
    signals: int | None = None,
    placebos: Mapping[str, Sequence[float]] | None = None,
    objective: float | None = None,
    guarded: str = "errors",
    advises: str = "",
) -> Judgement:
    """Given each metric's counts, return what they say of the new version.

    Args:
        closed: how many buckets of the day are over.
        signals: how many signals share the budget of false alarms; None: the metrics, and the guard where there is one.
        placebos: the largest E of each release-free day by metric; with 19 of them an alarm must stand out among them.
        objective: the share of requests that must not be bad; the absolute guard (core.burn_rate) then watches the metric `guarded`.
        advises: why no alarm may send a release back, whatever is found; "": it may.

    Raise ValueError without a metric.
    """
    if not metrics:
        raise ValueError("no metric is watched")
    has_guard = objective is not None and guarded in metrics
    at = threshold(signals or len(metrics) + has_guard, alpha)
    found = tuple(
        _of_metric(
            name, counts, at, closed=closed, placebos=(placebos or {}).get(name, ()), alpha=alpha, advises=advises
        )
        for name, counts in metrics.items()
    )
    guard = None
    if objective is not None and guarded in metrics:
        guard = _of_guard(guarded, metrics[guarded], objective, at, closed=closed, advises=advises)
    verdict, reasons = _verdict(found, guard, demands)
    everything = (*found, guard) if guard is not None else found
    failing = tuple(told for name, counts in metrics.items() if (told := _most_fail(name, counts, closed)))
    advised = (*failing, *_advised(everything))
    if verdict == "healthy" and failing:
        verdict, reasons = "insufficient", failing
    lasts = any(one.acts and one.lasts(closed) for one in everything)
    return Judgement(verdict, reasons, found, guard, advised, lasts)


def _of_metric(
    name: str, counts: Counts, at: float, *, closed: int, placebos: Sequence[float], alpha: float, advises: str
) -> MetricVerdict:
    coverage = float(counts.seen[:closed].mean()) if closed else 0.0
    days = counts.usable_days
    if days < LEAST_DAYS:
        # What was seen of the new version was seen, though there is nothing to compare it with: the observer was not blind.
        coverage = float((~np.isnan(counts.requests[:closed])).mean()) if closed else 0.0
        why = f"{days} release-free days to compare with, {LEAST_DAYS} are needed"
        return MetricVerdict(name, days, coverage, math.nan, at, (), None, math.inf, acts=False, why_not=why)
    process: Array = e_process(counts)
    expected = expected_bad(counts)
    first = float(first_alarm(process, at))
    alarm = int(first) if math.isfinite(first) else None
    why_not = _advises_only(days, advises)
    if not why_not and alarm is not None and is_confirmed(float(process.max()), placebos, alpha) is False:
        why_not = f"of {len(placebos)} release-free days too many look the same"
    return MetricVerdict(
        name,
        days,
        coverage,
        float(dispersion(counts)),
        at,
        tuple(float(one) for one in np.asarray(process)),
        alarm,
        smallest_detectable_factor(counts, at),
        acts=alarm is not None and not why_not,
        why_not=why_not,
        ratio=ratio_to_expected(counts, expected),
        hours_compared=hours_compared(counts),
        expected=expected,
        share=bad_share(counts),
        detectable_share=smallest_detectable_share(counts, at) if expected < RARE else math.inf,
    )


def _most_fail(name: str, counts: Counts, closed: int) -> str:
    """Buckets in which most requests are bad, and were not on the days before as far as those are known: no statistics are needed to tell of that."""
    known = counts.known
    before = known.baseline_bad.sum(axis=-2) < MOST_FAIL / 2 * np.maximum(known.baseline_requests.sum(axis=-2), 1)
    most = (known.requests >= LEAST_TO_TELL) & (known.bad >= MOST_FAIL * known.requests) & before
    found = np.flatnonzero(most[:closed])
    if not found.size:
        return ""
    bad, requests = float(known.bad[found].sum()), float(known.requests[found].sum())
    return f"{name}: {bad:.0f} of {requests:.0f} requests bad in {counted(int(found.size), 'bucket')}, first in bucket {found[0]}"


def _advised(found: Sequence[MetricVerdict]) -> tuple[str, ...]:
    return tuple(
        f"{one.metric}: looks worse (after bucket {one.alarm}), but {one.why_not}"
        for one in found
        if one.alarm is not None and not one.acts
    )


def _advises_only(days: int, advises: str) -> str:
    if days < LEAST_DAYS_TO_ACT:
        return f"{days} release-free days to compare with; fewer than {LEAST_DAYS_TO_ACT} advise only"
    return advises


def _of_guard(name: str, counts: Counts, objective: float, at: float, *, closed: int, advises: str) -> MetricVerdict:
    days, known = counts.usable_days, counts.known
    # How much days differ is not known of fewer than two: then the guard advises, as it does below four.
    divisor = dispersion(counts) if days >= LEAST_DAYS else np.asarray(1.0)
    first = float(first_burn_alarm(known.requests, known.bad, objective, divisor, at))
    alarm = int(first) if math.isfinite(first) else None
    why_not = _advises_only(days, advises)
    process = burn_process(known.requests, known.bad, objective, divisor)
    return MetricVerdict(
        f"{name}, objective {objective:g}",
        days,
        float(counts.seen[:closed].mean()) if closed else 0.0,
        float(divisor),
        at,
        tuple(float(one) for one in process),
        alarm,
        math.inf,
        acts=alarm is not None and not why_not,
        why_not=why_not,
    )


def _verdict(
    metrics: Sequence[MetricVerdict], guard: MetricVerdict | None, demands: Demands
) -> tuple[Verdict, tuple[str, ...]]:
    found = (*metrics, guard) if guard is not None else metrics
    if bad := [one for one in found if one.acts]:
        return "degraded", tuple(
            f"{one.metric}: E = {one.process[one.alarm or 0]:.3g} ≥ {one.threshold:g} after bucket {one.alarm}"
            for one in bad
        )
    advised = _advised(found)
    unseen = [one for one in metrics if one.coverage < demands.coverage]
    if unseen:
        seen = (
            f"{one.metric}: {one.coverage:.0%} of the buckets were seen; {demands.coverage:.0%} are asked for"
            for one in unseen
        )
        return "blind", (*advised, *seen)
    by_share = [one for one in metrics if _by_share(one, demands)]
    weak = [one for one in metrics if one.detectable_factor > demands.factor and one not in by_share]
    pieces = [one for one in metrics if one.ratio >= demands.factor and one not in by_share]
    more = [one for one in by_share if one.share > demands.ignored]
    apart = [one for one in metrics if one.hours_compared < demands.coverage]
    if weak or advised or pieces or more or apart:
        told = [f"{one.metric}: {_detectable(one)}; {demands.factor:g} is asked for" for one in weak]
        told += [
            f"{one.metric}: {one.ratio:.2g} times as many bad requests as before, in short pieces" for one in pieces
        ]
        told += [f"{one.metric}: {one.share:.2%} of the requests bad, in short pieces" for one in more]
        told += [
            f"{one.metric}: both sides had requests, and not next to none, in {one.hours_compared:.0%} of the hours only; {demands.coverage:.0%} are asked for"
            for one in apart
        ]
        return "insufficient", (*advised, *told)
    return "healthy", tuple(
        f"{one.metric}: {_detectable_share(one) if one in by_share else _detectable(one)}" for one in metrics
    )


def _by_share(one: MetricVerdict, demands: Demands) -> bool:
    """Whether a metric is held to a share: the days before had so few bad requests that a multiple of them says nothing, and that share would have been found."""
    return one.expected < RARE and one.detectable_factor > demands.factor and one.detectable_share <= demands.ignored


def _detectable(found: MetricVerdict) -> str:
    if found.why_not and not found.process:
        return found.why_not
    if math.isinf(found.detectable_factor):
        return "no trouble whatever would have been found"
    return f"a factor of {rounded_up(found.detectable_factor):g} would have been found"


def _detectable_share(found: MetricVerdict) -> str:
    return f"a share of {100 * (rounded_up(found.detectable_share) or 1):g} % bad requests would have been found"
