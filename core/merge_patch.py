"""JSON merge patches (RFC 7386): the difference of two documents, and what applying it gives."""

from typing import Any

Document = dict[str, Any]


def difference(old: Document, new: Document) -> Document:
    """Given two documents, return the merge patch that makes the new one of the old one. Lists are replaced as a whole; a key that is gone becomes null.

    A null inside `new` cannot be told by a merge patch; Kubernetes drops them when it stores, so that none is read.
    """
    patch: Document = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if deeper := difference(before, value):
                patch[key] = deeper
        elif key not in old or before != value:
            patch[key] = value
    return patch


def merged(target: Any, patch: Any) -> Any:
    """Given a document and a merge patch, return the patched document (RFC 7386, section 2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
