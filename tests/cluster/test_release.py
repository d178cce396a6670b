"""Releases on the real node: out, back, and brought to their end."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tasks.kubernetes_client import KubernetesClient
from tests.fix_cluster import LAB
from tests.fix_kill_proxy import KillProxy
from tests.fix_object_store import S3Server
from tests.fix_release import COMMIT, NEXT_COMMIT, Stage, release_settings, serving
from tests.fix_release_child import kill_at_write
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def build_hello(version: str, *options: str) -> str:
    """Make an image of the lab's application and return its name by digest."""
    made = subprocess.run(
        [LAB / "apps/hello/build.sh", version, *options], capture_output=True, text=True, check=True, timeout=60
    )
    return next(line for line in made.stdout.split() if "@sha256:" in line)


@pytest.fixture(scope="module")
def hello_images() -> dict[str, str]:
    """Image names by digest: good ones, and one for each way of being bad."""
    if not (LAB / "apps/hello/build.sh").exists():
        pytest.skip("no lab beside the checkout")
    return {
        "v1": build_hello("rel-1"),
        "v2": build_hello("rel-2"),
        "crashing": build_hello("rel-crash", "CRASH_AFTER=0.2"),
        "unready": build_hello("rel-unready", "READY_DELAY=never"),
        "gone": "localhost/hello@sha256:" + "0" * 64,
    }


@pytest.fixture
def lab_stage(  # noqa: PLR0917 - fixtures
    cluster: KubernetesClient,
    hello_images: dict[str, str],
    stage_folder: Path,
    prefect_server: str,
    s3_server: S3Server,
    bucket: str,
) -> Iterator[Stage]:
    """`hello` at its first version, rolled out, in namespaces of the test's own."""
    mark = secrets.token_hex(4)
    names = [f"nightshift-test-{mark}", f"nightshift-test-control-{mark}"]
    made = [
        cluster.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name in names
    ]
    settings = release_settings(bucket, s3_server.endpoint, *names, "localhost/hello")
    found = Stage(stage_folder, settings, cluster, *names, hello_images.__getitem__)
    for document in yaml.safe_load_all((LAB / "apps/hello/hello.yaml").read_text()):
        if document["kind"] == "Deployment":
            document["spec"]["template"]["spec"]["containers"][0]["image"] = hello_images["v1"]
            document["metadata"]["annotations"] = {"nightshift.dev/commit": COMMIT}
        root = "/apis/apps/v1" if document["kind"] == "Deployment" else "/api/v1"
        cluster.create(f"{root}/namespaces/{names[0]}/{document['kind'].lower()}s", document)
    wait_until(lambda: found.deployment().get("status", {}).get("availableReplicas") == 2, "hello is there", seconds=60)
    yield found
    for one in made:
        cluster.delete(f"/api/v1/namespaces/{one['metadata']['name']}", uid=one["metadata"]["uid"])


def test_a_good_release_is_rolled_out_and_leaves_a_closed_journal_a_free_lease_and_a_report(lab_stage: Stage) -> None:
    state = lab_stage.release("v2")
    assert state.is_completed(), state.message
    assert lab_stage.image_of() == lab_stage.image("v2")
    assert lab_stage.lease_holder() == ""
    (journal,) = lab_stage.journals()
    assert journal.outcome == "released"
    assert [one.event for one in journal.entries] == ["opened", "intent", "done", "intent", "done", "closed"]
    (report,) = lab_stage.reports()
    # The waived recovery point is a warning.
    assert report.verdict == "passed with warnings"
    assert NEXT_COMMIT[:12] in str(state.message)


def test_the_same_release_again_changes_nothing_and_says_so(lab_stage: Stage) -> None:
    lab_stage.release("v2")
    before = lab_stage.deployment()
    state = lab_stage.release("v2")
    assert state.is_completed()
    assert "is live already" in str(state.message)
    assert lab_stage.deployment() == before


@pytest.mark.parametrize(("bad", "cause"), [("crashing", "crash"), ("gone", "pull"), ("unready", "ready")])
def test_a_bad_image_is_rolled_back_with_its_cause_in_one_sentence(lab_stage: Stage, bad: str, cause: str) -> None:
    state = lab_stage.release(bad)
    assert state.name == "RolledBack"
    assert cause in str(state.message).lower(), state.message
    assert lab_stage.image_of() == lab_stage.image("v1")
    assert lab_stage.lease_holder() == ""
    assert lab_stage.journals()[-1].outcome == "rolled back"


def test_blue_green_adopts_a_plain_deployment_and_alternates_from_then_on(lab_stage: Stage) -> None:
    lab_stage.settings["release"] |= {
        "strategy": "blue-green",
        "drain_seconds": 1,
        "traffic": {"kind": "service", "name": "hello", "soak_seconds": 1},
    }
    refused = lab_stage.release("v2")
    assert refused.is_failed()
    assert "adopt = true" in str(refused.message)
    adopted = lab_stage.release("v2", adopt=True)
    assert adopted.is_completed(), adopted.message
    assert lab_stage.image_of("hello-blue") == lab_stage.image("v2")
    assert lab_stage.selector()["nightshift.dev/colour"] == "blue"
    back = lab_stage.run_rollback("the other way")
    assert back.is_completed(), back.message
    assert "nightshift.dev/colour" not in lab_stage.selector()
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0
    assert lab_stage.release("v2").is_failed()
    again = lab_stage.release("v2", adopt=True)
    assert again.is_completed(), again.message
    green = lab_stage.release("v1", COMMIT)
    assert green.is_completed(), green.message
    assert lab_stage.selector()["nightshift.dev/colour"] == "green"
    assert lab_stage.lease_holder() == ""


def test_a_bad_version_never_gets_traffic_in_blue_green(lab_stage: Stage) -> None:
    lab_stage.settings["release"] |= {
        "strategy": "blue-green",
        "drain_seconds": 1,
        "traffic": {"kind": "service", "name": "hello", "soak_seconds": 1},
    }
    state = lab_stage.release("unready", adopt=True)
    assert state.name == "RolledBack", state.message
    assert lab_stage.selector() == {"app": "hello"}
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0


BLUE_GREEN = {
    "strategy": "blue-green",
    "drain_seconds": 0,
    "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
}


# Right before a write the world is as right after the one before it: one strategy is enough to show that.
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("when", "strategy"), [("before", "rolling"), ("after", "rolling"), ("after", "blue-green")])
def test_a_release_that_is_killed_at_any_write_is_brought_to_one_of_two_ends(
    lab_stage: Stage, kill_proxy: KillProxy, monkeypatch: pytest.MonkeyPatch, when: str, strategy: str
) -> None:
    # How long a dead holder's lease is watched: the children are dead.
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    lab_stage.settings["release"] |= {"settle_seconds": 0, **(BLUE_GREEN if strategy == "blue-green" else {})}
    ends = set()
    for number in range(1, 90):
        _, killed = kill_at_write(lab_stage, kill_proxy, number, when, adopt=True)
        if not killed:
            break
        at = f"killed {when} write {number}, {' '.join(kill_proxy.writes[-1])}"
        state = lab_stage.recover()
        assert state.is_completed(), f"{at}: {state.message}"
        assert not lab_stage.lease_holder(), at
        assert all(not one.is_open for one in lab_stage.journals()), at
        ends.add(image := serving(lab_stage))
        if image == lab_stage.image("v2"):
            assert lab_stage.run_rollback("for the next round").is_completed(), at
        assert serving(lab_stage) == lab_stage.image("v1"), at
    assert number > 5
    assert ends == {lab_stage.image("v1"), lab_stage.image("v2")}
