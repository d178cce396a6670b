"""How the small Kubernetes API of the tests changes a document: JSON merge patch (RFC 7386), and Kubernetes' strategic merge patch as far as releases use it."""

import copy
from typing import Any

Document = dict[str, Any]

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
# The patchMergeKey of each list that has one (k8s.io/api, core/v1 and apps/v1 types.go). `ports`: of a container, or of a Service.
_MERGE_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey",),
}
_DIRECTIVE = "$patch"


def merged(there: Document, patch: Document) -> Document:
    """Given a document and a JSON merge patch, return the document as changed: null removes, lists are replaced."""
    result = dict(there)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def strategically_merged(there: Document, patch: Document) -> Document:
    """Given a document and a strategic merge patch, return the document as changed: lists with a merge key are merged by it, the others replaced.

    Directives: `$patch: delete` and `$patch: replace`; the order of lists ($setElementOrder) and $retainKeys are passed over.
    """
    if patch.get(_DIRECTIVE) == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    result = dict(there)
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None or (isinstance(value, dict) and value.get(_DIRECTIVE) == "delete"):
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = strategically_merged(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, list) and (merge_key := _merge_key(key, value)):
            result[key] = _merged_list(result.get(key) or [], value, merge_key)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merge_key(name: str, items: list[Any]) -> str:
    """The key by which the items of a list are told apart; "" for lists that are replaced as a whole."""
    candidates = _MERGE_KEYS.get(name, ())
    return next((key for key in candidates if items and all(isinstance(one, dict) and key in one for one in items)), "")


def _merged_list(there: list[Document], items: list[Document], key: str) -> list[Document]:
    result = [dict(one) for one in there]
    added = []
    for item in items:
        position = next((index for index, one in enumerate(result) if one.get(key) == item[key]), None)
        if item.get(_DIRECTIVE) == "delete":
            if position is not None:
                result.pop(position)
        elif position is None:
            added.append(strategically_merged({}, item))
        else:
            result[position] = strategically_merged(result[position], item)
    # As the API server orders them: what a patch adds comes before what it does not name.
    return [*added, *result]
