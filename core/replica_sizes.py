"""How large each side of a shift has to be: the following one as large as the live one is now, and neither to be shrunk by its autoscaler meanwhile.

While traffic moves, the live side's load falls and its autoscaler would shrink it: no way back. So both autoscalers' minReplicas are pinned at the live
size, and what they were is kept on them. An autoscaler leaves a Deployment of 0 replicas alone (pkg/controller/podautoscaler/horizontal.go, "Autoscaling is
disabled for this resource"): a side is made, and retired, beside its own.
"""

from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

# On an autoscaler: its minReplicas before it was pinned, and what we set.
ORIGINAL = "nightshift.dev/original-min-replicas"
PINNED = "nightshift.dev/pinned-min-replicas"


@dataclass(frozen=True)
class Size:
    """How many Pods a side shall have, and what keeps it from having as many as the live side has ("" : nothing)."""

    replicas: int
    wanted: int
    limited_by: str = ""

    @property
    def is_enough(self) -> bool:
        """Whether the side can carry all of the traffic."""
        return self.replicas >= max(1, self.wanted)


def live_size(deployment: Document, autoscaler: Document | None) -> int:
    """Given the live Deployment and its autoscaler, return the size that its load asks for: what it has, or what its autoscaler just decided, if that is more."""
    replicas = deployment["spec"].get("replicas", 1)
    desired = int(((autoscaler or {}).get("status") or {}).get("desiredReplicas") or 0)
    # An autoscaler's last word is void while its target has no Pods.
    return int(replicas) if replicas == 0 else max(int(replicas), min(desired, _maximum(autoscaler, desired)))


def following_size(wanted: int, current: int, autoscaler: Document | None, room: int | None) -> Size:
    """Given the live size, the following side's size now, its autoscaler and how many more Pods the quotas allow (None: any number), return its size.

    Never more than its autoscaler's maximum, which would take the surplus away, nor than fits.
    """
    allowed, limited_by = wanted, "" if wanted else "the live side, which has no Pods"
    maximum = _maximum(autoscaler, wanted)
    if maximum < allowed:
        allowed, limited_by = maximum, f"maxReplicas {maximum} of its autoscaler"
    if room is not None and current + room < allowed:
        allowed, limited_by = current + room, f"a quota: {room} more Pods fit"
    return Size(allowed, wanted, limited_by)


def somebody_shrank(deployment: Document, least: int, autoscaler: Document | None) -> str:
    """Given a Deployment that was given `least` replicas, and its autoscaler, say what somebody else did to its size; "" when it is as large, or larger.

    An autoscaler may raise it, and lower it again to its own minimum.
    """
    if deployment["spec"].get("paused"):
        return "somebody paused it: nothing is rolled out in it until it is resumed"
    replicas = int(deployment["spec"].get("replicas", 1))
    floor = least if autoscaler is None else min(least, minimum(autoscaler))
    return "" if replicas >= floor else f"somebody scaled it to {replicas}; the release had {least}"


def pin_change(autoscaler: Document, size: int) -> Document | None:
    """Given an autoscaler and the live size, return the merge patch that keeps it from going below; None when it is pinned so already.

    Somebody else's change of minReplicas meanwhile counts: it is what is restored at the end, and the pin is not below it.
    """
    current, annotations = minimum(autoscaler), _annotations(autoscaler)
    ours = _number(annotations.get(PINNED))
    original = _number(annotations.get(ORIGINAL)) if ours == current else current
    original = current if original is None else original
    pinned = min(max(original, size), _maximum(autoscaler, max(original, size)))
    kept = {ORIGINAL: str(original), PINNED: str(pinned)}
    if pinned == current and kept.items() <= annotations.items():
        return None
    return {"metadata": {"annotations": kept}, "spec": {"minReplicas": pinned}}


def unpin_change(autoscaler: Document) -> Document | None:
    """Given an autoscaler, return the merge patch that restores its minReplicas; None when it is not pinned. Somebody else's change meanwhile is left."""
    annotations = _annotations(autoscaler)
    if not {ORIGINAL, PINNED} & annotations.keys():
        return None
    forget: Document = {"metadata": {"annotations": {ORIGINAL: None, PINNED: None}}}
    original = _number(annotations.get(ORIGINAL))
    if original is None or _number(annotations.get(PINNED)) != minimum(autoscaler):
        return forget
    return {**forget, "spec": {"minReplicas": original}}


def original_minimum(autoscaler: Document) -> int:
    """The minReplicas that an autoscaler has when it is not pinned."""
    annotations, current = _annotations(autoscaler), minimum(autoscaler)
    original = _number(annotations.get(ORIGINAL))
    return original if original is not None and _number(annotations.get(PINNED)) == current else current


def minimum(autoscaler: Document) -> int:
    """An autoscaler's minReplicas; 1 when it does not say."""
    value = autoscaler["spec"].get("minReplicas")
    return 1 if value is None else int(value)


def _maximum(autoscaler: Document | None, otherwise: int) -> int:
    return int(autoscaler["spec"]["maxReplicas"]) if autoscaler else otherwise


def _annotations(document: Document) -> dict[str, str]:
    return dict(document["metadata"].get("annotations") or {})


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
