"""What is told of a watch: the facts of its signed report, and the text that a person reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from core.evidence import Finding
from core.watch_record import HowItEnded, WatchBaseline, WatchMark, WatchStart, WatchTick
from core.watch_verdict import Judgement


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


@dataclass(frozen=True)
class ToldStep:
    """One step of the evidence report: its name, its facts (JSON without floats) and its findings."""

    name: str
    facts: dict[str, Any]
    findings: tuple[Finding, ...] = ()


def final_steps(watched: Watched, how: HowItEnded, zone: ZoneInfo) -> tuple[ToldStep, ...]:
    """The steps of the report at a watch's end, for `with record.step(one.name) as notes: notes.add(facts=one.facts, findings=one.findings)`."""
    raise NotImplementedError


def final_text(watched: Watched, how: HowItEnded, zone: ZoneInfo, location: str = "") -> str:
    """The Markdown of a watch's end. `location`: where its signed report lies (`s3://…`)."""
    raise NotImplementedError


def running_text(watched: Watched, zone: ZoneInfo) -> str:
    """The Markdown of a watch that goes on, in short."""
    raise NotImplementedError


def verdict_sentence(watched: Watched) -> str:
    """The verdict in plain words, one line without markup: for a run's state, a notification, an alert."""
    raise NotImplementedError
