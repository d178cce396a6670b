"""A release whose API server is slow, away, full, forgetful or strict: it ends well, or it changed nothing, and it says why."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from core.fence import Fence
from tasks.fenced import fenced_change
from tasks.release_checklist import OWN_ITEMS
from tests.fix_kubernetes import DroppedError, KubernetesApi
from tests.fix_migrated import Migrated
from tests.fix_registry import ImageRegistry
from tests.fix_release import COMMIT, NEXT_COMMIT, SKIPPED, Stage
from tests.test_release_kills import BLUE_GREEN, serving

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-api")]
HELLO = "/namespaces/shop/deployments/hello"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries without waiting: a step's, and the client's but for what the API server asked for."""
    monkeypatch.setattr("tasks.kubernetes_client._backoff", lambda _state: 0.01)
    for module in ("release_run.journaled", "release_start.open_and_stamp", "release_start.find_earlier"):
        found: Any = __import__(f"tasks.{module.split('.')[0]}", fromlist=["x"])
        monkeypatch.setattr(getattr(found, module.split(".")[1]), "retry_delay_seconds", 0.1)
        monkeypatch.setattr(getattr(found, module.split(".")[1]), "retry_jitter_factor", None)


def released(stage: Stage, image: str = "v2") -> bool:
    """Whether everything runs this image, the journal is closed as released, and the lease is free."""
    assert [one.outcome for one in stage.journals()][-1:] == ["released"]
    assert not stage.lease_holder()
    return {serving(stage), stage.image_of(), stage.image_of("worker")} == {stage.image(image)}


def done_once(stage: Stage) -> bool:
    """Whether each step of the newest journal was done once."""
    done = [one.step for one in stage.journals()[-1].entries if one.event == "done"]
    return len(done) == len(set(done))


def own_writes(kubernetes: KubernetesApi, begin: int) -> list[tuple[str, str]]:
    return kubernetes.writes()[begin:]


# Nothing is written


def test_a_dry_run_shows_what_would_change_and_writes_nothing(stage: Stage, kubernetes: KubernetesApi) -> None:
    before, begin = kubernetes.snapshot(), len(kubernetes.writes())
    state = stage.release("v2", dry_run=True)
    assert state.is_completed(), state.message
    assert "could be carried out; nothing was changed" in str(state.message)
    with get_client(sync_client=True) as prefect:
        run = prefect.read_flow_run(state.state_details.flow_run_id)
    assert run.name == f"release stage {NEXT_COMMIT[:7]} → {stage.digest('v2')[:19]}… (dry run)"
    assert own_writes(kubernetes, begin) == []
    assert kubernetes.snapshot() == before


def test_what_is_live_already_is_not_touched_and_said_so(stage: Stage, kubernetes: KubernetesApi) -> None:
    before, begin = kubernetes.snapshot(), len(kubernetes.writes())
    state = stage.release("v1", COMMIT)
    assert state.is_completed(), state.message
    assert "is live already; nothing was changed" in str(state.message)
    assert own_writes(kubernetes, begin) == []
    assert kubernetes.snapshot() == before
    # The same image of another commit is another release: the workloads' note of it changes.
    assert stage.release("v1", NEXT_COMMIT).is_completed()
    assert released(stage, "v1")


@pytest.mark.parametrize(
    ("skips", "told"),
    [
        ({"weather": "it rains"}, "there is no such item"),
        *(({item: "I must"}, "cannot be waived") for item in ("rights", "lease", "image")),
        ({"documentation": "  "}, "no reason is given"),
    ],
)
def test_a_skip_of_what_does_not_exist_or_cannot_be_waived_is_refused(
    stage: Stage, kubernetes: KubernetesApi, skips: dict[str, str], told: str
) -> None:
    begin = len(kubernetes.writes())
    state = stage.release("v2", skip_checks={**SKIPPED, **skips})
    assert state.is_failed()
    assert told in str(state.message)
    assert next(iter(skips)) in str(state.message)
    assert own_writes(kubernetes, begin) == []


def test_a_checklist_that_fails_stops_before_anything_is_written_and_names_every_item(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    kubernetes.denied = {("patch", "deployments"), ("create", "leases")}
    begin = len(kubernetes.writes())
    state = stage.release("v2", skip_checks={})
    assert state.is_failed()
    told = str(state.message)
    for part in (
        "rights: ",
        "patch deployments.apps in shop",
        "create leases.coordination.k8s.io in nightshift",
        "recovery-point: ",
    ):
        assert part in told, told
    assert "deployments/kubernetes/rbac.yaml" in told
    assert own_writes(kubernetes, begin) == []
    rows = {one["check"]: one["state"] for one in stage.reports()[-1].steps[-1].facts["checks"]}
    assert set(OWN_ITEMS) - set(rows) == set()
    assert (rows["rights"], rows["recovery-point"]) == ("failed", "failed")


def test_a_tag_that_moves_after_it_was_looked_up_changes_nothing(
    stage: Stage, kubernetes: KubernetesApi, image_registry: ImageRegistry
) -> None:
    repository = f"{image_registry.host}/hello"
    first, second = (image_registry.push("hello", tag, content=tag) for tag in ("new", "newer"))
    stage.settings["release"] |= {
        "repository": repository,
        "registry": {"kind": "registry", "address": image_registry.address},
    }
    kubernetes.after("POST", "/leases", lambda *_: image_registry.move_tag("hello", "new", second))
    stage.write()
    from flows.release import release

    skips = {**SKIPPED, "rollback-target": "v1 is of no registry"}
    given: dict[str, Any] = {"migrate": False, "skip_checks": skips, "requested_by": "the test", "return_state": True}
    state = release("stage", "new", NEXT_COMMIT, **given)
    assert state.is_completed(), state.message
    assert stage.image_of() == stage.image_of("worker") == f"{repository}@{first}"
    assert second not in str(kubernetes.snapshot())


def test_a_write_that_is_forbidden_after_all_rolls_back_and_names_verb_and_resource(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    taken: list[str] = []

    def forbid(_method: str, path: str) -> None:
        # The rights were taken between checklist and change: of the worker, once the api is changed.
        if not taken and stage.image_of() == stage.image("v2"):
            taken.append(path)
            kubernetes.fail("PATCH", "/deployments/worker", 403)

    kubernetes.before("PATCH", "/deployments/worker", forbid, times=99)
    state = stage.release("v2")
    assert state.name == "RolledBack", state.message
    assert re.search(r"could not change .*deployments/worker.*403", str(state.message)), state.message
    assert {serving(stage), stage.image_of("worker")} == {stage.image("v1")}
    assert not stage.lease_holder()


# Errors in the middle


def test_a_token_that_expires_in_the_middle_is_renewed(stage: Stage, kubernetes: KubernetesApi, tmp_path: Path) -> None:
    def expire(*_: str) -> None:
        kubernetes.kubeconfig(tmp_path, "second-token")
        kubernetes.tokens = {"second-token"}

    kubernetes.after("PATCH", HELLO, expire, skip=1)
    state = stage.release("v2")
    assert state.is_completed(), state.message
    stage.client._rebuild()
    assert released(stage)


def test_conflicts_at_every_write_cost_a_few_rounds_and_nothing_else(stage: Stage, kubernetes: KubernetesApi) -> None:
    busy: list[int] = []

    def somebody(_method: str, path: str) -> None:
        # An autoscaler, a controller: the object changes between our read and our write.
        if HELLO in path and len(busy) < 6:
            busy.append(1)
            labels = {"metadata": {"labels": {"seen": str(len(busy))}}}
            kubernetes.merge("apps/v1", "deployments", "shop", "hello", labels)

    kubernetes.before("PATCH", HELLO, somebody, times=9)
    for part in ("/leases", "/configmaps/"):
        kubernetes.fail("PATCH", part, 409, times=2)
    state = stage.release("v2")
    assert state.is_completed(), state.message
    assert len(busy) == 6
    assert released(stage) and done_once(stage)


def test_an_object_that_never_holds_still_is_told_and_nothing_is_forced(
    stage: Stage, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence, path = Fence("stage", "r-1", 1), f"/apis/apps/v1{HELLO}"
    kubernetes.merge("apps/v1", "deployments", "shop", "hello", {"metadata": {"annotations": fence.annotations()}})
    kubernetes.fail("PATCH", HELLO, 409, times=99)
    with pytest.raises(Exception, match="changed under each of 8 writes"):
        fenced_change(stage.client, path, fence, lambda _document: {"spec": {"paused": True}})
    assert not stage.deployment()["spec"].get("paused")


def test_watches_that_are_too_old_or_cut_are_begun_again(stage: Stage, kubernetes: KubernetesApi) -> None:
    stopped = threading.Event()

    def forget() -> None:
        while not stopped.wait(0.03):
            kubernetes.forget_history()
            kubernetes.cut_watches()

    thread = threading.Thread(target=forget, daemon=True)
    thread.start()
    try:
        state = stage.release("v2")
    finally:
        stopped.set()
        thread.join()
    assert state.is_completed(), state.message
    assert released(stage) and done_once(stage)


def test_an_api_server_that_is_busy_is_asked_again_when_it_says(stage: Stage, kubernetes: KubernetesApi) -> None:
    for method, part in (("PATCH", HELLO), ("POST", "/leases"), ("GET", "/deployments/worker"), ("PATCH", "/configmaps/")):  # fmt: skip
        kubernetes.fail(method, part, 429, times=1, Retry_After="0.3")
    begun = time.monotonic()
    state = stage.release("v2")
    assert state.is_completed(), state.message
    assert time.monotonic() - begun > 4 * 0.3
    assert released(stage) and done_once(stage)


Lost = Callable[[str, str], None]


@pytest.fixture
def losing(kubernetes: KubernetesApi) -> list[str]:
    """Each write of ours is carried out and its answer lost, once for each request that is made anew; what was lost so far."""
    lost: list[str] = []
    counted: dict[tuple[str, str], int] = {}

    def lose(method: str, path: str) -> None:
        key = (method, path.partition("?")[0])
        counted[key] = counted.get(key, 0) + 1
        if counted[key] % 2:
            lost.append(f"{method} {key[1]}")
            raise DroppedError

    kubernetes.after("WRITE", "fieldManager=nightshift", lose, times=10_000)
    return lost


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_every_write_whose_answer_is_lost_is_looked_for_and_not_done_twice(
    stage: Stage, kubernetes: KubernetesApi, migrated: Migrated, losing: list[str], strategy: str
) -> None:
    stage.settings["release"] |= BLUE_GREEN if strategy == "blue-green" else {}
    state = stage.release("v2", adopt=True, migrate=True)
    assert state.is_completed(), state.message
    assert len(losing) > 10, losing
    assert any("/jobs" in one for one in losing)
    assert migrated.names == ("add_orders",)
    assert len(stage.client.get("/apis/batch/v1/namespaces/shop/jobs")["items"]) == 1
    assert serving(stage) == stage.image_of("worker") == stage.image("v2")
    (journal,) = stage.journals()
    assert journal.outcome == "released" and done_once(stage)
    assert [one.number for one in journal.entries] == list(range(1, len(journal.entries) + 1))
    assert not stage.lease_holder()


@pytest.mark.parametrize("part", [HELLO, "/configmaps/nightshift-r-", "/deployments/worker"])
def test_an_api_server_that_is_away_for_a_while_in_the_middle_is_waited_for(
    stage: Stage, kubernetes: KubernetesApi, part: str
) -> None:
    back: list[float] = []

    def away(_method: str, _path: str) -> None:
        back.append(time.monotonic() + 1.5)
        kubernetes.before("GET", "", gone, times=10_000)
        kubernetes.before("WRITE", "", gone, times=10_000)

    def gone(_method: str, _path: str) -> None:
        if time.monotonic() < back[0]:
            raise DroppedError

    kubernetes.after("PATCH", part, away, skip=1)
    state = stage.release("v2")
    assert state.is_completed(), state.message
    assert time.monotonic() > back[0]
    assert released(stage) and done_once(stage)
