"""How large each side of a shift has to be: the following one as large as the live one is now, and neither to be shrunk by its autoscaler meanwhile.

While traffic moves, the live side's load falls and its autoscaler would shrink it: no way back. So both autoscalers' minReplicas are pinned at the live
size, and what they were is kept on them. An autoscaler leaves a Deployment of 0 replicas alone (pkg/controller/podautoscaler/horizontal.go, "Autoscaling is
disabled for this resource"): a side is made, and retired, beside its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
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


def weight_allowed(ready: int, wanted: int) -> int:
    """Given a side's ready Pods and the live size, return the greatest share of the traffic (percent) that it can carry."""
    return 100 if wanted <= 0 and ready > 0 else min(100, 100 * ready // max(1, wanted))


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


def quota_room(template: Document, quotas: Iterable[Document]) -> int | None:
    """Given a Pod template and the namespace's quotas, return how many more such Pods they allow; None when they limit none.

    Counted are pods, count/pods, and the containers' requests and limits of cpu and memory; quotas with scopes are not looked at (ResourceQuota, Kubernetes
    documentation). Init containers count only where one alone asks for more than all containers together.
    """
    rooms = []
    for quota in quotas:
        spec = quota.get("spec") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        used = (quota.get("status") or {}).get("used") or {}
        for name, hard in (spec.get("hard") or {}).items():
            each = _asked(template, name)
            if each > 0:
                rooms.append(int(max(Decimal(0), quantity(hard) - quantity(used.get(name, "0"))) // each))
    return min(rooms, default=None)


def quantity(text: str) -> Decimal:
    """Given a Kubernetes quantity (250m, 1.5, 64Mi, 1e3), return its value (apimachinery, pkg/api/resource/quantity.go)."""
    text = str(text)
    for suffix, factor in _SUFFIXES.items():
        if text.endswith(suffix):
            return Decimal(text.removesuffix(suffix)) * factor
    return Decimal(text)


_SUFFIXES = {
    **{f"{letter}i": Decimal(1024) ** (power + 1) for power, letter in enumerate("KMGTPE")},
    **{letter: Decimal(1000) ** (power + 1) for power, letter in enumerate("kMGTPE")},
    "m": Decimal("0.001"),
    "u": Decimal("0.000001"),
    "n": Decimal("0.000000001"),
}


def _asked(template: Document, name: str) -> Decimal:
    if name in {"pods", "count/pods"}:
        return Decimal(1)
    # "cpu" is short for "requests.cpu".
    part, _, resource = name.rpartition(".")
    if resource not in {"cpu", "memory"} or part not in {"", "requests", "limits"}:
        return Decimal(0)

    def of(container: Document) -> Decimal:
        resources = container.get("resources") or {}
        # The API server takes limits for requests that are not said.
        asked = (resources.get(part or "requests") or {}).get(resource)
        return quantity(asked or (resources.get("limits") or {}).get(resource, "0"))

    spec = template["spec"]
    together = sum((of(one) for one in spec.get("containers") or ()), Decimal(0))
    return max([together, *(of(one) for one in spec.get("initContainers") or ())])


def _maximum(autoscaler: Document | None, otherwise: int) -> int:
    return int(autoscaler["spec"]["maxReplicas"]) if autoscaler else otherwise


def _annotations(document: Document) -> dict[str, str]:
    return dict(document["metadata"].get("annotations") or {})


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
