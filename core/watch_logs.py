"""What a watch sees in the logs of the new version: how many errors in each five minutes, and which that were not there in the days before. It advises only.

A bucket counts once, by the look that came first: a tick that comes twice or late changes nothing. A bucket that nobody looked at is no bucket without errors, and
neither is one in which there was not a single line: both are told.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated

from pydantic import AwareDatetime, Field

from core.evidence import Finding
from core.log_lines import cut_to_bytes
from core.log_signatures import Kind, grouped
from core.manifest import Record
from core.watch_counts import BUCKET_MINUTES, BUCKETS

ENOUGH_DAYS = 7
# What bounds a record to 20 KB.
MOST_KEPT = 10
MOST_PODS = 4
_TEMPLATE_BYTES, _TEXT_BYTES, _NAME_BYTES = 300, 210, 64
# What a person reads.
MOST_TOLD = 6
Count = Annotated[int, Field(ge=0)]
Bucket = Annotated[int, Field(ge=0, lt=BUCKETS)]


class NewSignature(Record):
    """Errors that fit no signature of the days before, by a signature of their own. `pods`: some of those that had it; `more`: there were further ones."""

    template: str
    hits: int = Field(ge=1)
    pods: tuple[str, ...] = Field(max_length=MOST_PODS)
    more: bool = False
    bucket: Bucket
    example: str


class BucketLogs(Record):
    """The logs of one bucket: all lines, those that tell an error, and how many of those were looked at for signatures."""

    bucket: Bucket
    lines: Count
    errors: Count
    looked_at: Count
    new: tuple[NewSignature, ...] = ()


class LogLook(Record):
    """What one look found, bucket by bucket.

    first: the beginning of bucket 0. days, whole: of the baseline, None where there is none. hits, pods: from when on a new signature is told.
    pods_read, pods_all: in how many Pods' logs it looked, of how many. short: what was left out, in words.
    """

    kind: Kind
    first: AwareDatetime
    buckets: tuple[BucketLogs, ...]
    days: Count | None
    whole: bool
    why: str = ""
    hits: int = Field(ge=1)
    pods: int = Field(ge=1)
    pods_read: Count
    pods_all: Count
    short: str = ""


class LogSeen(Record):
    """All that was seen until now. `errors` by bucket, None: not looked at; `silent`: buckets without one line."""

    kind: Kind
    first: AwareDatetime
    errors: tuple[Count | None, ...] = Field((), max_length=BUCKETS)
    lines: Count = 0
    silent: Count = 0
    unexamined: Count = 0
    new: tuple[NewSignature, ...] = Field((), max_length=MOST_KEPT)
    lost: bool = False
    days: Count | None = None
    whole: bool = False
    why: str = ""
    hits: int = Field(ge=1)
    pods: int = Field(ge=1)
    pods_read: Count = 0
    pods_all: Count = 0
    most_pods: Count = 0
    short: str = ""


def due_buckets(seen: LogSeen | None, closed: int, most: int) -> tuple[int, ...]:
    """Given what was seen and how many buckets are over, return those that nobody looked at yet, in order: the newest, so many at most."""
    errors = () if seen is None else seen.errors
    left = [number for number in range(min(closed, BUCKETS)) if number >= len(errors) or errors[number] is None]
    return tuple(left[-most:]) if most > 0 else ()


def logs_after(before: LogSeen | None, look: LogLook, *, bucket: int) -> LogSeen:
    """Given what was seen before, a look, and the bucket that was over last, return what was seen then. A bucket that was looked at before stays as it is."""
    told = {name: getattr(look, name) for name in ("days", "whole", "hits", "pods", "pods_read", "pods_all")}
    told["why"] = cut_to_bytes(look.why, _TEXT_BYTES)
    seen = before or LogSeen(kind=look.kind, first=look.first, **told)
    due = set(due_buckets(seen, bucket + 1, BUCKETS))
    fresh = {one.bucket: one for one in sorted(look.buckets, key=lambda one: one.bucket) if one.bucket in due}
    if not fresh:
        return seen
    errors = list(seen.errors) + [None] * (max(fresh) + 1 - len(seen.errors))
    for number, one in fresh.items():
        errors[number] = one.errors
    most_pods = max(seen.most_pods, look.pods_all)
    kept, lost = _merged(seen.new, [new for one in fresh.values() for new in one.new], look, most_pods)
    return seen.model_copy(
        update={
            **told,
            "errors": tuple(errors),
            "lines": seen.lines + sum(one.lines for one in fresh.values()),
            "silent": seen.silent + sum(not one.lines for one in fresh.values()),
            "unexamined": seen.unexamined + sum(max(0, one.errors - one.looked_at) for one in fresh.values()),
            "new": kept,
            "lost": seen.lost or lost,
            "most_pods": most_pods,
            "short": cut_to_bytes(look.short, _TEXT_BYTES) or seen.short,
        }
    )


def logs_findings(seen: LogSeen) -> tuple[Finding, ...]:
    """Given what was seen, return what to tell: each new error that came often enough, on enough Pods, and what is not known."""
    told = [one for one in seen.new if _is_told(one, seen.hits, seen.pods, seen.most_pods)]
    found = [_new_finding(one, seen) for one in told[:MOST_TOLD]]
    if len(told) > MOST_TOLD or seen.lost:
        more = f"{len(told) - MOST_TOLD} or more further kinds" if len(told) > MOST_TOLD else "Further kinds"
        found.append(_note(f"{more} of errors are new in the logs, too; look at the logs themselves"))
    return (*found, *(_note(text) for text in _unknowns(seen)))


def _merged(
    before: Sequence[NewSignature], fresh: Sequence[NewSignature], look: LogLook, most_pods: int
) -> tuple[tuple[NewSignature, ...], bool]:
    """What is kept of both, and whether anything was left out that may matter. Those that one signature fits become one."""
    listed = [*before, *(_bounded(one) for one in fresh)]
    groups: dict[str, list[NewSignature]] = {}
    for one, template in zip(listed, grouped([one.template for one in listed]), strict=True):
        groups.setdefault(template, []).append(one)
    merged = [_one_of(template, group) for template, group in groups.items()]
    enough = {one: _is_told(one, look.hits, look.pods, most_pods) for one in merged}
    merged.sort(key=lambda one: (not enough[one], -one.hits, one.bucket, one.template))
    return tuple(merged[:MOST_KEPT]), any(enough[one] for one in merged[MOST_KEPT:])


def _one_of(template: str, group: Sequence[NewSignature]) -> NewSignature:
    earliest = min(group, key=lambda one: one.bucket)
    names = list(dict.fromkeys(name for one in group for name in one.pods))
    return NewSignature(
        template=cut_to_bytes(template, _TEMPLATE_BYTES),
        hits=sum(one.hits for one in group),
        pods=tuple(names[:MOST_PODS]),
        more=len(names) > MOST_PODS or any(one.more for one in group),
        bucket=earliest.bucket,
        example=earliest.example,
    )


def _bounded(one: NewSignature) -> NewSignature:
    return one.model_copy(
        update={
            "template": cut_to_bytes(one.template, _TEMPLATE_BYTES),
            "example": cut_to_bytes(one.example, _TEXT_BYTES),
            "pods": tuple(cut_to_bytes(name, _NAME_BYTES) for name in one.pods),
        }
    )


def _is_told(one: NewSignature, hits: int, pods: int, most_pods: int) -> bool:
    """Of a version with one Pod, that one is enough."""
    enough = min(pods, max(1, most_pods))
    return one.hits >= hits and (one.more or len(one.pods) >= enough)


def _new_finding(one: NewSignature, seen: LogSeen) -> Finding:
    at = (seen.first + timedelta(minutes=BUCKET_MINUTES * one.bucket)).strftime("%H:%M UTC")
    many = f"{one.hits} times" + (" at least" if seen.unexamined else "")
    where = f"{_listed(one.pods)}{' and others' if one.more else ''}"
    text = f'New in the logs since {at} (bucket {one.bucket}): "{one.template}", {many}, on {where}; for example: {one.example}'
    if seen.days is not None and seen.days >= ENOUGH_DAYS and seen.whole:
        return Finding(severity="warning", text=f"{text}. It was not there in the {seen.days} days before")
    return _note(f"{text}. {_how_little(seen)}")


def _how_little(seen: LogSeen) -> str:
    days = f"{seen.days} day{'' if seen.days == 1 else 's'}" if seen.days else "less than a day"
    if seen.days is None or not seen.whole:
        return f"It may have been there before: only a part of {days} could be compared with" + (
            f" ({seen.why})" if seen.why else ""
        )
    return f"It may have been there before: only {days} could be compared with"


def _unknowns(seen: LogSeen) -> Iterable[str]:
    looked = [one for one in seen.errors if one is not None]
    if seen.days is None:
        yield f"Nothing is known of the logs before the release{f' ({seen.why})' if seen.why else ''}: which errors are new is not told"
    if looked and not seen.lines:
        yield "Not one line of the new version was found in the logs, which is not the same as no error: are they written, shipped, and the fields' names right?"
    elif seen.silent:
        yield f"In {seen.silent} of {len(looked)} looks at five minutes there was not one line of the new version in the logs"
    if seen.unexamined:
        yield f"{seen.unexamined} of {sum(looked)} error lines were counted only, not looked at for new ones: there were too many at once"
    if seen.short:
        yield f"At least once a part of the logs was not read: {seen.short}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "a Pod without a name"


def _note(text: str) -> Finding:
    return Finding(severity="note", text=text)
