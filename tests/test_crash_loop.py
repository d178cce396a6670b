"""When Pods send a release back: most of the new version crash again and again, and nothing else does."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pods_elsewhere import HELD_BACK
from core.pods_look import PodsLook
from core.watch_pods import PodsSeen, crash_loop, pods_after, pods_findings
from tests.fix_pods_look import deployment, found, look, pod, status

NEW = ("api-7f-a", "api-7f-b", "api-7f-c")
WELL = tuple(pod(name) for name in NEW)
OTHERS = tuple(pod(f"{name}-1-a", of=f"{name}-1") for name in ("redis", "web", "mail"))


def crashed(restarts: int, *names: str, **more: Any) -> tuple[dict[str, Any], ...]:
    held = {"waiting": HELD_BACK, "ended": "Error", **more}
    nodes = {name: f"node-{number % 2}" for number, name in enumerate(NEW)}
    return tuple(pod(name, status(restarts=restarts, **held), node=nodes.get(name, "node-1")) for name in names or NEW)


def after(*looks: PodsLook, first: int = -1) -> PodsSeen:
    seen = None
    for bucket, one in enumerate(looks, first):
        seen = pods_after(seen, one, bucket=bucket)
    assert seen is not None
    return seen


def acts(seen: PodsSeen) -> str | None:
    return crash_loop(seen, bucket=seen.bucket)


def test_a_version_that_crashes_at_once_is_found_in_the_first_look_after_it() -> None:
    seen = after(look(*WELL, others=OTHERS), look(*crashed(5), others=OTHERS))
    told = acts(seen)
    assert told == (
        "api: 3 of 3 Pods of the new version crash again and again (15 restarts within 15 minutes, e.g. container api of Pod "
        f"{seen.loops[0].pod}, last exit code 1); of 3 other workloads 0 do"
    )
    assert pods_findings(seen)[0].severity == "warning"
    assert told in pods_findings(seen)[0].text


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_fewer_than_three_restarts_are_no_loop(restarts: int) -> None:
    assert acts(after(look(*WELL), look(*crashed(restarts)))) is None


def test_one_pod_of_several_that_flaps_is_none_and_half_of_them_is_not_most() -> None:
    assert acts(after(look(*WELL), look(*crashed(9, NEW[0]), *WELL[1:]))) is None
    assert acts(after(look(*WELL[:2]), look(*crashed(9, NEW[0]), WELL[1]))) is None
    assert acts(after(look(*WELL), look(*crashed(9, *NEW[:2]), WELL[2]))) is not None
    assert acts(after(look(WELL[0]), look(*crashed(9, NEW[0])))) is not None


def test_restarts_that_are_over_are_none() -> None:
    ready = tuple(pod(name, status(restarts=5)) for name in NEW)
    assert acts(after(look(*WELL), look(*ready))) is None
    # Neither are those of long ago, when the Pods are not ready for another reason.
    ill = tuple(pod(name, status(restarts=5, ready=False)) for name in NEW)
    assert acts(after(look(*WELL), look(*ready), look(*ill))) is not None
    assert acts(after(look(*WELL), *[look(*ready)] * 3, look(*ill))) is None


def test_who_is_ready_between_its_ends_loops_after_three_looks() -> None:
    def restarted(times: int) -> PodsLook:
        return look(*(pod(name, status(restarts=times)) for name in NEW))

    looks = [restarted(times) for times in range(4)]
    assert [acts(after(*looks[:number])) is not None for number in range(1, 5)] == [False, False, False, True]
    # Three in one look, then none: over.
    assert acts(after(restarted(0), restarted(3), restarted(3), restarted(3))) is None


def test_who_is_held_back_in_two_looks_loops_though_fewer_restarts_fit_in() -> None:
    assert acts(after(look(*WELL), look(*crashed(1)), look(*crashed(2)))) is not None
    # Without a restart meanwhile nothing is known of it.
    assert acts(after(look(*crashed(7)), look(*crashed(7)), look(*crashed(7)))) is None
    assert acts(after(look(*WELL), look(*crashed(2)), look(*WELL), look(*crashed(2)))) is None


def test_an_end_for_want_of_memory_once_an_hour_is_no_loop() -> None:
    looks = [look(*crashed(number // 12, ended="OOMKilled", code=137)) for number in range(100)]
    seen = None
    for bucket, one in enumerate(looks):
        seen = pods_after(seen, one.model_copy(update={"pods": _running(one)}), bucket=bucket)
        assert acts(seen) is None
    assert seen is not None
    assert seen.totals[0].oom_kills == 24


def _running(one: PodsLook) -> Sequence[Any]:
    return tuple(
        p.model_copy(update={"containers": (p.containers[0].model_copy(update={"waiting": "", "ready": True}),)})
        for p in one.pods
    )


def test_restarts_before_the_watch_do_not_count_and_those_of_a_new_pod_all_do() -> None:
    before = look(*crashed(40))
    assert acts(after(before)) is None
    assert acts(after(before, look(*crashed(42)))) is not None  # held back in both looks, and restarted
    other = look(*crashed(4, "api-7f-x", "api-7f-y"))
    assert acts(after(look(*WELL), other)) is not None
    assert acts(after(other)) is None


def test_a_node_that_dies_or_comes_back_is_none() -> None:
    # Its Pods are not ready, nothing is restarted; then they are ended, and others begin anew; then each is restarted once.
    gone = tuple(pod(name, status(ready=False)) for name in NEW)
    ended = tuple(pod(name, status(ready=False), deleted=True) for name in NEW)
    back = tuple(pod(name, status(restarts=1, waiting=HELD_BACK, ended="Error")) for name in NEW)
    fresh = tuple(pod(f"api-7f-n{n}", status(ready=False)) for n in range(3))
    seen = None
    for bucket, pods in enumerate([WELL, gone, (*ended, *fresh), back]):
        seen = pods_after(seen, look(*pods), bucket=bucket)
        assert acts(seen) is None


def test_pods_that_loop_on_one_node_alone_are_the_nodes_fault() -> None:
    ill = [pod(name, status(restarts=9, waiting=HELD_BACK, ended="Error"), node="node-1") for name in NEW[:2]]
    well = pod(NEW[2], node="node-2")
    seen = after(look(*WELL), look(*ill, well))
    assert acts(seen) is None
    assert "only those on node node-1 do" in pods_findings(seen)[0].text
    # Where there is one node only, nothing speaks for it.
    assert acts(after(look(*WELL), look(*ill, pod(NEW[2], node="node-1")))) is not None


@pytest.mark.parametrize(("crashing", "held"), [(0, False), (1, False), (2, True), (3, True)])
def test_while_half_of_the_others_crash_too_it_is_told_and_nothing_is_done(crashing: int, held: bool) -> None:
    names = ("redis", "web", "mail")
    others = tuple(
        pod(f"{name}-1-a", status(waiting=HELD_BACK if number < crashing else ""), of=f"{name}-1")
        for number, name in enumerate(names)
    )
    seen = after(look(*WELL, others=OTHERS), look(*crashed(5), others=others))
    assert (acts(seen) is None) == held
    text = pods_findings(seen)[0].text
    assert ("it is no reason to go back: so do" in text) == held
    assert pods_findings(seen)[0].severity == "warning"


def test_others_that_ended_lately_count_and_those_of_long_ago_do_not() -> None:
    def other(at: str) -> tuple[dict[str, Any], ...]:
        return (pod("web-1-a", status(ready=False, restarts=2, ended="Error", at=at), of="web-1"),)

    new = crashed(5, at="2026-11-26T10:14:00Z")
    assert acts(after(look(*WELL, others=()), look(*new, others=other("2026-11-26T10:05:00Z")))) is None
    assert acts(after(look(*WELL, others=()), look(*new, others=other("2026-11-26T09:30:00Z")))) is not None


def test_others_that_ended_lately_and_are_well_again_are_no_witnesses() -> None:
    well = (pod("web-1-a", status(restarts=1, ended="Error", at="2026-11-26T10:13:00Z"), of="web-1"),)
    new = crashed(5, at="2026-11-26T10:14:00Z")
    assert acts(after(look(*WELL, others=()), look(*new, others=well))) is not None


def test_who_crashed_before_the_watch_is_no_witness() -> None:
    broken = (pod("mail-1-a", status(restarts=400, waiting=HELD_BACK), of="mail-1"),)
    assert acts(after(look(*WELL, others=broken), look(*crashed(5), others=broken))) is not None
    assert acts(after(look(*WELL, others=()), look(*crashed(5), others=broken))) is None


def test_jobs_that_fail_are_no_witnesses() -> None:
    job = (pod("nightly-a", status(restarts=3, waiting=HELD_BACK), of="nightly-1", kind="Job"),)
    assert acts(after(look(*WELL), look(*crashed(5), others=job))) is not None


def test_the_old_version_that_crashes_as_well_is_the_best_witness() -> None:
    blue = pod("api-blue-1-a", status(restarts=3, waiting=HELD_BACK), of="api-blue-1")
    seen = after(
        look(*WELL, others=OTHERS, old=("api-blue",)), look(*crashed(5), others=(*OTHERS, blue), old=("api-blue",))
    )
    assert acts(seen) is None
    assert "the old version's own Pods crash as well" in pods_findings(seen)[0].text


def test_others_on_the_same_nodes_are_asked_by_themselves() -> None:
    far = tuple(pod(f"{name}-1-a", of=f"{name}-1", node="node-9") for name in ("a", "b", "c", "d"))
    near = (pod("web-1-a", status(waiting=HELD_BACK), of="web-1", node="node-1"),)
    assert acts(after(look(*WELL, others=far), look(*crashed(5), others=(*far, *near)))) is None


def test_where_nobody_looked_at_the_others_nothing_is_done() -> None:
    assert acts(after(look(*WELL), look(*crashed(5), others=None))) is None


def test_other_sources_may_know_of_a_cause_outside() -> None:
    seen = after(look(*WELL), look(*crashed(5)))
    assert crash_loop(seen, bucket=seen.bucket, outside="database app is away") is None


def test_what_was_seen_earlier_is_no_reason_to_act_now() -> None:
    seen = after(look(*WELL), look(*crashed(5)))
    assert crash_loop(seen, bucket=seen.bucket + 1) is None
    assert crash_loop(None, bucket=0) is None


def test_after_a_gap_nobody_knows_when_the_restarts_were() -> None:
    first = pods_after(None, look(*WELL), bucket=0)
    assert acts(pods_after(first, look(*crashed(5)), bucket=3)) is not None
    assert acts(pods_after(first, look(*crashed(5)), bucket=4)) is None
    assert pods_after(first, look(*crashed(5)), bucket=4).totals[0].restarts == 15
    # What may have been at the gap's beginning has left the last fifteen minutes one look later.
    ill = look(*(pod(name, status(restarts=5, ready=False)) for name in NEW))
    assert acts(pods_after(pods_after(first, ill, bucket=3), ill, bucket=4)) is None


def test_a_container_that_the_release_did_not_change_sends_nothing_back() -> None:
    pods = [pod(name, status(), status("proxy", restarts=9, waiting=HELD_BACK, ended="Error")) for name in NEW]
    seen = after(look(*WELL), look(*pods))
    assert acts(seen) is None
    assert any("container proxy was restarted 27 times" in one.text for one in pods_findings(seen))


def test_pods_that_never_began_do_not_hide_a_loop() -> None:
    waiting = [pod(f"api-7f-w{n}", status(waiting="ContainerCreating")) for n in range(9)]
    assert acts(after(look(*WELL), look(*crashed(5), *waiting))) is not None


def test_each_deployment_of_a_release_counts_for_itself() -> None:
    pods = [pod(name, status(restarts=9, waiting=HELD_BACK)) for name in NEW]
    assert found(*pods).deployment == deployment()


restarts_of_a_day = st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=40)


@given(restarts_of_a_day, st.booleans())
def test_while_fewer_than_three_restarts_fall_into_any_three_looks_and_pods_come_back_nothing_is_done(
    deltas: list[list[int]], spread: bool
) -> None:
    seen, counts = None, [0] * 4
    names = [f"api-7f-{n}" for n in range(4)]
    for bucket, delta in enumerate(deltas):
        # Each Pod is restarted at most twice within three looks.
        counts = [a + (b if bucket % 3 == 0 else 0) for a, b in zip(counts, delta, strict=True)]
        pods = [pod(name, status(restarts=c, ready=bool(c % 2))) for name, c in zip(names, counts, strict=True)]
        seen = pods_after(seen, look(*pods), bucket=bucket)
        assert acts(seen) is None


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), min_size=1, max_size=6),
    st.lists(st.booleans(), max_size=4),
)
def test_nothing_is_done_unless_most_new_pods_do_not_work_and_most_others_do(
    new: list[tuple[int, bool, bool]], others: list[bool]
) -> None:
    first = look(*(pod(f"api-7f-{n}") for n in range(len(new))))
    pods = [
        pod(f"api-7f-{n}", status(restarts=restarts, ready=ready, waiting=HELD_BACK if held else ""))
        for n, (restarts, ready, held) in enumerate(new)
    ]
    beside = tuple(
        pod(f"o{n}-1-a", status(waiting=HELD_BACK if ill else ""), of=f"o{n}-1") for n, ill in enumerate(others)
    )
    found = acts(after(first, look(*pods, others=beside)))
    loops = sum(restarts >= 3 and (held or not ready) for restarts, ready, held in new)
    elsewhere = bool(others) and any(others) and 2 * sum(others) >= len(others)
    assert (found is not None) == (2 * loops > len(new) and not elsewhere)
