"""What to change of an object of the following side that exists already, so that an old colour from two releases ago becomes the new version."""

from typing import Any

from core.colour_pair import DEPLOYMENT_FIELDS, OWN_PREFIX
from core.colour_surroundings import SERVICE_FIELDS
from core.errors import PermanentError
from core.merge_patch import merge_patch, without_nulls
from core.replica_sizes import PINNED

Document = dict[str, Any]

# The fields that we own as a whole, so that what is gone from the live side vanishes; of the other kinds all.
_OWNED = {"Deployment": frozenset((*DEPLOYMENT_FIELDS, "paused")), "Service": frozenset(SERVICE_FIELDS)}


def is_ours(current: Document, wanted: Document) -> bool:
    """Whether an object that has the name of a wanted one is that one: every mark of ours that the wanted one carries it carries."""
    marks = {key: value for key, value in wanted["metadata"]["labels"].items() if key.startswith(OWN_PREFIX)}
    return bool(marks) and marks.items() <= (current["metadata"].get("labels") or {}).items()


def following_change(current: Document, wanted: Document) -> Document | None:
    """Given an object of the following side as it is and as derived, return the merge patch that is needed; None when it is so already.

    Never replicas, nor the minReplicas of an autoscaler that is pinned (core.replica_sizes). Labels and annotations are added to, not taken away: they may be
    others'. Raise PermanentError when the object is not ours, when a Deployment's selector differs, which nobody can change, or a configuration copy's content.
    """
    kind, on = wanted["kind"], f"{wanted['kind'].lower()}/{wanted['metadata']['name']}"
    if not is_ours(current, wanted):
        found = "an object of that name is there, and it does not carry our labels: somebody else made it"
        raise PermanentError("make a side", on, found, "Rename or remove it; nothing of it was changed")
    if kind == "ConfigMap":
        _check_copy(current, wanted, on)
    if kind == "Deployment" and without_nulls(current["spec"]["selector"]) != wanted["spec"]["selector"]:
        found = "its selector is another than the live side's labels ask for, and a selector cannot be changed"
        raise PermanentError(
            "bring up to date", on, found, "While it has no traffic, delete it; the release makes it anew"
        )
    pinned = PINNED in (current["metadata"].get("annotations") or {})
    spec = merge_patch(_owned(current, kind, pinned), _owned(wanted, kind, pinned))
    metadata = {
        part: missing
        for part in ("labels", "annotations")
        if (missing := _missing(current["metadata"].get(part) or {}, wanted["metadata"].get(part) or {}))
    }
    patch = {**({"metadata": metadata} if metadata else {}), **({"spec": spec} if spec else {})}
    return patch or None


def _owned(document: Document, kind: str, pinned: bool) -> Document:
    owned = _OWNED.get(kind)
    spec = without_nulls(document.get("spec") or {})
    chosen = {key: value for key, value in spec.items() if owned is None or key in owned}
    if pinned:
        chosen.pop("minReplicas", None)
    if kind == "Service":
        # Numbers that the API server gave out stay.
        chosen["ports"] = [{key: value for key, value in one.items() if key != "nodePort"} for one in spec["ports"]]
    return chosen


def _missing(there: Document, wanted: Document) -> Document:
    # What an autoscaler is pinned at, pins alone change once it is.
    return {
        key: value for key, value in wanted.items() if there.get(key) != value and not (key == PINNED and key in there)
    }


def _check_copy(current: Document, wanted: Document, on: str) -> None:
    """A copy's name holds its content's hash; one that was made otherwise and altered is not it."""
    if any((current.get(part) or {}) != (wanted.get(part) or {}) for part in ("data", "binaryData")):
        raise PermanentError(
            "take configuration along",
            on,
            "its content is not what its name says",
            "Delete it if no Pod reads it; the release makes it anew",
        )
