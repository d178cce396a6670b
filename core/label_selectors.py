"""Label selectors: what they match, and the same selector for Pods whose labels have other values.

Semantics: Kubernetes API reference, LabelSelector; apimachinery pkg/apis/meta/v1/helpers.go, LabelSelectorAsSelector: no selector matches nothing, an empty
one everything. A Service's selector is a plain map: the endpoints controller (pkg/controller/endpoint) skips a Service without one, and no other.
"""

from typing import Any

Selector = dict[str, Any]
Labels = dict[str, str]


def selects(selector: Selector | None, labels: Labels) -> bool:
    """Given a selector (matchLabels, matchExpressions) and an object's labels, return whether it matches. An operator that we do not know: it may, so True."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def is_empty(selector: Selector | None) -> bool:
    """Whether a selector is there and matches everything."""
    return selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions")


def selected_keys(selector: Selector | None) -> frozenset[str]:
    """The labels by which a selector finds its objects."""
    expressions = (selector or {}).get("matchExpressions") or ()
    return frozenset((selector or {}).get("matchLabels") or {}) | {
        one["key"] for one in expressions if one.get("operator") == "In"
    }


def sends_to(service: dict[str, Any], labels: Labels) -> bool:
    """Given a Service, return whether it sends requests to Pods of these labels. An empty map, other than none, selects every Pod (pkg/controller/endpoint)."""
    selector = service["spec"].get("selector")
    return selector is not None and service["spec"].get("type") != "ExternalName" and selector.items() <= labels.items()


def rewritten(selector: Selector, old: Labels, new: Labels) -> Selector:
    """Given a selector and a Pod's labels before and after, return the selector that means the Pods with the new labels where it meant those with the old.

    A selector that does not match the old labels means other Pods, and stays: an affinity to a cache that shares one label. But one that says "none of
    mine" (NotIn) is told of the new values besides the old: it keeps its distance from neither.
    """
    means_own = selects(selector, old)
    made = dict(selector)
    if means_own and selector.get("matchLabels"):
        made["matchLabels"] = {key: _renamed(key, value, old, new) for key, value in selector["matchLabels"].items()}
    if selector.get("matchExpressions"):
        made["matchExpressions"] = [_expression(one, old, new, means_own) for one in selector["matchExpressions"]]
    return made


def _renamed(key: str, value: str, old: Labels, new: Labels) -> str:
    return new.get(key, value) if old.get(key) == value else value


def _expression(expression: Selector, old: Labels, new: Labels, means_own: bool) -> Selector:
    key, operator, values = expression["key"], expression.get("operator"), list(expression.get("values") or ())
    if old.get(key) == new.get(key):
        return expression
    if operator == "In" and means_own:
        return {**expression, "values": [_renamed(key, value, old, new) for value in values]}
    if operator == "NotIn" and old.get(key) in values and key in new:
        return {**expression, "values": sorted({*values, new[key]})}
    return expression


def _holds(expression: Selector, labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return True
