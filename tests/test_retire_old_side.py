"""The old side of a release that was signed off: its Pods go only where nothing speaks against it, and a rollback has them again."""

from collections.abc import Callable

import pytest
from prefect import flow

from core.errors import PermanentError
from core.rollout_change import ForeignChangeError
from tasks.kubernetes_client import KubernetesClient
from tasks.recording import utc_now
from tasks.release_lease import HeldError, Lease
from tasks.release_run import release_of
from tasks.retire_old_side import retire_old_side, what_is_retired
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import COMMIT, Stage, serving
from tests.fix_release_shift import Route, add_autoscaler, blue_green, least, ready, scaled
from tests.test_release_shift import set_image

pytestmark = pytest.mark.services
RUN = "11111111-2222-3333-4444-555555555555"


@flow(name="retiring", persist_result=False)
def retiring(release_id: str) -> str:
    """The step as the sign-off runs it."""
    return retire_old_side("stage", release_id, RUN)


def released(stage: Stage, image: str = "v2", commit: str = "2" * 40) -> str:
    """Release it in blue-green, and return the release's id."""
    state = stage.release(image, commit, adopt=True)
    assert state.is_completed(), state.message
    return stage.journals()[-1].release_id


def pods(stage: Stage, name: str) -> int:
    found: int = stage.deployment(name)["spec"]["replicas"]
    return found


def untouched(stage: Stage, name: str, count: int = 2) -> bool:
    """Whether a side has its Pods, and nobody the lease."""
    return pods(stage, name) == count and stage.lease_holder() == ""


def test_the_old_sides_pods_go_its_objects_stay_and_a_rollback_has_them_again(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    add_autoscaler(stage, least=1, most=5)
    release_id = released(stage)
    assert least(stage, "hello") == 2, "kept full for a while"
    shifts = len(route.written)
    assert "the old side, hello, loses its 2 Pods" in what_is_retired("stage", release_id)
    told = retiring(release_id)
    assert told == "the old side, hello, was retired: its 2 Pods are gone, its objects stay for a rollback"
    assert untouched(stage, "hello", 0)
    assert (pods(stage, "hello-blue"), least(stage, "hello")) == (2, 1)
    assert len(route.written) == shifts, "no traffic was moved"
    # Again: nothing more happens.
    assert "had no Pods any more" in retiring(release_id)
    assert "has no Pods" in what_is_retired("stage", release_id)
    # What a sweep does after it changes nothing of that.
    assert stage.recover().is_completed()
    assert pods(stage, "hello") == 0

    back = stage.run_rollback("found on the second day")
    assert back.is_completed(), back.message
    assert {name for name, weight in route.weights().items() if weight} == {"hello"}
    assert (ready(stage, "hello"), pods(stage, "hello-blue")) == (2, 0)
    assert stage.image_of("worker") == stage.image("v1")
    with pytest.raises(PermanentError, match="not the newest release that is live: none is"):
        retiring(release_id)
    assert untouched(stage, "hello")


def test_by_a_services_selector_it_goes_back_after_it_too_and_only_the_newest_release_retires(stage: Stage) -> None:
    blue_green(stage)
    first, second = released(stage), released(stage, "v3", COMMIT)
    with pytest.raises(PermanentError, match=f"{first} is not the newest release that is live: {second} is"):
        retiring(first)
    assert untouched(stage, "hello-blue")
    assert "was retired" in retiring(second)
    assert (pods(stage, "hello-blue"), pods(stage, "hello-green")) == (0, 2)
    back = stage.run_rollback("a mistake")
    assert back.is_completed(), back.message
    assert serving(stage) == stage.image("v2")


def test_a_release_that_was_rolled_out_in_place_has_nothing_to_retire(stage: Stage, kubernetes: KubernetesApi) -> None:
    assert stage.release("v2").is_completed()
    release_id, writes = stage.journals()[-1].release_id, len(kubernetes.writes())
    told = "rolled out in place"
    assert told in what_is_retired("stage", release_id)
    assert told in retiring(release_id)
    assert kubernetes.writes()[writes:] == []


def test_an_old_side_that_somebody_changed_keeps_its_pods(stage: Stage, kubernetes: KubernetesApi) -> None:
    blue_green(stage)
    release_id = released(stage)
    set_image(kubernetes, stage, "hello", "v9")
    with pytest.raises(ForeignChangeError, match="somebody else changed the old side hello"):
        retiring(release_id)
    assert untouched(stage, "hello")


def test_an_old_side_that_has_traffic_keeps_its_pods(stage: Stage, route: Route) -> None:
    release_id = released(stage)
    route.write(hello=25, hello_blue=75)
    with pytest.raises(PermanentError, match="it has 25 % of the traffic"):
        retiring(release_id)
    assert untouched(stage, "hello")


def test_while_the_new_side_has_no_ready_pod_the_old_one_keeps_its_own(stage: Stage, kubernetes: KubernetesApi) -> None:
    blue_green(stage)
    release_id = released(stage)
    scaled(stage, kubernetes, "hello-blue", 0)
    with pytest.raises(PermanentError, match="hello-blue, which has the traffic, has no ready Pod"):
        retiring(release_id)
    assert untouched(stage, "hello")


def test_while_another_holds_the_lease_nothing_is_touched(stage: Stage) -> None:
    blue_green(stage)
    release_id = released(stage)
    release = release_of(stage.environment)
    with KubernetesClient.open(None) as client:
        lease = Lease(client, release, "stage", utc_now)
        fence = lease.take("r-ffffffffffff", "another run", ())
        with pytest.raises(HeldError, match="r-ffffffffffff holds it"):
            retiring(release_id)
        lease.give_back(fence)
    assert untouched(stage, "hello")


@pytest.mark.parametrize("when", ["before the lease", "under the lease"])
def test_a_release_that_was_left_open_keeps_both_sides(stage: Stage, kubernetes: KubernetesApi, when: str) -> None:
    blue_green(stage)
    release_id = released(stage)
    name = f"nightshift-r-{release_id.removeprefix('r-')}"

    def opened(*_: str) -> None:
        kubernetes.merge(
            "v1", "configmaps", "nightshift", name, {"metadata": {"labels": {"nightshift.dev/journal": "open"}}}
        )

    if when == "before the lease":
        opened()
    else:
        kubernetes.after("PATCH", "/leases", opened)
    with pytest.raises(PermanentError, match="is open: a release or rollback goes on"):
        retiring(release_id)
    assert untouched(stage, "hello")


def test_an_old_side_that_is_gone_is_nothing_to_retire(stage: Stage) -> None:
    blue_green(stage)
    release_id = released(stage)
    uid = stage.deployment()["metadata"]["uid"]
    stage.client.delete(f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/hello", uid=uid)
    assert retiring(release_id) == "hello is gone already: there is nothing to retire"
    back = stage.run_rollback("a mistake")
    assert back.is_failed(), "a way back that is not there is refused, with what is missing"
    assert "hello" in str(back.message)


def take_over(stage: Stage) -> Callable[..., None]:
    """Another holder takes the lease and stamps the old side."""

    def action(*_: str) -> None:
        path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/hello"
        marks = {"nightshift.dev/fence": "99", "nightshift.dev/release": "r-ffffffffffff"}
        stage.client.merge(path, {"metadata": {"annotations": marks}})

    return action


def test_whoever_took_over_meanwhile_is_not_written_over(stage: Stage, kubernetes: KubernetesApi) -> None:
    blue_green(stage)
    release_id = released(stage)
    kubernetes.after("PATCH", "/deployments/hello", take_over(stage))
    with pytest.raises(PermanentError, match="number 99 of r-ffffffffffff"):
        retiring(release_id)
    assert pods(stage, "hello") == 2
