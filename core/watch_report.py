"""What is told of a watch, in words and figures: the same in its signed report (core.watch_evidence) and in the text that a person reads (core.watch_text).

Counts are whole requests, all other figures text as a person reads them. What nobody knows is None, which is not 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from core.evidence import Finding
from core.redaction import redact
from core.units import counted
from core.watch_figures import MetricFigures, figures_of, share_text
from core.watch_record import WatchBaseline, WatchEnd, WatchMark, WatchStart, WatchTick, counts_of
from core.watch_verdict import Judgement, Verdict

# A report stays readable, and small, whatever a source tells.
MOST_FINDINGS, MOST_REASONS, LONGEST_TEXT = 40, 12, 400
# More than these stand below the sentence.
_REASONS_IN_SENTENCE = 3

_MOST_E = 1_000_000

# Whatever is no pass begins with it.
UNPROVEN = "NO PASS: "
_PLAIN: dict[Verdict, str] = {
    "degraded": "The new version is worse than before",
    "insufficient": f"{UNPROVEN}nothing was found, but a trouble of the size that matters would not have been either",
    "blind": f"{UNPROVEN}too little of the day was seen to say anything",
    "superseded": f"{UNPROVEN}the day was not watched to its end",
}
_DOUBTED = f"{UNPROVEN}what was counted is not all that users had"
_SUSPECT = f"{UNPROVEN}the new version looks worse than before, and may not be sent back for it"
_UNKNOWN_POWER = f"{UNPROVEN}nothing was found, and whether anything would have been is not known"


@dataclass(frozen=True)
class Watched:
    """All that is known of a watch when it is told.

    Args:
        sources: of each other source what it found (`x_findings`); a source that was not looked at is not there.
        not_asked: source → why nobody looks at it: it is not configured.
    """

    start: WatchStart
    baseline: WatchBaseline | None
    tick: WatchTick
    judgement: Judgement
    marks: Sequence[WatchMark] = ()
    sources: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    not_asked: Mapping[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> tuple[MetricFigures, ...]:
        """The figures of each metric."""
        counts = counts_of(self.baseline, self.tick.metrics, self.tick.closed)
        return tuple(
            figures_of(one, counts.get(one.metric), self.tick.closed, self.start.first)
            for one in self.judgement.metrics
        )

    @property
    def guard(self) -> MetricFigures | None:
        """The figures of the absolute guard; None where there is no objective."""
        found = self.judgement.guard
        return None if found is None else figures_of(found, None, self.tick.closed, self.start.first)


def watch_artifact_key(environment: str) -> str:
    """The key under which the UI shows a watch's text."""
    return f"watch-{environment}"


def verdict_sentence(watched: Watched) -> str:
    """The verdict in plain words, one line without markup: for a run's state, a notification, an alert.

    Nothing found is said only with what would have been found; where that is not known, or nothing would have been, it is no pass.
    """
    judgement = watched.judgement
    if judgement.advised and judgement.verdict in {"insufficient", "blind"}:
        return _with_reasons(_SUSPECT, judgement.reasons)
    if judgement.doubts and judgement.verdict == "insufficient":
        return _with_reasons(_DOUBTED, judgement.reasons)
    if judgement.verdict != "healthy":
        return _with_reasons(_PLAIN[judgement.verdict], judgement.reasons)
    figures = watched.figures
    if not figures or any(one.detectable is None and one.detectable_share is None for one in figures):
        return _with_reasons(_UNKNOWN_POWER, judgement.reasons)
    factors = [one.detectable for one in figures if one.detectable is not None]
    # Where nothing failed before there is no factor.
    shares = [_number(one.detectable_share) for one in figures if one.detectable is None]
    told = [f"a factor of {max(factors):g}"] if factors else []
    told += [f"a share of {100 * max(shares):g} % bad requests where hardly any was before"] if shares else []
    return f"Nothing found; {' and '.join(told)} would have been"


def sentence_so_far(watched: Watched) -> str:
    """The same while the day goes on: what is not proven yet is no failure either."""
    sentence = verdict_sentence(watched)
    if sentence.startswith(UNPROVEN):
        return f"So far no verdict: {sentence.removeprefix(UNPROVEN)}"
    return f"So far: {sentence}"


def ended_sentence(end: WatchEnd) -> str:
    """The same of a watch that ended, by what is kept of its end: there the reasons tell what would have been found."""
    if end.doubted and end.verdict == "insufficient":
        return _with_reasons(_DOUBTED, end.reasons)
    if end.verdict != "healthy":
        return _with_reasons(_PLAIN[end.verdict], end.reasons)
    return _with_reasons("Nothing found", end.reasons) if end.reasons else _UNKNOWN_POWER


def moment(time: datetime, zone: ZoneInfo) -> str:
    """A time by the clock on the wall: `2026-11-26 10:05 CET`."""
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def cut(text: str) -> str:
    """What comes from outside, in one line, without secrets, and bounded."""
    flat = " ".join(redact(text).split())
    return flat if len(flat) <= LONGEST_TEXT else flat[: LONGEST_TEXT - 1] + "…"


def bounded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings with the gravest first, cut to what a report bears; how many were left out is one of them."""
    ordered = sorted(findings, key=lambda one: ("error", "warning", "note").index(one.severity))
    kept = [Finding(severity=one.severity, text=cut(one.text)) for one in ordered[:MOST_FINDINGS]]
    if left := ordered[MOST_FINDINGS:]:
        kept.append(Finding(severity=left[0].severity, text=f"and {counted(len(left), 'other finding')}"))
    return tuple(kept)


def figure_rows(one: MetricFigures, zone: ZoneInfo) -> dict[str, str]:
    """A metric's figures as a person reads them, by name. The same in the report and in the text."""
    return {
        "requests, new version": _count(one.requests),
        "bad, new version": f"{_count(one.bad)} ({share_text(one.bad, one.requests)})",
        "requests, days before": _count(one.baseline_requests),
        "bad, days before": f"{_count(one.baseline_bad)} ({share_text(one.baseline_bad, one.baseline_requests)})",
        **guard_rows(one, zone),
        "would have been found": detectable_text(one),
        "buckets seen": f"{one.coverage:.0%}",
        "days compared with": str(one.days),
        "how days differ (φ̂)": "not known" if one.dispersion is None else f"{one.dispersion:.2f}",
    }


def detectable_text(one: MetricFigures) -> str:
    """What would have been found of a metric, in words."""
    if one.detectable:
        return f"a factor of {one.detectable:g}"
    return f"a share of {100 * one.detectable_share:g} % bad requests" if one.detectable_share else "nothing"


def guard_rows(one: MetricFigures, zone: ZoneInfo) -> dict[str, str]:
    """What E says, of a metric as of the guard."""
    alarm = "none"
    if one.alarm is not None and one.alarm_at is not None:
        alarm = f"after bucket {one.alarm}, {moment(one.alarm_at, zone)}"
    return {
        "largest E": f"{_e(one.largest)}, after {_bucket(one, zone)}"
        if one.largest_bucket is not None
        else "not known",
        "E that is an alarm": f"{one.threshold:g}",
        "alarm": alarm,
        "may send the release back": "yes" if one.acts else f"no: {cut(one.why_not)}" if one.why_not else "no alarm",
    }


def _with_reasons(words: str, reasons: Sequence[str]) -> str:
    told = "; ".join(cut(one) for one in reasons[:_REASONS_IN_SENTENCE])
    return f"{words}: {told}" if told else words


def _bucket(one: MetricFigures, zone: ZoneInfo) -> str:
    at = "" if one.largest_at is None else f", {moment(one.largest_at, zone)}"
    return f"bucket {one.largest_bucket}{at}"


def _count(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


def _e(value: float) -> str:
    # Of a service that is down E reaches 1e300, which says nothing more.
    return f"{value:.3g}" if value < _MOST_E else f"more than {_MOST_E:,}"


def _number(value: float | None) -> float:
    return value or 0.0
