"""The signed report of a watch's end: its steps, their facts and findings. Signed reports hold no floats."""

from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from core.evidence import Finding
from core.watch_days import BUCKET
from core.watch_figures import MetricFigures
from core.watch_record import HowItEnded
from core.watch_report import (
    MOST_FINDINGS,
    MOST_REASONS,
    UNPROVEN,
    Watched,
    bounded,
    cut,
    figure_rows,
    guard_rows,
    moment,
    verdict_sentence,
)


@dataclass(frozen=True)
class ToldStep:
    """One step of the evidence report: its name, its facts (JSON without floats) and its findings."""

    name: str
    facts: dict[str, Any]
    findings: tuple[Finding, ...] = ()


def final_steps(watched: Watched, how: HowItEnded, zone: ZoneInfo) -> tuple[ToldStep, ...]:
    """The steps of the report at a watch's end, for `with record.step(one.name) as notes: notes.add(facts=one.facts, findings=one.findings)`."""
    sources = dict.fromkeys((*watched.sources, *watched.tick.unread, *watched.not_asked))
    return (
        _verdict_step(watched, how, zone),
        *(_metric_step(one, zone) for one in watched.figures),
        *(_guard_step(one, zone) for one in [watched.guard] if one is not None),
        _baseline_step(watched, zone),
        *(_source_step(watched, source) for source in sources),
        _marks_step(watched, zone),
    )


def _verdict_step(watched: Watched, how: HowItEnded, zone: ZoneInfo) -> ToldStep:
    start, tick, judgement = watched.start, watched.tick, watched.judgement
    sentence = verdict_sentence(watched)
    whole = how == "the day is over" and not sentence.startswith(UNPROVEN)
    severity = "error" if judgement.verdict == "degraded" else "note" if whole else "warning"
    # A run's report knows passed, warnings and failed: no verdict but that of a whole day in which something would have been found is the first.
    facts: dict[str, Any] = {
        "verdict": judgement.verdict,
        "in_words": sentence,
        "reasons": [cut(one) for one in judgement.reasons[:MOST_REASONS]],
        "how_it_ended": how,
        "release": start.release_id,
        "image": cut(start.image),
        "commit": cut(start.commit),
        "plan_sha256": start.plan_sha256,
        "released": moment(start.released_at, zone),
        "watched_from": moment(start.first, zone),
        "watched_until": moment(start.first + tick.closed * BUCKET, zone),
        "buckets_over": tick.closed,
        "buckets_known": tick.known,
        "flow_run_of_last_look": tick.flow_run_id,
    }
    return ToldStep("judge", facts, (Finding.model_validate({"severity": severity, "text": cut(sentence)}),))


def _metric_step(one: MetricFigures, zone: ZoneInfo) -> ToldStep:
    facts: dict[str, Any] = {
        "metric": cut(one.metric),
        "requests": one.requests,
        "bad": one.bad,
        "baseline_requests": one.baseline_requests,
        "baseline_bad": one.baseline_bad,
        "alarm_bucket": one.alarm,
        "largest_bucket": one.largest_bucket,
    }
    rows = figure_rows(one, zone)
    return ToldStep(f"metric {cut(one.metric)}", facts | {"figures": [{"figure": k, "is": v} for k, v in rows.items()]})


def _guard_step(one: MetricFigures, zone: ZoneInfo) -> ToldStep:
    facts: dict[str, Any] = {"guard": cut(one.metric), "alarm_bucket": one.alarm, "largest_bucket": one.largest_bucket}
    rows = guard_rows(one, zone)
    return ToldStep("objective", facts | {"figures": [{"figure": k, "is": v} for k, v in rows.items()]})


def _baseline_step(watched: Watched, zone: ZoneInfo) -> ToldStep:
    baseline = watched.baseline
    if baseline is None:
        told = Finding(severity="warning", text="there are no days to compare with: they were never read")
        return ToldStep("compare with", {"days_before": []}, (told,))
    cut_out = [
        {"from": moment(one.begin, zone), "until": moment(one.end, zone), "why": cut(one.why)}
        for one in baseline.cut_out[:MOST_FINDINGS]
    ]
    known = [
        {"metric": cut(metric), "days_before": lag, "buckets_known": sum(day.is_known)}
        for metric, days in baseline.metrics.items()
        for lag, day in zip(baseline.lags, days, strict=False)
    ]
    facts = {
        "read": moment(baseline.read_at, zone),
        "days_before": list(baseline.lags),
        "cut_out": cut_out,
        "cut_out_times": len(baseline.cut_out),
        "days": known,
    }
    return ToldStep("compare with", facts)


def _source_step(watched: Watched, source: str) -> ToldStep:
    unread: tuple[Finding, ...] = ()
    if why := watched.tick.unread.get(source):
        looked = f"could not be read: {cut(why)}"
        unread = (Finding(severity="warning", text=f"{cut(source)} could not be read at the end: {cut(why)}"),)
    else:
        looked = "yes" if source in watched.sources else f"no: {cut(watched.not_asked.get(source, ''))}"
    found = bounded(watched.sources.get(source, ()))
    # Other sources advise: none of them makes a report a failed one.
    advice = tuple(Finding(severity="warning", text=one.text) if one.severity == "error" else one for one in found)
    return ToldStep(f"look at {cut(source)}", {"looked": looked, "findings": len(found)}, (*unread, *advice))


def _marks_step(watched: Watched, zone: ZoneInfo) -> ToldStep:
    rows = [
        {"what": cut(one.what), "at": moment(one.at, zone), "by": cut(one.by), "why": cut(one.why)}
        for one in watched.marks
    ]
    return ToldStep("tell", {"told": rows, "times": len(rows)})
