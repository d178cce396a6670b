"""Label selectors: what they match, and what they mean once labels have changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.label_selectors import Selector, is_empty, rewritten, selected_keys, selects

OLD = {"app": "api", "instance": "shop"}
NEW = {"app": "api-blue", "instance": "shop-blue"}


def expression(key: str, operator: str, *values: str) -> Selector:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "api"}}, True),
        ({"matchLabels": {"app": "api", "tier": "x"}}, False),
        (expression("app", "In", "api", "web"), True),
        (expression("app", "In", "web"), False),
        (expression("app", "NotIn", "web"), True),
        (expression("tier", "NotIn", "x"), True),
        (expression("app", "Exists"), True),
        (expression("tier", "Exists"), False),
        (expression("tier", "DoesNotExist"), True),
        (expression("app", "SomethingNew"), True),
        ({"matchLabels": {"app": "api"}, **expression("app", "NotIn", "api")}, False),
    ],
)
def test_a_selector_matches_as_the_api_server_says(selector: Selector | None, matches: bool) -> None:
    assert selects(selector, OLD) is matches


def test_no_selector_is_not_an_empty_one() -> None:
    assert is_empty({}) and is_empty({"matchLabels": {}})
    assert not is_empty(None)


def test_a_selector_of_own_pods_means_the_new_ones() -> None:
    assert rewritten({"matchLabels": {"app": "api"}}, OLD, NEW) == {"matchLabels": {"app": "api-blue"}}
    assert rewritten(expression("app", "In", "api", "web"), OLD, NEW) == expression("app", "In", "api-blue", "web")


def test_a_selector_of_other_pods_that_share_a_label_stays() -> None:
    cache = {"matchLabels": {"app": "cache", "instance": "shop"}}
    assert rewritten(cache, OLD, NEW) == cache


def test_a_distance_to_all_but_ones_own_is_kept_from_neither_side() -> None:
    assert rewritten(expression("app", "NotIn", "api"), OLD, NEW) == expression("app", "NotIn", "api", "api-blue")


def test_labels_that_a_deployment_selects_by_are_named() -> None:
    assert selected_keys({"matchLabels": {"app": "api"}, **expression("tier", "In", "x")}) == {"app", "tier"}
    assert selected_keys(expression("canary", "DoesNotExist")) == set()


_VALUES = st.sampled_from(["api", "web", "shop"])
_LABELS = st.dictionaries(st.sampled_from(["app", "instance", "tier"]), _VALUES)
_EXPRESSIONS = st.builds(
    lambda key, operator, values: {
        "key": key,
        "operator": operator,
        **({"values": values} if operator.endswith("In") else {}),
    },
    st.sampled_from(["app", "instance", "tier"]),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.lists(_VALUES, min_size=1, max_size=2, unique=True),
)


@given(old=_LABELS, chosen=_LABELS, expressions=st.lists(_EXPRESSIONS, max_size=2))
def test_whatever_selected_the_old_pods_selects_the_new_ones_once_rewritten(
    old: dict[str, str], chosen: dict[str, str], expressions: list[Selector]
) -> None:
    new = {key: f"{value}-blue" for key, value in old.items()}
    selector = {"matchLabels": chosen, "matchExpressions": expressions}
    if selects(selector, old):
        assert selects(rewritten(selector, old, new), new)
