"""Sizes of two sides while traffic is shifted between them, and the pins of their autoscalers."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.merge_patch import apply_merge_patch
from core.replica_sizes import (
    ORIGINAL,
    PINNED,
    following_size,
    live_size,
    minimum,
    original_minimum,
    pin_change,
    unpin_change,
)
from tests.fix_colours import live_autoscaler, live_deployment

Document = dict[str, Any]


def deployment(replicas: int) -> Document:
    live = live_deployment()
    live["spec"]["replicas"] = replicas
    return live


def deciding(desired: int, maximum: int = 20) -> Document:
    return {**live_autoscaler(maximum=maximum), "status": {"desiredReplicas": desired}}


def patched(autoscaler: Document, change: Document | None) -> Document:
    changed: Document = apply_merge_patch(change or {}, autoscaler)
    return changed


def test_the_live_size_is_what_it_has_or_what_its_autoscaler_just_decided() -> None:
    assert live_size(deployment(3), None) == 3
    assert live_size(deployment(3), deciding(12)) == 12
    assert live_size(deployment(12), deciding(3)) == 12
    assert live_size(deployment(3), deciding(30, maximum=20)) == 20
    assert live_size(deployment(0), deciding(5)) == 0


def test_the_following_side_gets_the_live_size_or_says_what_keeps_it_from_it() -> None:
    size = following_size(30, 3, live_autoscaler(maximum=30), None)
    assert (size.replicas, size.is_enough, size.limited_by) == (30, True, "")
    size = following_size(30, 3, live_autoscaler(maximum=20), None)
    assert (size.replicas, size.is_enough, size.limited_by) == (20, False, "maxReplicas 20 of its autoscaler")
    size = following_size(30, 3, None, 7)
    assert (size.replicas, size.is_enough, size.limited_by) == (10, False, "a quota: 7 more Pods fit")


def test_a_live_side_without_pods_is_nothing_to_match() -> None:
    size = following_size(0, 0, None, None)
    assert (size.is_enough, size.limited_by) == (False, "the live side, which has no Pods")


def test_a_pin_keeps_the_original_and_grows_with_the_live_side() -> None:
    pinned = patched(live_autoscaler(minimum=3), pin_change(live_autoscaler(minimum=3), 8))
    assert (minimum(pinned), original_minimum(pinned)) == (8, 3)
    assert pin_change(pinned, 8) is None
    grown = patched(pinned, pin_change(pinned, 20))
    assert (minimum(grown), original_minimum(grown)) == (20, 3)
    restored = patched(grown, unpin_change(grown))
    assert minimum(restored) == 3
    assert not {ORIGINAL, PINNED} & restored["metadata"]["annotations"].keys()
    assert unpin_change(restored) is None


def test_a_pin_is_never_above_the_maximum_nor_below_what_the_team_asks_for() -> None:
    assert (pin_change(live_autoscaler(minimum=3, maximum=10), 30) or {})["spec"] == {"minReplicas": 10}
    assert (pin_change(live_autoscaler(minimum=5), 2) or {})["spec"] == {"minReplicas": 5}


def test_what_a_person_sets_while_it_is_pinned_is_what_stays() -> None:
    pinned = patched(live_autoscaler(minimum=3), pin_change(live_autoscaler(minimum=3), 8))
    pinned["spec"]["minReplicas"] = 15
    assert minimum(patched(pinned, unpin_change(pinned))) == 15
    again = patched(pinned, pin_change(pinned, 10))
    assert (minimum(again), original_minimum(again)) == (15, 15)


@given(st.integers(1, 9), st.integers(1, 30), st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_however_often_it_is_pinned_the_original_comes_back(original: int, spare: int, sizes: list[int]) -> None:
    autoscaler = live_autoscaler(minimum=original, maximum=original + spare)
    for size in sizes:
        autoscaler = patched(autoscaler, pin_change(autoscaler, size))
        assert pin_change(autoscaler, size) is None
        assert min(size, original + spare) <= minimum(autoscaler) <= original + spare
    assert minimum(patched(autoscaler, unpin_change(autoscaler))) == original
