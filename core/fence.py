"""Fencing: how a holder of an environment's lease that was asleep is kept from writing.

The API server knows nothing of our lease. So each new holder stamps its number, greater than every one before, on each object that it may change,
and every later write carries the resourceVersion of a read that showed this number. A holder that wakes up after another took over meets 409, reads,
sees the other number, and stops. (Fencing tokens: M. Kleppmann, "How to do distributed locking", 2016. resourceVersion: Kubernetes API conventions,
"Concurrency control and consistency".)
"""

from dataclasses import dataclass
from typing import Any

from core.errors import PermanentError

Document = dict[str, Any]

FENCE = "nightshift.dev/fence"
RELEASE = "nightshift.dev/release"
# Which environment an object is managed for; on what nightshift makes itself, a label.
ENVIRONMENT = "nightshift.dev/environment"


class FencedError(PermanentError):
    """Another holder took over: this one must not write any more."""


@dataclass(frozen=True)
class Fence:
    """A holder's right to write: which release (or recovery) it is, and its number."""

    environment: str
    holder: str
    number: int

    def annotations(self) -> dict[str, str]:
        """What a stamped object carries."""
        return {FENCE: str(self.number), RELEASE: self.holder}


def fence_number(document: Document) -> int:
    """The number stamped on an object; 0 when there is none, or none that can be read."""
    stamped = ((document.get("metadata") or {}).get("annotations") or {}).get(FENCE, "")
    return int(stamped) if stamped.isascii() and stamped.isdigit() else 0


def fence_holder(document: Document) -> str:
    """Who stamped an object; "" when nobody did."""
    return str(((document.get("metadata") or {}).get("annotations") or {}).get(RELEASE, ""))


def check_stamp(document: Document, fence: Fence, *, on: str) -> None:
    """Given an object as it was read, raise FencedError unless it carries this holder's number."""
    number = fence_number(document)
    if number == fence.number and fence_holder(document) == fence.holder:
        return
    found = f"it carries number {number} of {fence_holder(document) or 'nobody'}, and ours is {fence.number}"
    raise FencedError(
        f"write for {fence.holder}",
        on,
        found,
        "Another release or recovery took over: look at its run; this one changed nothing more",
    )


def check_may_stamp(document: Document, fence: Fence, *, on: str) -> None:
    """Given an object as it was read, raise FencedError when a later holder stamped it already."""
    number = fence_number(document)
    if number > fence.number or (number == fence.number and fence_holder(document) not in {"", fence.holder}):
        found = f"it carries number {number} of {fence_holder(document) or 'nobody'}, and ours is {fence.number}"
        raise FencedError(
            f"take over for {fence.holder}", on, found, "A later release or recovery holds it: look at its run"
        )
