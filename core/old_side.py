"""Whether the side that served before may take the traffic back: only while it is what the release found.

Its Pod template may have been changed by somebody else since. Then it is a third state, which nobody checked: what serves well is not given up for it.
"""

from dataclasses import dataclass
from typing import Any, Literal

from core.merge_patch import without_nulls
from core.release_journal import Journal
from core.release_plan import SidesPlan, images_of

Document = dict[str, Any]
Way = Literal["go back", "leave it", "hold", "give it all the same"]

# By these words a journal tells that somebody was told of it.
THIRD = "somebody else changed the old side"
# `kubectl rollout restart` writes it: the same version, begun anew.
_RESTARTED = "kubectl.kubernetes.io/restartedAt"


@dataclass(frozen=True)
class OldSide:
    """What is seen when the traffic is to go back. `changed`: how the old side differs from what the release found, "" for not at all.

    share: what the new side has of the traffic (percent). moved: whether this release ever began to shift it. new_serves, old_serves: whether it has a ready Pod,
    and none that answers ill. accepted: whether a person who was told of the change says back all the same.
    """

    changed: str
    share: int
    moved: bool
    new_serves: bool
    old_serves: bool
    accepted: bool


def way_of(seen: OldSide) -> Way:
    """Given what is seen, return what the way back is.

    Where the release moved no traffic, what somebody changed of the side that serves is his own affair: it is left, and told. Once it moved some, the new side
    keeps it as long as it serves. Where it does not, an old side that serves, whatever it runs, is better than none; and the new side is kept beside it.
    """
    if not seen.changed or seen.accepted:
        return "go back"
    if not seen.moved and not seen.share:
        return "leave it"
    if seen.share and not seen.new_serves and seen.old_serves:
        return "give it all the same"
    return "hold"


def told_change(name: str, current: Document, before: Document) -> str:
    """Given the Pod template of the old side as it is and as the release found it, return in a sentence how it differs; "" when it is the same version."""
    now, found = _version(current), _version(before)
    if now == found:
        return ""
    images = sorted({*images_of(now).values()} - {*images_of(found).values()})
    runs = f"it runs {', '.join(images)}" if images else "its Pod template is not what the release found"
    return f"{THIRD} {name}: {runs}"


def told_of(sides: SidesPlan, seen: OldSide) -> str:
    """Why the traffic is where it is, in a sentence."""
    new = f"{sides.following_name} has {seen.share} % of the traffic"
    if way_of(seen) == "give it all the same":
        return f"{seen.changed}; {sides.following_name} does not serve, so {sides.live_name} took the traffic all the same: it is not the version of before"
    serves = "serves" if seen.new_serves else "does not serve, and neither does the old side"
    where = f"{new} and {serves}" if seen.share else f"{sides.live_name} has all of the traffic already"
    return f"{seen.changed}; {where}: neither traffic nor Pods are touched"


def next_step_of(namespace: str, environment: str, release_id: str, sides: SidesPlan) -> str:
    """What a person does about it."""
    undo = f"kubectl -n {namespace} rollout undo deployment/{sides.live_name}"
    taken = f"nightshift release-recovery {environment} {release_id} --decision back --reason …"
    return f"Put it back to what it was ({undo}), and the sweep goes on; or, to take it as it is: {taken}"


def began_to_move(journal: Journal | None) -> bool:
    """Whether a release's traffic was, or may have been, moved by it. Without a journal nobody knows: it may."""
    return (
        journal is None
        or journal.kind == "rollback"
        or any(one.event == "intent" and one.step.startswith("shift ") for one in journal.entries)
    )


def accepted_by(journal: Journal | None) -> bool:
    """Whether a person said back after the journal told of somebody else's change."""
    entries = journal.entries if journal is not None else ()
    told = next((one.number for one in entries if THIRD in str(one.facts.get("why", "")) and one.event in _TOLD), None)
    return told is not None and any(
        one.event == "decided" and one.facts.get("what") == "go back" and one.number > told for one in entries
    )


_TOLD = frozenset({"held", "failed"})


def _version(template: Document) -> Document:
    found: Document = without_nulls(template)
    metadata = dict(found.get("metadata") or {})
    annotations = {key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key != _RESTARTED}
    return {**found, "metadata": {**metadata, **({"annotations": annotations} if annotations else {})}}
