"""How traffic is split between the two sides of a blue-green release, how it may move, and when somebody else moved it.

The rules: a shift only ever gives the new side more, step by step; a compensation only ever gives it less; and the old side gets no more than its ready Pods
can take. A split that is neither the one before nor the one wanted is somebody else's work: then nothing is written.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from core.errors import PermanentError
from core.fence import Document
from core.manifest import Record

Percent = Annotated[int, Field(ge=0, le=100)]
_READ = "read the traffic split"


class Side(Record):
    """One side: what it is called, its Service and that one's port, and the labels that its Pods have and the other's have not."""

    name: str
    service: str
    port: int
    selector: dict[str, str]


class Split(Record):
    """The share of all requests that each Service gets, in percent; what gets none is left out, so two splits are equal when they do the same."""

    percent: dict[str, Percent]

    @field_validator("percent")
    @classmethod
    def _whole(cls, percent: dict[str, int]) -> dict[str, int]:
        if sum(percent.values()) != 100:
            raise ValueError("the shares must add up to 100")
        return {service: share for service, share in sorted(percent.items()) if share}

    def of(self, service: str) -> int:
        """The share of a Service."""
        return self.percent.get(service, 0)

    def __str__(self) -> str:
        return ", ".join(f"{service} {share} %" for service, share in self.percent.items())


class Effective(Record):
    """Whether the balancer does what was written. pending: not yet. refused: it will not, until somebody changes something."""

    state: Literal["effective", "pending", "refused"]
    found: str


def worst(*found: Effective) -> Effective:
    """Given several judgements, return one: the first that refuses, else the first that is pending, else all of them in one sentence."""
    for state in ("refused", "pending"):
        for one in found:
            if one.state == state:
                return one
    return Effective(state="effective", found="; ".join(one.found for one in found))


def split_between(live: Side, following: Side, percent: int) -> Split:
    """The split that gives the following side so many percent, and the live one the rest."""
    return Split(percent={live.service: 100 - percent, following.service: percent})


def split_of_weights(weights: Mapping[str, int], *, on: str) -> Split:
    """Given weights, which are proportions, return the split. Raise PermanentError when they add up to nothing, or are no whole percents (so not ours)."""
    total = sum(weights.values())
    listed = ", ".join(f"{service} {weight}" for service, weight in weights.items())
    if total <= 0:
        next_step = "Set the weights by hand, so that one side serves"
        raise PermanentError(_READ, on, f"the weights ({listed}) add up to 0: no request is served", next_step)
    if any(100 * weight % total for weight in weights.values()):
        next_step = "Set weights that are whole percents by hand, if this split is wanted"
        raise PermanentError(_READ, on, f"the weights ({listed}) are no whole percents, so not ours", next_step)
    return Split(percent={service: 100 * weight // total for service, weight in weights.items()})


def lowered(found: Split, live: Side, following: Side, percent: int) -> Split:
    """The split of a compensation: the following side gets at most so many percent, and never more than it has."""
    return split_between(live, following, min(percent, found.of(following.service)))


def allowed_weight(ready: int, full: int, wanted: int, has: int = 0) -> int:
    """Given how many of the `full` Pods that all traffic needs are ready, return the share in percent (at most `wanted`) that they can take.

    Never less than the side has already: this rule is for giving it more.
    """
    capacity = 100 if ready >= full > 0 else 100 * ready // full if full > 0 else 0
    return min(wanted, max(has, capacity))


def must_write(found: Split, expected: Split, wanted: Split, *, on: str) -> bool:
    """Given the split as read, return whether the wanted one is still to be written (False: it is there). Raise PermanentError when somebody else moved it."""
    if found == wanted:
        return False
    if found == expected:
        return True
    told = f"it is {found}; expected was {expected}, to be changed to {wanted}"
    next_step = "Somebody else moved the traffic: find out who, put it back or end this release; nothing was written"
    raise PermanentError("shift traffic", on, told, next_step)


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector takes Pods with these labels. One that is empty takes none: a Service without selector has no Pods."""
    return bool(selector) and selector.items() <= labels.items()


def service_split(service: Document, live: Side, following: Side, *, on: str) -> Split:
    """Given a Service, return the split that its selector makes. Raise PermanentError when it takes the Pods of both sides, or of neither."""
    selector = service.get("spec", {}).get("selector") or {}
    taken = [side for side in (live, following) if selects(selector, side.selector)]
    if len(taken) == 1:
        return Split(percent={taken[0].service: 100})
    listed = ", ".join(f"{key}={value}" for key, value in sorted(selector.items())) or "empty"
    which = "the Pods of both sides" if taken else f"neither those of {live.name} nor those of {following.name}"
    raise PermanentError(
        _READ, on, f"its selector ({listed}) takes {which}", "Set the selector by hand to one side's labels"
    )


def service_patch(service: Document, live: Side, following: Side, wanted: Split) -> Document:
    """The merge patch that makes a Service's selector that of the side which gets everything. Raise ValueError for any other split."""
    chosen = {100: following, 0: live}.get(wanted.of(following.service))
    if chosen is None or wanted.of(chosen.service) != 100:
        raise ValueError(f"a Service's selector cannot split: {wanted}")
    old = service.get("spec", {}).get("selector") or {}
    gone: dict[str, str | None] = {key: None for key in old if key not in chosen.selector}
    return {"spec": {"selector": {**gone, **chosen.selector}}}
