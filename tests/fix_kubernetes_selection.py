"""Label and field selectors, as the small Kubernetes API of the tests (fix_kubernetes) reads them."""

import re
from typing import Any

Document = dict[str, Any]

# A comma inside of brackets parts values, not terms.
_TERMS = re.compile(r",(?![^(]*\))")
_IN_SET = re.compile(r"(?P<key>\S+)\s+(?P<how>in|notin)\s+\((?P<values>[^)]*)\)")


def chosen(document: Document, query: dict[str, str]) -> bool:
    """Whether an object is one of those that a request's labelSelector and fieldSelector choose."""
    labels = document["metadata"].get("labels") or {}
    if not all(
        _label_holds(term.strip(), labels) for term in filter(None, _TERMS.split(query.get("labelSelector", "")))
    ):
        return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, differs, value = (*term.partition("!="),) if "!=" in term else (*term.partition("="),)
        if (_field(document, key) == value.removeprefix("=")) == (differs == "!="):
            return False
    return True


def matches(selector: dict[str, str] | None, labels: dict[str, str] | None) -> bool:
    """Whether labels have all that a selector (matchLabels) names. None and {} choose nothing, as with a Service."""
    return bool(selector) and selector.items() <= (labels or {}).items()


def _label_holds(term: str, labels: dict[str, str]) -> bool:
    if found := _IN_SET.fullmatch(term):
        among = labels.get(found["key"]) in {value.strip() for value in found["values"].split(",")}
        return among == (found["how"] == "in")
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, _, value = term.partition("=")
        return labels.get(key.strip()) == value.removeprefix("=").strip()
    return term.removeprefix("!") not in labels if term.startswith("!") else term in labels


def _field(document: Document, path: str) -> Any:
    value: Any = document
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    # The API server's default for what a Secret does not say.
    return "Opaque" if value is None and path == "type" else value
