"""The patch between two documents (RFC 7386)."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.merge_patch import apply_merge_patch, merge_patch, without_nulls

_KEYS = st.sampled_from(["a", "b", "c", "image", ""])
_LEAVES = st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 2.5]) | st.text("xy", max_size=2)
_VALUES = st.recursive(
    _LEAVES, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(_KEYS, deeper, max_size=3), max_leaves=12
)
_DOCUMENTS = st.dictionaries(_KEYS, _VALUES, max_size=4)


def as_json(value: Any) -> Any:
    """The same, with true told from 1."""
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list) else (isinstance(value, bool), value)


@given(old=_DOCUMENTS, new=_DOCUMENTS)
def test_the_patch_between_two_documents_makes_the_one_into_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy(old)
    assert as_json(apply_merge_patch(merge_patch(old, new), old)) == as_json(new)
    assert as_json(old) == as_json(before)


@given(document=_DOCUMENTS)
def test_equal_documents_need_no_patch(document: dict[str, Any]) -> None:
    assert merge_patch(document, copy.deepcopy(document)) == {}


def test_what_is_gone_needs_a_null_and_a_list_goes_as_a_whole() -> None:
    old = {"labels": {"a": "1", "b": "2"}, "env": [{"name": "A"}, {"name": "B"}], "same": {"x": 1}}
    new = {"labels": {"a": "1"}, "env": [{"name": "B"}], "same": {"x": 1}}
    assert merge_patch(old, new) == {"labels": {"b": None}, "env": [{"name": "B"}]}


def test_a_null_in_the_wanted_document_counts_as_absent() -> None:
    assert merge_patch({"a": 1}, {"a": None, "b": None}) == {"a": None}
    assert without_nulls({"metadata": {"creationTimestamp": None, "labels": {}}, "list": [{"a": None}]}) == {
        "metadata": {"labels": {}},
        "list": [{}],
    }


def test_true_is_not_one() -> None:
    assert merge_patch({"a": 1, "b": [1]}, {"a": True, "b": [True]}) == {"a": True, "b": [True]}
