"""May a release go on, by its metrics: from counts of the new and of the old version to pass, fail or inconclusive, and from these over time to a decision.

The rule above all: no data, NaN, few requests, Prometheus away: inconclusive, which holds the release and never lets it pass. Empty is not 0 is not NaN.

Fail needs evidence at LEVEL_OF_FAILURE, so that a few unlucky requests do not send a release back: against the allowed share the exact binomial
test (P(X ≥ x) of n requests, were the share just allowed); against the old version beside it the exact conditional one: of x + y bad requests, x of n
new and y of m old, x ~ Bin(x + y, ψn / (ψn + m)) were the new share just ψ times the old (Lindon & Malek 2022, "Anytime-valid inference for
multinomial count data"; DESIGN §6).
Pass needs the minimum sample on both sides, a share that is allowed, and nothing suspicious against the old one (LEVEL_OF_DOUBT). Between: inconclusive.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from core.manifest import Record

GateState = Literal["pass", "fail", "inconclusive", "not configured"]
# Of a version at the very limit so many measurements call it failed: a release has some dozens. One that is well is called so far more seldom.
LEVEL_OF_FAILURE = 0.001
# Three requests are no sample, even if all of them failed; fifty of sixty are.
LEAST_TO_FAIL = 20
# Less likely than this beside the old version: not passed yet, though not failed.
LEVEL_OF_DOUBT = 0.05
# A verdict older than this says nothing of now: the process slept, or was started anew.
LONGEST_VALID = timedelta(minutes=2)


class Reading(Record):
    """One metric of one side: how many bad of how many requests. None: not known.

    `doubt`: why it cannot prove that all is well. `restarted`: Pods whose counters began anew.
    """

    bad: Annotated[int, Field(ge=0)] | None = None
    total: Annotated[int, Field(ge=0)] | None = None
    doubt: str = ""
    restarted: int = 0


class Limits(Record):
    """What is allowed: a share at most, a factor over the old version (None: not compared), a share that is always well, a sample at least."""

    share: float
    factor: float | None
    ignored: float
    minimum: int


class Finding(Record):
    """What one gate says, in a sentence with its figures."""

    gate: str
    state: GateState
    found: str


class Verdict(Record):
    """What all gates together say at a time."""

    at: AwareDatetime
    state: GateState
    findings: tuple[Finding, ...]

    @property
    def found(self) -> str:
        """One sentence: what decided. What several gates found alike is said once."""
        return "; ".join(dict.fromkeys(one.found for one in self.findings if one.state == self.state))


class Decision(Record):
    """What a release does now."""

    action: Literal["go-on", "hold", "go-back"]
    reason: str


def judge(gate: str, bad_is: str, limits: Limits, new: Reading, old: Reading | None) -> Finding:
    """Given the readings of both sides (old None: there is none beside it) and what a bad request is called ("failed", "slow"), return what this metric says."""
    if new.bad is None or new.total is None:
        return Finding(gate=gate, state="inconclusive", found=f"new version: {new.doubt or 'no data'}")
    seen = f"{new.bad} of {new.total} requests of the new version {bad_is} ({_percent(new.bad, new.total)})"
    against = _against_old(limits, new.bad, new.total, old)
    found = f"{seen}, allowed are {limits.share:.2%}{against.found}"
    too_many = against.state == "fail" or binomial_tail(new.bad, new.total, limits.share) < LEVEL_OF_FAILURE
    if too_many and new.total >= LEAST_TO_FAIL:
        return Finding(gate=gate, state="fail", found=found)
    missing = _missing(limits, new) or against.doubt
    if missing or too_many:
        why = missing or f"fewer than {LEAST_TO_FAIL} requests"
        return Finding(gate=gate, state="inconclusive", found=f"{found}: {why}")
    return Finding(gate=gate, state="pass", found=found)


class _Comparison(Record):
    state: GateState
    found: str = ""
    doubt: str = ""


def _against_old(limits: Limits, bad: int, total: int, old: Reading | None) -> _Comparison:
    if limits.factor is None:
        return _Comparison(state="pass")
    if old is None:
        return _Comparison(state="pass", found="; no old version beside it to compare with")
    if old.bad is None or old.total is None:
        return _Comparison(state="inconclusive", doubt=f"old version: {old.doubt or 'no data'}")
    found = f"; {old.bad} of {old.total} of the old ({_percent(old.bad, old.total)}), allowed is {limits.factor:g} times that"
    likely = _likely(limits, limits.factor, (bad, total), (old.bad, old.total))
    doubt = f"old version: {old.doubt}" if old.doubt else ""
    if likely < LEVEL_OF_FAILURE and not doubt:
        return _Comparison(state="fail", found=found)
    if not doubt and old.total < limits.minimum:
        doubt = f"fewer than {limits.minimum} requests of the old version"
    if not doubt and likely < LEVEL_OF_DOUBT:
        doubt = "more than expected beside the old version, though not proven"
    return _Comparison(state="inconclusive" if doubt else "pass", found=found, doubt=doubt)


def _likely(limits: Limits, factor: float, new: tuple[int, int], old: tuple[int, int]) -> float:
    """How likely so many bad requests of the new version are, or more, were its share just the allowed times the old one's."""
    bad, total = new
    if bad <= limits.ignored * total:
        return 1.0
    return binomial_tail(bad, bad + old[0], factor * total / (factor * total + old[1]))


def _missing(limits: Limits, new: Reading) -> str:
    """Why the new side's own figures cannot pass; "" when they can."""
    bad, total = new.bad or 0, new.total or 0
    if new.doubt:
        return new.doubt
    if new.restarted:
        return f"the counters of {new.restarted} of its Pods began anew: a container was restarted, and what it counted last is lost"
    if total < limits.minimum:
        return f"fewer than {limits.minimum} requests"
    return "more than allowed, though not proven" if bad > limits.share * total else ""


def binomial_tail(least: int, trials: int, chance: float) -> float:
    """P(X ≥ least) for X ~ Bin(trials, chance), by exact terms summed away from the mode until they no longer count."""
    if least <= 0:
        return 1.0
    if least > trials or chance <= 0:
        return 0.0
    if chance >= 1:
        return 1.0
    if least <= trials * chance:
        return max(0.0, 1.0 - _summed(least - 1, trials, chance, -1))
    return min(1.0, _summed(least, trials, chance, 1))


def _summed(begin: int, trials: int, chance: float, step: Literal[-1, 1]) -> float:
    """The sum of the terms from one on, up or down: away from the mode, so that each is smaller than the one before."""
    count = begin
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(chance)
        + (trials - count) * math.log1p(-chance)
    )
    total, odds = 0.0, chance / (1 - chance)
    while term > total * 1e-17 and 0 <= count <= trials:
        total += term
        term *= (trials - count) / (count + 1) * odds if step > 0 else count / (trials - count + 1) / odds
        count += step
    return total


def verdict_of(at: datetime, findings: Sequence[Finding]) -> Verdict:
    """Given what the gates say at a time, return what they say together: one that fails fails all, one that is inconclusive holds all. No finding at all holds."""
    states = {one.state for one in findings}
    order: tuple[GateState, ...] = ("fail", "inconclusive", "pass", "not configured")
    state = next((one for one in order if one in states), "inconclusive")
    return Verdict(at=at, state=state, findings=tuple(findings))


def together(*verdicts: Verdict) -> Verdict:
    """Given the verdicts of several gates, return what they say together, as of the oldest of them. "not configured" beside a pass stays among the findings."""
    return verdict_of(min(one.at for one in verdicts), [finding for one in verdicts for finding in one.findings])


def hold(history: Sequence[Verdict], now: datetime, hold_minutes: int) -> Decision:
    """Given the verdicts of one gate, oldest first, return what the release does now.

    go-on: the newest passed, and is of now. go-back: the newest failed, or for `hold_minutes` none passed. Else hold: measure again.
    """
    if not history:
        return Decision(action="hold", reason="nothing was measured yet")
    newest = history[-1]
    if newest.state == "fail":
        return Decision(action="go-back", reason=newest.found)
    age = now - newest.at
    fresh = -LONGEST_VALID <= age <= LONGEST_VALID
    if newest.state == "not configured":
        return Decision(action="go-on", reason=f"not judged: {newest.found}")
    if newest.state == "pass" and fresh:
        return Decision(action="go-on", reason=newest.found)
    stale = f"the newest verdict is of {newest.at.astimezone(UTC):%H:%M:%S} UTC, not of now"
    reason = newest.found if newest.state == "inconclusive" else stale
    if now - _undecided_since(history) >= timedelta(minutes=hold_minutes):
        return Decision(action="go-back", reason=f"not decided for {hold_minutes} minutes: {reason}")
    return Decision(action="hold", reason=reason)


def _undecided_since(history: Sequence[Verdict]) -> datetime:
    """When the verdicts that decided nothing, at the end of the history, began: the newest, and the inconclusive ones before it."""
    since = history[-1].at
    for one in reversed(history[:-1]):
        if one.state != "inconclusive":
            break
        since = one.at
    return since


def _percent(bad: int, total: int) -> str:
    return f"{bad / total:.2%}" if total else "no requests"
