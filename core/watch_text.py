"""A watch as Markdown: what a person reads in the UI, the verdict in plain words first."""

import re
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from core.evidence import Finding
from core.image_reference import shortened
from core.report_text import escape_markdown
from core.units import human_duration
from core.watch_counts import BUCKET_MINUTES, BUCKETS
from core.watch_days import BUCKET
from core.watch_record import HowItEnded, WatchEnd, WatchStart
from core.watch_report import (
    MOST_REASONS,
    Watched,
    bounded,
    cut,
    detectable_text,
    ended_sentence,
    figure_rows,
    guard_rows,
    moment,
    sentence_so_far,
    verdict_sentence,
)

# Characters: two lines of a page's heading.
LONGEST_HEADING = 80
_MARKS = {"note": "·", "warning": "!", "error": "✘"}
# What no watch of counts can see (docs/watch.md).
_NEVER_SEEN = (
    "Less than 1.5 times as many bad requests as before: so much days differ by themselves.",
    "What is not counted: wrong answers that say success, a button that does nothing.",
    "A trouble that all versions have at once, such as a slow database: the new version is blamed if the days before had none of it.",
    "Days before that are no guide: a campaign, a holiday.",
)


def final_text(watched: Watched, how: HowItEnded, zone: ZoneInfo, location: str = "") -> str:
    """The Markdown of a watch's end. `location`: where its signed report lies (`s3://…`)."""
    start, closed = watched.start, watched.tick.closed
    ended = f"watched for {_hours(closed)}, until {moment(start.first + closed * BUCKET, zone)}: {how}"
    lines = [
        *_headed(verdict_sentence(watched), before=_before_the_end(watched, how)),
        *_of_what(start, zone, ended),
    ]
    lines += _table(watched, zone)
    lines += _listed("Why", watched.judgement.reasons[:MOST_REASONS])
    lines += _findings(watched)
    lines += _not_looked_at(watched)
    lines += _marks(watched, zone)
    lines += _listed("What this cannot see", (*_smallest(watched), *_NEVER_SEEN))
    if location:
        lines += ["## Evidence", "", f"The signed report: {escape_markdown(location)}", ""]
    return "\n".join(lines)


def running_text(watched: Watched, zone: ZoneInfo) -> str:
    """The Markdown of a watch that goes on, in short."""
    start, closed = watched.start, watched.tick.closed
    until = moment(start.first + BUCKETS * BUCKET, zone)
    so_far = (
        f"{_hours(closed)} of 24 h watched, {watched.tick.known} of {closed} buckets known; it goes on until {until}"
    )
    lines = [*_headed(sentence_so_far(watched)), *_of_what(start, zone, so_far)]
    return "\n".join([*lines, *_table(watched, zone), *_findings(watched), *_not_looked_at(watched)])


def sign_off_text(
    start: WatchStart, end: WatchEnd, findings: Sequence[Finding], zone: ZoneInfo, *, location: str, retired: str
) -> str:
    """What a person reads above the form who signs the day off. `retired`: what becomes of the old side, in a sentence; `location`: of the watch's report."""
    ended = f"watched for {_hours(end.closed)}, until {moment(end.at, zone)}: {end.how}"
    warnings = [one for one in bounded(findings) if one.severity != "note"]
    return "\n".join(
        [
            f"## Sign off {escape_markdown(start.release_id)} in {escape_markdown(start.environment)}",
            "",
            f"**{escape_markdown(ended_sentence(end))}**",
            "",
            *_of_what(start, zone, ended),
            *[f"- {_MARKS[one.severity]} {escape_markdown(one.text)}" for one in warnings],
            *([""] if warnings else []),
            f"The watch's report: {escape_markdown(location)}",
            "",
            f"Once it is signed off: {escape_markdown(retired)}",
            "",
            f"To sign, type the last six characters of the release's id: **{escape_markdown(start.release_id[-6:])}**",
            "",
        ]
    )


def _headed(sentence: str, *, before: str = "") -> list[str]:
    """A sentence as a heading; of a long one its words up to a colon, and the rest below. What would have been found stays with "nothing found": no colon."""
    found = re.match(r"((?:So far: )?[^:]+): (.+)", sentence) if len(before + sentence) > LONGEST_HEADING else None
    if found is None:
        return [f"# {before}{escape_markdown(sentence)}", ""]
    return [f"# {before}{escape_markdown(found[1])}", "", f"**{escape_markdown(found[2])}**", ""]


def _before_the_end(watched: Watched, how: HowItEnded) -> str:
    # The verdict superseded says so itself.
    if how == "the day is over" or watched.judgement.verdict == "superseded":
        return ""
    what = "Superseded by another release" if how == "superseded" else "Rolled back"
    return f"{what} after {_hours(watched.tick.closed)}. Until then: "


def _of_what(start: WatchStart, zone: ZoneInfo, ended: str) -> list[str]:
    release = f"**{escape_markdown(start.release_id)}** in **{escape_markdown(start.environment)}**"
    image = f"{escape_markdown(shortened(cut(start.image)))}, commit {escape_markdown(start.commit[:12])}"
    return [f"{release}: {image}, released {moment(start.released_at, zone)}; {ended}.", ""]


def _table(watched: Watched, zone: ZoneInfo) -> list[str]:
    columns: Mapping[str, Mapping[str, str]] = {one.metric: figure_rows(one, zone) for one in watched.figures}
    if not columns:
        return ["No metric was counted: of requests nothing can be said.", ""]
    names = list(next(iter(columns.values())))
    lines = [
        "| | " + " | ".join(escape_markdown(cut(name)) for name in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    lines += [
        f"| {escape_markdown(name)} | " + " | ".join(escape_markdown(one[name]) for one in columns.values()) + " |"
        for name in names
    ]
    if (guard := watched.guard) is not None:
        told = "; ".join(f"{name}: {value}" for name, value in guard_rows(guard, zone).items())
        lines += ["", f"**{escape_markdown(cut(guard.metric))}**: {escape_markdown(told)}"]
    return [*lines, ""]


def _findings(watched: Watched) -> list[str]:
    lines = [
        f"- {_MARKS[one.severity]} **{escape_markdown(cut(source))}**: {escape_markdown(one.text)}"
        for source, findings in watched.sources.items()
        for one in bounded(findings)
    ]
    told = "Nothing else was found." if watched.sources else "Nothing else was looked at."
    return ["## What else was found", "", *(lines or [told]), ""]


def _not_looked_at(watched: Watched) -> list[str]:
    lines = [
        f"- ! **{escape_markdown(cut(source))}** could not be read at the last look: {escape_markdown(cut(why))}"
        for source, why in watched.tick.unread.items()
    ]
    lines += [
        f"- **{escape_markdown(cut(source))}**: nobody looks: {escape_markdown(cut(why))}"
        for source, why in watched.not_asked.items()
    ]
    return ["## What was not looked at", "", *lines, ""] if lines else []


def _marks(watched: Watched, zone: ZoneInfo) -> list[str]:
    lines = [
        f"- {moment(one.at, zone)} **{escape_markdown(cut(one.what))}** by {escape_markdown(cut(one.by))}: {escape_markdown(cut(one.why))}"
        for one in watched.marks
    ]
    return ["## What was told and done", "", *lines, ""] if lines else []


def _smallest(watched: Watched) -> list[str]:
    return [
        f"{one.metric}: less than {detectable_text(one)}, in one case of five even that."
        if one.detectable or one.detectable_share
        else f"{one.metric}: anything. However much worse it were, it would not have been found."
        for one in watched.figures
    ]


def _listed(title: str, texts: Sequence[str]) -> list[str]:
    # A dot before each: a line that begins with the mark of a heading would be one.
    return [f"## {title}", "", *(f"- · {escape_markdown(cut(text))}" for text in texts), ""] if texts else []


def _hours(closed: int) -> str:
    return human_duration(closed * BUCKET_MINUTES * 60_000) if closed else "nothing"
