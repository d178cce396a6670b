"""What a watch knows of alerts: which fire since the release, which did before, and which nobody is told of. They advise; they decide nothing.

- **New**: it began after the watch did, and was not there before. When an alert began Prometheus says itself (`startsAt`, kept by Alertmanager through its own
  restarts, since it is sent again and again). A Prometheus that was restarted begins each alert anew: so one whose fingerprint was seen with an earlier begin is
  never new, it *began again*.
- **Already there**: it began before the watch did, whenever it was first seen.
- **Silenced or inhibited**: somebody, or another alert, keeps it from being told.

A fingerprint is the hash of an alert's labels (Alertmanager's API v2): it is one alert, however often it ends and begins. Each later begin is an *episode*. That an
alert is missing from a look ends nothing by itself: an Alertmanager that was restarted has none for a minute.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime

from core.evidence import Finding
from core.manifest import Record
from core.units import counted

State = Literal["active", "silenced", "inhibited"]
# What is kept of how many, so that a storm of alerts stays within 20 KB; what is left out is counted.
MOST_NEW, MOST_MUTED, MOST_AGAIN, MOST_KNOWN, MOST_OLD_NAMES = 12, 4, 4, 300, 5
MOST_KEPT = MOST_NEW + MOST_MUTED + MOST_AGAIN
# Bytes of a text as JSON, where a character takes up to twelve.
_NAME_BYTES, _ABOUT_BYTES, _SUMMARY_BYTES = 60, 160, 140
# Begins that differ by less are one: two Prometheus of a pair send the same alert some moments apart.
_SAME_BEGIN = timedelta(seconds=1)
_MOST_TOLD = 8


@dataclass(frozen=True)
class Alert:
    """An alert as one look found it. `about`: its labels but the name; `starts`: the begin of its newest episode."""

    fingerprint: str
    name: str
    about: str
    summary: str
    starts: datetime
    state: State


@dataclass(frozen=True)
class AlertsLook:
    """What one look found. `begun`: when the watch began. `heartbeat`: whether the alert that always fires is there; None: none is named."""

    begun: datetime
    alerts: tuple[Alert, ...]
    heartbeat: bool | None = None


class AlertSeen(Record):
    """An alert that is new, or began again. `first` and `last`: buckets in which it was seen. `fired`: it was active at a look. `state`: at the last one."""

    fingerprint: str
    name: str
    about: str
    summary: str
    new: bool
    starts: AwareDatetime
    episodes: int
    first: int
    last: int
    fired: bool
    state: State


class AlertsSeen(Record):
    """All that was seen of alerts since a watch began.

    `bucket`: of the newest look. `known`: fingerprints of alerts that began before the watch, `old` the most of them at one look. `more`: the most new ones at one look
    for which there was no room. `missed`: first and last bucket without the alert that always fires.
    """

    bucket: int
    any_seen: bool = False
    known: tuple[str, ...] = ()
    old: int = 0
    old_names: tuple[str, ...] = ()
    alerts: tuple[AlertSeen, ...] = ()
    more: int = 0
    missed: tuple[int, int] | None = None


def alerts_after(before: AlertsSeen | None, look: AlertsLook, *, bucket: int) -> AlertsSeen:
    """Given what was seen so far (None: nothing yet) and one look, return what is seen now. The same look again changes nothing."""
    before = before or AlertsSeen(bucket=bucket)
    found = {one.fingerprint: one for one in sorted(look.alerts, key=_weight)}
    kept = {
        one.fingerprint: _met(one, found[one.fingerprint], bucket) if one.fingerprint in found else one
        for one in before.alerts
    }
    earlier = {one.fingerprint for one in found.values() if one.starts <= look.begun} - kept.keys()
    known = dict.fromkeys(before.known)
    more = 0
    for one in sorted(found.values(), key=_urgency):
        if one.fingerprint in kept or one.fingerprint in earlier:
            continue
        new = one.fingerprint not in known
        if _has_room(kept.values(), one, new=new):
            kept[one.fingerprint] = _first_seen(one, bucket, new=new)
        else:
            more += new
    old = sorted((one.name, one.fingerprint) for one in found.values() if one.fingerprint in earlier)
    names = dict.fromkeys((*before.old_names, *(fitted(name, _NAME_BYTES) for name, _ in old)))
    known.update(dict.fromkeys(fingerprint for _, fingerprint in old))
    return AlertsSeen(
        bucket=max(before.bucket, bucket),
        any_seen=before.any_seen or bool(found),
        known=tuple(known)[:MOST_KNOWN],
        old=max(before.old, len(old)),
        old_names=tuple(names)[:MOST_OLD_NAMES],
        alerts=tuple(kept.values()),
        more=max(before.more, more),
        missed=_missed(before.missed, bucket) if look.heartbeat is False else before.missed,
    )


def alerts_findings(seen: AlertsSeen) -> tuple[Finding, ...]:
    """What an engineer should know of the alerts: a warning for each new one, and a note for what else there was."""
    new = [one for one in seen.alerts if one.new and one.fired]
    muted = [one for one in seen.alerts if one.new and not one.fired]
    again = [one for one in seen.alerts if not one.new]
    findings = [Finding(severity="warning", text=_new_text(one, seen.bucket)) for one in new[:_MOST_TOLD]]
    left = len(new) - _MOST_TOLD
    if left > 0 or seen.more:
        findings.append(Finding(severity="warning", text=f"{_more_text(left, seen.more)} since the release"))
    if seen.missed is not None:
        first, last = seen.missed
        when = f"in bucket {first}" if first == last else f"first in bucket {first}, last in bucket {last}"
        text = f"the alert that always fires ([watch.alerts] heartbeat) was not there, {when}: alerts did not reach Alertmanager then, and that none fired says nothing"
        findings.append(Finding(severity="warning", text=text))
    if muted:
        text = f"{counted(len(muted), 'new alert')} nobody is told of: {_listed(f'{one.name} ({one.state})' for one in muted)}"
        findings.append(Finding(severity="note", text=text))
    findings += [Finding(severity="note", text=_again_text(one, seen.bucket)) for one in again]
    if seen.old:
        text = f"{counted(seen.old, 'alert')} fired before the release already: {_listed(seen.old_names, seen.old)}"
        findings.append(Finding(severity="note", text=text))
    if not seen.any_seen:
        text = "Alertmanager had no alert at all that [watch.alerts] matchers name; when they name none rightly, that is no news either"
        findings.append(Finding(severity="note", text=text))
    return tuple(findings)


def fitted(text: str, size: int) -> str:
    """Given words from outside, return them on one line without what cannot be printed, in so many bytes of JSON at most."""
    line = "".join(one for one in " ".join(text.split()) if one.isprintable())
    if _size(line) <= size:
        return line
    while _size(line) > size - len("\\u2026"):
        # By half of what is too much: a character takes 12 bytes at most.
        line = line[: -max(1, (_size(line) - size) // 12)]
    return f"{line}…"


def _size(text: str) -> int:
    return len(json.dumps(text)) - 2


def _met(one: AlertSeen, found: Alert, bucket: int) -> AlertSeen:
    begins = found.starts - one.starts > _SAME_BEGIN
    return one.model_copy(
        update={
            "starts": found.starts if begins else one.starts,
            "episodes": one.episodes + begins,
            "last": max(one.last, bucket),
            "fired": one.fired or found.state == "active",
            "state": found.state,
            "summary": fitted(found.summary, _SUMMARY_BYTES) or one.summary,
        }
    )


def _first_seen(found: Alert, bucket: int, *, new: bool) -> AlertSeen:
    return AlertSeen(
        fingerprint=found.fingerprint,
        name=fitted(found.name, _NAME_BYTES),
        about=fitted(found.about, _ABOUT_BYTES),
        summary=fitted(found.summary, _SUMMARY_BYTES),
        new=new,
        starts=found.starts,
        # One that was there before has had an episode already.
        episodes=1 if new else 2,
        first=bucket,
        last=bucket,
        fired=found.state == "active",
        state=found.state,
    )


def _has_room(kept: Iterable[AlertSeen], found: Alert, *, new: bool) -> bool:
    alike = [(one.new, one.new and not one.fired) for one in kept]
    muted = new and found.state != "active"
    most = (MOST_MUTED if muted else MOST_NEW) if new else MOST_AGAIN
    return len(alike) < MOST_KEPT and alike.count((new, muted)) < most


def _weight(one: Alert) -> tuple[bool, datetime]:
    """Of two with one fingerprint the last counts: the active one, then the newest."""
    return one.state == "active", one.starts


def _urgency(one: Alert) -> tuple[bool, datetime, str]:
    return one.state != "active", one.starts, one.fingerprint


def _missed(before: tuple[int, int] | None, bucket: int) -> tuple[int, int]:
    first, last = before or (bucket, bucket)
    return min(first, bucket), max(last, bucket)


def _new_text(one: AlertSeen, bucket: int) -> str:
    summary = f': "{one.summary}"' if one.summary else ""
    return f"alert {one.name} since the release, {_when(one, bucket)} ({one.about or 'no labels'}){summary}"


def _again_text(one: AlertSeen, bucket: int) -> str:
    return f"alert {one.name}, which fired before the release already, began again, {_when(one, bucket)} ({one.about or 'no labels'})"


def _when(one: AlertSeen, bucket: int) -> str:
    seen = f"first seen in bucket {one.first}"
    episodes = f", {one.episodes} episodes" if one.episodes > 1 else ""
    began = f"began {one.starts:%Y-%m-%d %H:%M} UTC, {seen}{episodes}"
    if one.last < bucket:
        return f"{began}, gone after bucket {one.last}"
    return f"{began}, still firing" if one.state == "active" else f"{began}, now {one.state}"


def _more_text(left: int, more: int) -> str:
    if left > 0 and more:
        return f"{left + more} or more further alerts"
    return f"{left} further alerts" if left > 0 else f"{counted(more, 'further alert')} or more"


def _listed(names: Iterable[str], total: int | None = None) -> str:
    shown = tuple(names)[:MOST_OLD_NAMES]
    return ", ".join(shown) + ("…" if (total or 0) > len(shown) else "")
