"""A release and its watch as annotations of Grafana (its HTTP API, "Annotations"): when the new version had all of the traffic, and how the day after went.

A release has one of each kind: its id and the kind are tags, by which it is found again before another one is made. The tags `nightshift` and `release` are those that
deployments/observability/platform-dashboard.json shows.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from core.container_trouble import cut
from core.manifest import Record

SHOWN_TAGS = ("nightshift", "release")
Kind = Literal["hand-over", "watch"]
_LONGEST_TEXT = 500


class Annotation(Record):
    """What Grafana shows. Times in milliseconds since the epoch; `end` None: a moment, else a region. `identity`: the tags by which it is found again."""

    kind: Kind
    release_id: str
    begin: int
    end: int | None
    identity: tuple[str, ...]
    text: str


def handed_over(environment: str, release_id: str, at: datetime, text: str) -> Annotation:
    """Given a release that has handed over, and a sentence about it, return its annotation."""
    return _annotation("hand-over", environment, release_id, (at, None), text)


def watched(environment: str, release_id: str, first: datetime, last: datetime, text: str) -> Annotation:
    """Given the begin of a watch's first bucket, the end of its last one, and its verdict in a sentence, return the annotation of that region."""
    return _annotation("watch", environment, release_id, (first, last), text)


def document_of(
    annotation: Annotation, *, tags: Sequence[str] = (), dashboard_uid: str | None = None
) -> dict[str, Any]:
    """The body of POST /api/annotations."""
    document: dict[str, Any] = {
        "time": annotation.begin,
        "tags": list(dict.fromkeys((*annotation.identity, *tags))),
        "text": annotation.text,
    }
    if annotation.end is not None:
        document["timeEnd"] = annotation.end
    if dashboard_uid is not None:
        document["dashboardUID"] = dashboard_uid
    return document


def number_of(found: Any, annotation: Annotation) -> int | None:
    """Given what GET /api/annotations answered, return the id of the annotation that is this one; None when it is not there.

    Raise KeyError, TypeError or ValueError for an answer of another form.
    """
    if not isinstance(found, list):
        raise TypeError("no list")
    for one in found:
        if set(annotation.identity) <= set(one["tags"] or ()):
            return int(one["id"])
    return None


def _annotation(
    kind: Kind, environment: str, release_id: str, times: tuple[datetime, datetime | None], text: str
) -> Annotation:
    begin, end = times
    return Annotation(
        kind=kind,
        release_id=release_id,
        begin=_milliseconds(begin),
        # A region that ends where it begins Grafana shows as a moment, which it then is.
        end=None if end is None else max(_milliseconds(begin), _milliseconds(end)),
        identity=(*SHOWN_TAGS, release_id, kind, environment),
        # Grafana refuses an empty text.
        text=cut(text, _LONGEST_TEXT) or f"{environment}: release {release_id}",
    )


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
