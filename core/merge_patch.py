"""JSON merge patch (RFC 7386): the patch that makes one document into another, and what a patch does.

The rule for a side that exists already: what its new version has no more must vanish. A list is replaced as a whole, a key that is gone needs an explicit null.
"""

from typing import Any

Document = dict[str, Any]


def merge_patch(old: Document, new: Document) -> Document:
    """Given a document as it is and as it shall be, return the patch between them; {} when they are equal.

    A merge patch cannot say null: keys of `new` whose value is None count as absent (core.merge_patch.without_nulls).
    """
    patch: Document = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if after is None:
            if key in old:
                patch[key] = None
        elif isinstance(before, dict) and isinstance(after, dict):
            deeper = merge_patch(before, after)
            if deeper:
                patch[key] = deeper
        elif key not in old or not _same(before, after):
            patch[key] = after
    return patch


def apply_merge_patch(patch: Any, target: Any) -> Any:
    """Given a patch and a document, return the document as the API server makes it (RFC 7386, section 2). Neither is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge_patch(value, result.get(key))
    return result


def without_nulls(value: Any) -> Any:
    """Given a document as it was read, return it without keys that are null (`creationTimestamp: null` of a Pod template)."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    return value


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: to Python, True is 1, in lists and maps too."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)
