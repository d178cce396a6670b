"""Who may change an environment: one at a time, and nobody who slept while another took over."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import TemporaryError
from core.fence import (
    FENCE,
    RELEASE,
    Fence,
    FencedError,
    check_may_stamp,
    check_stamp,
    fence_holder,
    fence_number,
)
from core.release_lease import RUN, holder_of, micro_time, new_lease, next_number, taken
from core.release_plan import release_id_of
from tasks.release_lease import HeldError, Lease, renewed
from tasks.release_run import release_of
from tests.fix_kill_proxy import KillProxy
from tests.fix_kubernetes import Document, KubernetesApi
from tests.fix_migrated import Migrated
from tests.fix_release import Stage
from tests.fix_release_child import (
    end_of,
    ended,
    kill_at_write,
    recovery_in_child,
    release_in_child,
    request_of,
    send_to_sleep,
)
from tests.test_release_kills import BLUE_GREEN, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-lease")]
LEASE = "/apis/coordination.k8s.io/v1/namespaces/nightshift/leases/nightshift-stage"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MADE_BY_CONTROLLERS = frozenset({"pods", "replicasets", "endpoints", "endpointslices"})


# The rules


numbers = st.integers(min_value=0, max_value=10**9)


def stamped(number: object, holder: str = "r-1") -> Document:
    return {"metadata": {"annotations": {FENCE: str(number), RELEASE: holder}}}


@given(lease=st.none() | numbers, objects=st.lists(numbers))
def test_a_new_number_is_above_every_one_that_was_ever_given_whatever_was_deleted(
    lease: int | None, objects: list[int]
) -> None:
    found = next_number(None if lease is None else stamped(lease), map(stamped, objects))
    assert all(found > one for one in (lease or 0, *objects))


@given(text=st.text() | st.sampled_from(["-1", "1.5", "²", "١", " 7", ""]))
def test_an_annotation_that_is_no_number_of_ours_is_none(text: str) -> None:
    number = fence_number(stamped(text))
    assert number == (int(text) if text and set(text) <= set("0123456789") else 0)


@given(
    ours=st.integers(1, 5),
    theirs=st.integers(0, 5),
    holder=st.sampled_from(["r-ours", "r-theirs", ""]),
)
def test_only_our_own_number_may_write_and_only_a_greater_or_our_own_may_stamp(
    ours: int, theirs: int, holder: str
) -> None:
    fence, document = Fence("stage", "r-ours", ours), stamped(theirs, holder)

    def passes(check: Any) -> bool:
        try:
            check(document, fence, on="it")
        except FencedError:
            return False
        return True

    assert passes(check_stamp) == (theirs == ours and holder == "r-ours")
    assert passes(check_may_stamp) == (theirs < ours or (theirs == ours and holder in {"", "r-ours"}))
    # Whoever may write may also stamp, and of two different holders never both may write.
    assert not passes(check_stamp) or passes(check_may_stamp)


@given(number=st.integers(1, 10**9), holder=st.from_regex(r"r-[0-9a-f]{12}", fullmatch=True), seconds=numbers)
def test_a_lease_that_is_made_or_taken_tells_its_holder(number: int, holder: str, seconds: int) -> None:
    now, fence = NOW + timedelta(microseconds=seconds), Fence("stage", holder, number)
    made = new_lease(fence, "nightshift", "run", now)
    found = holder_of(made)
    assert found is not None
    assert (found.name, found.run_id, found.number, found.renewed) == (holder, "run", number, micro_time(now))
    assert datetime.fromisoformat(found.renewed) == now
    assert taken(fence, "run", now)["metadata"]["annotations"] == {FENCE: str(number), RUN: "run"}
    assert next_number(made, ()) == number + 1


@pytest.mark.parametrize("lease", [None, {}, {"spec": None}, {"spec": {"holderIdentity": ""}}, {"spec": {"holderIdentity": None}}])  # fmt: skip
def test_a_lease_without_a_holder_is_free(lease: Document | None) -> None:
    assert holder_of(lease) is None
    assert fence_holder(lease or {}) == ""


# Two at once


def leases(stage: Stage) -> tuple[Lease, Lease]:
    release = release_of(stage.environment)
    return Lease(stage.client, release, "stage"), Lease(stage.client, release, "stage")


@pytest.mark.parametrize("there", [True, False], ids=["free", "not made yet"])
def test_of_two_that_take_the_lease_at_the_same_instant_one_has_it_and_the_other_names_it(
    stage: Stage, kubernetes: KubernetesApi, there: bool
) -> None:
    first, second = leases(stage)
    if there:
        first.give_back(first.take("r-before", "run-0", ()))
    # Both have read the lease as free before either writes it.
    meeting = threading.Barrier(2, timeout=20)
    kubernetes.before("PATCH" if there else "POST", "/leases", lambda *_: meeting.wait() and None, times=2)
    with ThreadPoolExecutor(2) as pool:
        tried = [
            pool.submit(first.take, "r-one", "run-1", ()),
            pool.submit(second.take, "r-two", "run-2", ()),
        ]
        errors = [one.exception() for one in tried]
    (error,) = [one for one in errors if one is not None]
    assert isinstance(error, HeldError)
    assert stage.lease_holder() == error.holder.name == ("r-one", "r-two")[errors.index(None)]
    assert error.holder.name in str(error)


def test_of_two_releases_at_once_one_changes_the_world_and_the_other_ends_naming_it(
    stage: Stage, kubernetes: KubernetesApi, tmp_path: Any
) -> None:
    requests = [request_of(stage, str(uuid4()), image) for image in ("v2", "v3")]
    meeting = threading.Barrier(2, timeout=20)
    # Each has seen the lease free, in its plan and its checklist.
    kubernetes.before("POST", "/leases", lambda *_: meeting.wait() and None, times=2)
    # Whoever has it is at work until the other has ended.
    assert kubernetes.controllers is not None
    for image in ("v2", "v3"):
        kubernetes.controllers.mark(image.encode().hex(), "unready")
    children = [release_in_child(stage, one, kubeconfig=os.environ["KUBECONFIG"]) for one in requests]
    wait_until(lambda: any((stage.folder / f"{one.release_id}.end").exists() for one in requests), "one has ended")
    for image in ("v2", "v3"):
        kubernetes.controllers.mark(image.encode().hex(), "good")
    assert [ended(one) for one in children] == [True, True]
    ends = {one.release_id: end_of(stage, one) for one in requests}
    (winner,) = [one for one, end in ends.items() if " is live " in end]
    (told,) = [end for one, end in ends.items() if one != winner]
    assert told.startswith("HeldError") and winner in told, told
    (journal,) = stage.journals()
    assert (journal.release_id, journal.outcome) == (winner, "released")
    image = stage.image(("v2", "v3")[[one.release_id for one in requests].index(winner)])
    assert {stage.image_of(), stage.image_of("worker")} == {image}
    changed = [path for method, path in kubernetes.writes() if "/namespaces/shop/" in path and method == "PATCH"]
    # Per workload: the stamp and the change; the CronJob is suspended, changed and let go on.
    assert len(changed) == len(set(changed)) * 2 + 2
    assert not stage.lease_holder()


def test_a_release_while_another_goes_on_changes_nothing_and_names_it(stage: Stage, kubernetes: KubernetesApi) -> None:
    lease = leases(stage)[0]
    lease.take("r-0123456789ab", "run-1", ())
    begin = len(kubernetes.writes())
    state = stage.release("v2")
    assert state.is_failed()
    assert "r-0123456789ab holds it (flow run run-1" in str(state.message)
    assert kubernetes.writes()[begin:] == []


# Asleep


@pytest.fixture
def dead_by_word(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prefect believes every run to have crashed, the stopped one too: as when its heartbeat stayed away."""
    monkeypatch.setattr("tasks.release_left_open.state_of_run", lambda _run_id: "CRASHED")
    return


def test_a_stopped_holder_that_wakes_up_changes_nothing_more_and_ends_fenced(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Renewed so often that a busy machine misses none of it for as long as a lease lasts.
    monkeypatch.setattr("tasks.release_left_open.LEASE_SECONDS", 6.0)
    monkeypatch.setattr("tasks.release_start.renewed", lambda renew, fence: renewed(renew, fence, seconds=0.2))
    assert kubernetes.controllers is not None
    kubernetes.controllers.mark(b"v4".hex(), "unready")
    request = request_of(stage, str(uuid4()), "v4")
    kill_proxy.arm(0, "after", 0)
    child = release_in_child(stage, request, kubeconfig=str(kill_proxy.kubeconfig))
    try:
        wait_until(lambda: stage.image_of() == stage.image("v4"), "it is in the middle of its rollout")
        # As long as it renews, no recovery takes anything from it.
        for _ in range(2):
            assert "its run lives" in str(stage.recover().message)
        os.kill(child, signal.SIGSTOP)
        # Prefect knows nothing of its run; what tells is that the lease is not renewed.
        recovered = stage.recover()
        while "its run lives" in str(recovered.message):
            recovered = stage.recover()
        assert recovered.is_completed(), recovered.message
        # One that was on its way when it was stopped has arrived long since.
        after, written = kubernetes.snapshot(), len(kill_proxy.writes)
    finally:
        os.kill(child, signal.SIGCONT)
    assert ended(child)
    assert end_of(stage, request).startswith("FencedError"), end_of(stage, request)
    assert "release-recovery" not in end_of(stage, request)
    # What its two threads (one renews the lease) were stopped in the middle of, between look and write, may still be tried, once each: the API server refuses it, by the
    # version that they had read.
    tried = [path for _, path in kill_proxy.writes[written:]]
    assert len(tried) == len(set(tried)) <= 2, tried
    assert {key: one for key, one in kubernetes.snapshot().items() if key[1] != "pods"} == {
        key: one for key, one in after.items() if key[1] != "pods"
    }
    assert serving(stage) == stage.image("v1")


@pytest.mark.parametrize(
    ("strategy", "numbers"),
    # The third write takes the lease: before it nobody could take over.
    [("rolling", range(5, 40, 2)), ("blue-green", range(5, 80, 4))],
)
def test_a_write_of_a_sleeper_that_arrives_after_another_took_over_changes_nothing(  # noqa: PLR0917 - fixtures
    stage: Stage,
    kubernetes: KubernetesApi,
    kill_proxy: KillProxy,
    migrated: Migrated,
    dead_by_word: None,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    numbers: range,
) -> None:
    monkeypatch.setattr("tasks.release_checklist.ITEMS", ())
    stage.settings["release"] |= BLUE_GREEN if strategy == "blue-green" else {}
    begin, slept = kubernetes.snapshot(), 0
    for number in numbers:
        request = request_of(stage, str(uuid4()), "v2", adopt=True, migrate=True, skip_checks={})
        child = send_to_sleep(stage, kill_proxy, number, request)
        if not kill_proxy.stopped.is_set():
            assert ended(child)
            break
        slept += 1
        at = f"asleep at write {number}, {' '.join(kill_proxy.writes[-1])}"
        try:
            assert ended(recovery_in_child(stage)), at
            after, end = kubernetes.snapshot(), serving(stage)
        finally:
            kill_proxy.wake()
        assert ended(child), at
        told = end_of(stage, request)
        assert told.startswith("FencedError") or " is live " in told, f"{at}: {told}"
        now = kubernetes.snapshot()
        changed = {
            key
            for key in now.keys() | after.keys()
            if key[1] not in MADE_BY_CONTROLLERS and now.get(key) != after.get(key)
        }
        # What is made anew has no version to be refused by: docs/limits.md. A side is made without Pods.
        made = {key for key in changed if key not in after and kill_proxy.writes[number - 1][0] == "POST"}
        assert len(made) <= 1 and changed == made, f"{at}: {changed}"
        assert all(not now[key]["spec"]["replicas"] for key in made if key[1] == "deployments"), at
        assert serving(stage) == end, at
        kubernetes.restore(begin)
        migrated.clear()
    assert slept > 8


# Deleted by somebody


def test_a_lease_that_is_deleted_while_a_release_runs_is_made_again_and_the_release_ends_well(
    stage: Stage, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.release_start.renewed", lambda renew, fence: renewed(renew, fence, seconds=0.1))

    def delete(_method: str, _path: str) -> None:
        kubernetes.delete("coordination.k8s.io/v1", "leases", "nightshift", "nightshift-stage")
        wait_until(lambda: kubernetes.count("POST", "/leases") == 2, "it is made again")

    kubernetes.after("PATCH", "/deployments/hello", delete, skip=1)
    state = stage.release("v2")
    assert state.is_completed(), state.message
    assert kubernetes.count("POST", "/leases") == 2
    assert not stage.lease_holder()
    assert stage.journals()[0].outcome == "released"


def test_a_lease_that_is_deleted_while_nobody_lives_does_not_begin_anew_at_one(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy, dead_by_word: None
) -> None:
    assert stage.release("v2").is_completed()
    assert stage.release("v3", "3" * 40).is_completed()
    before = fence_number(stage.deployment())
    run_id, killed = kill_at_write(stage, kill_proxy, 8, "after", "v1", run_id=str(uuid4()), commit="4" * 40)
    assert killed
    kubernetes.delete("coordination.k8s.io/v1", "leases", "nightshift", "nightshift-stage")
    state = stage.recover()
    assert state.is_completed(), state.message
    assert release_id_of(run_id) in str(state.message)
    assert fence_number(stage.deployment()) > before + 1
    assert {stage.image_of(), stage.image_of("worker")} == {stage.image("v3")}
    assert not stage.lease_holder()
    assert all(not one.is_open for one in stage.journals())


def test_a_renewal_that_fails_for_a_while_does_not_end_a_release_and_one_that_finds_another_does() -> None:
    answers: list[Exception] = [
        TemporaryError("change", "the lease", "503"),
        FencedError("hold the lease", "it", "another has it"),
    ]
    asked: list[Exception] = []
    looked = threading.Event()

    def renew() -> None:
        # The second one not before what the first one did was looked at.
        assert not asked or looked.wait(60)
        asked.append(answers[len(asked)])
        raise asked[-1]

    with renewed(renew, Fence("stage", "r-1", 3), seconds=0.05) as held:
        wait_until(lambda: asked, "renewed once")
        held.still_ours()
        looked.set()
        with pytest.raises(FencedError, match="another has it"):
            wait_until(held.still_ours, "it is told")


def test_a_lease_is_not_taken_from_a_holder_that_renewed_since_it_was_seen(stage: Stage) -> None:
    first, second = leases(stage)
    fence = first.take("r-one", "run-1", ())
    seen = holder_of(first.read())
    first.renew(fence, "run-1")
    with pytest.raises(HeldError, match="r-one"):
        second.take("r-two", "run-2", (), instead_of=seen)
    assert second.take("r-two", "run-2", (), instead_of=holder_of(first.read())).number == fence.number + 1
    with pytest.raises(FencedError, match="r-two"):
        first.renew(fence, "run-1")
    first.give_back(fence)
    assert stage.lease_holder() == "r-two"


def test_a_lease_that_is_made_anew_has_a_number_above_those_on_the_objects(stage: Stage) -> None:
    lease = Lease(stage.client, release_of(stage.environment), "stage", clock=lambda: NOW)
    assert lease.take("r-one", "run-1", [stamped(41), stamped(7)]).number == 42
    assert (lease.read() or {})["spec"]["renewTime"] == "2026-01-01T00:00:00.000000Z"


def test_no_migration_is_started_by_a_holder_that_another_took_over_from_without_its_knowing(
    stage: Stage, kubernetes: KubernetesApi, migrated: Migrated
) -> None:
    # Between its last look at the lease and the request for the Job, which no version would refuse.
    other = Fence("stage", "r-other", 99)
    stamps = {"metadata": {"annotations": other.annotations()}}
    place = ("apps/v1", "deployments", "shop", "hello")
    kubernetes.after("GET", "/jobs/nightshift-migrate", lambda *_: kubernetes.merge(*place, stamps) and None)
    kubernetes.before("GET", "/jobs/nightshift-migrate", lambda *_: kubernetes.merge(*place, stamps) and None)
    state = stage.release("v2", migrate=True)
    assert "r-other" in str(state.message), state.message
    assert kubernetes.count("POST", "/jobs") == 0
    assert migrated.names == ()
