"""Changing a workload from the template that a release found to the one that it wants, or back: never from one that is neither."""

from typing import Any

from core.errors import PermanentError
from core.merge_patch import merge_patch
from core.release_plan import COMMIT, Target, images_of, template_of, template_patch

Document = dict[str, Any]


class ForeignChangeError(PermanentError):
    """Somebody else changed what a release is changing."""


def template_change(document: Document, target: Target, *, forward: bool, commit: str, on: str) -> Document | None:
    """Given a workload as it is, return the patch to what the release wants of it (`forward`) or to what it found; None when it is so already.

    Raise ForeignChangeError when it is neither: somebody else changed it meanwhile, and theirs is not overwritten.
    """
    current = template_of(document)
    wanted, other = (target.after, target.before) if forward else (target.before, target.after)
    annotation = commit if forward else target.commit_before
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    if current not in (wanted, other):
        raise ForeignChangeError(
            "change the Pod template",
            on,
            f"it is neither what the release found nor what it wants: {_told_difference(current, target)}",
            "Somebody else changes it too: find out who (kubectl get --show-managed-fields), then start again",
        )
    noted = (
        {} if annotations.get(COMMIT, "") == annotation else {"metadata": {"annotations": {COMMIT: annotation or None}}}
    )
    changed = {} if current == wanted else template_patch(target.kind, merge_patch(current, wanted))
    return {**noted, **changed} or None


def suspend_change(document: Document, *, suspended: bool) -> Document | None:
    """Given a CronJob as it is, return the patch that suspends it or lets it go on; None when it is so already."""
    is_suspended = bool((document.get("spec") or {}).get("suspend"))
    return None if is_suspended == suspended else {"spec": {"suspend": suspended}}


def _told_difference(current: Document, target: Target) -> str:
    images, wanted, found = images_of(current), images_of(target.after), images_of(target.before)
    for name, image in images.items():
        if image not in (wanted.get(name), found.get(name)):
            return f"container {name} runs {image}"
    keys = sorted({*_leaves(merge_patch(target.before, current))} & {*_leaves(merge_patch(target.after, current))})
    return f"{', '.join(keys[:5]) or 'something'} of its template changed"


def _leaves(patch: Document, path: str = "") -> list[str]:
    found: list[str] = []
    for key, value in patch.items():
        here = f"{path}.{key}" if path else key
        found += _leaves(value, here) if isinstance(value, dict) and value else [here]
    return found
