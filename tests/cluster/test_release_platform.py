"""Releases as they are started in earnest: by REST as a webhook would, carried out by a worker, and killed, with the automations of prefect.yaml in force."""

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.command.automations import AUTOMATIONS, ensure_automations
from tests.fix_platform import start_nightshift
from tests.fix_pod_runs import posted
from tests.fix_release import NEXT_COMMIT, SKIPPED, Stage
from tests.fix_release_platform import ENDED, Hello, ReleasePlatform
from tests.waiting import wait_until

logger = logging.getLogger(__name__)
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.platform,
    pytest.mark.timeout(420),
    pytest.mark.xdist_group("release-platform"),
]
# From a recovery's start to: one healthy version has all of the traffic, the lease is free, the journal closed.
SAFE_SECONDS = 60
SLOW = "READY_DELAY=10"


def versions_that_answer(stage: Stage) -> set[str]:
    """The versions that answer requests through the Service."""
    service = stage.client.get(f"/api/v1/namespaces/{stage.namespace}/services/hello")
    url = f"http://{service['spec']['clusterIP']}/"
    answers = (httpx.get(url, timeout=5, trust_env=False, headers={"Connection": "close"}) for _ in range(20))
    try:
        return {answer.raise_for_status().json()["version"] for answer in answers}
    except httpx.TransportError as error:
        # A node that is busy still sends some to a Pod that has ended.
        return {repr(error)}


def only_answers(stage: Stage, version: str) -> None:
    """Hold that this version alone answers. A Pod that was told to end goes on answering for two seconds."""
    wait_until(lambda: versions_that_answer(stage) == {version}, f"{version} alone answers")


def is_rolling(stage: Stage) -> bool:
    """Whether a new version's first Pod is there and not ready yet."""
    status = stage.deployment().get("status", {})
    return status.get("updatedReplicas") == 1 and status.get("unavailableReplicas", 0) >= 1


def is_safe(stage: Stage) -> bool:
    """Whether nothing is left in the middle."""
    return stage.lease_holder() == "" and all(not one.is_open for one in stage.journals())


def seconds_to_safety(platform: ReleasePlatform, stage: Stage, began: float, how: str) -> None:
    """Wait until nothing is left in the middle, and hold the recovery that did it to its objective. Print the figures."""
    wait_until(lambda: bool(stage.journals()) and is_safe(stage), "the safe state", seconds=330)
    safe = time.time()
    recoveries = [one for one in platform.runs_of("release-recovery") if one["start_time"]]
    starts = [datetime.fromisoformat(one["start_time"]).timestamp() for one in recoveries]
    start = max((one for one in starts if began < one < safe), default=began)
    told = [(one["state"]["name"], one["state"]["message"]) for one in recoveries]
    logger.info("%s: recovery began %.1f s later, safe %.1f s after that; %s", how, start - began, safe - start, told)
    assert began < start
    assert safe - start <= SAFE_SECONDS


def with_patience(folder: Path, file: str, before: str, after: str) -> Path:
    """A copy of the automations' folder in which one waits for another time."""
    copy = folder / "automations"
    shutil.copytree(AUTOMATIONS, copy)
    text = (copy / file).read_text()
    assert before in text
    (copy / file).write_text(text.replace(before, after))
    return copy


@pytest.fixture(autouse=True)
def _worker_and_server_run(release_platform: ReleasePlatform) -> Iterator[None]:
    yield
    release_platform.sweep(on=False)
    ensure_automations(release_platform.client)
    if not release_platform.worker.running:
        release_platform.worker.start()


def test_a_release_that_a_webhook_asks_for_twice_is_one_run_and_is_rolled_out(
    release_platform: ReleasePlatform, platform_stage: Stage
) -> None:
    first = release_platform.post_release(platform_stage.image("2"), "delivery-1")
    again = release_platform.post_release(platform_stage.image("2"), "delivery-1")
    assert first["id"] == again["id"]
    state = release_platform.wait_for_end(first["id"])
    assert state["type"] == "COMPLETED", state
    assert platform_stage.image_of() == platform_stage.image("2")
    assert [one.outcome for one in platform_stage.journals()] == ["released"]
    only_answers(platform_stage, "platform-2")


def test_an_environment_without_a_release_table_says_so(
    release_platform: ReleasePlatform, platform_stage: Stage
) -> None:
    text = (release_platform.folder / "stage.toml").read_text()
    (release_platform.folder / "bare.toml").write_text(text.partition("[release]")[0])
    run = release_platform.post_release(platform_stage.image("2"), "delivery-bare", environment="bare")
    state = release_platform.wait_for_end(run["id"])
    assert state["type"] == "FAILED"
    assert "no table [release]" in state["message"]


def test_of_two_releases_at_once_one_is_rolled_out_and_the_other_ends_naming_it(
    release_platform: ReleasePlatform, platform_stage: Stage, hello: Hello
) -> None:
    # Slower than the start of another run's process, however busy the machine.
    slowest = hello("slowest", "READY_DELAY=40")
    first = release_platform.post_release(slowest, "delivery-first")
    wait_until(lambda: is_rolling(platform_stage), "the rollout", seconds=60)
    second = release_platform.post_release(platform_stage.image("2"), "delivery-second")
    refused = release_platform.wait_for_end(second["id"])
    assert refused["type"] == "FAILED"
    assert f"r-{first['id'].replace('-', '')[:12]}" in refused["message"]
    assert release_platform.state(first["id"])["type"] == "RUNNING"
    assert release_platform.wait_for_end(first["id"], seconds=240)["type"] == "COMPLETED"
    assert platform_stage.image_of() == slowest


def test_a_release_that_is_killed_in_its_rollout_is_brought_back_by_itself(
    release_platform: ReleasePlatform, platform_stage: Stage, hello: Hello
) -> None:
    run = release_platform.post_release(hello("slow", SLOW), "delivery-killed")
    wait_until(lambda: is_rolling(platform_stage), "the rollout", seconds=60)
    killed = release_platform.kill(run["id"])
    seconds_to_safety(release_platform, platform_stage, killed, "process killed")
    assert release_platform.wait_for_end(run["id"])["type"] == "CRASHED"
    assert platform_stage.image_of() == platform_stage.image("1")
    assert [one.outcome for one in platform_stage.journals()] == ["rolled back"]
    only_answers(platform_stage, "platform-1")


def test_a_release_that_is_cancelled_in_its_rollout_is_brought_back_by_itself(
    release_platform: ReleasePlatform, platform_stage: Stage, hello: Hello
) -> None:
    run = release_platform.post_release(hello("slow", SLOW), "delivery-cancelled")
    wait_until(lambda: is_rolling(platform_stage), "the rollout", seconds=60)
    cancelled = time.time()
    posted(release_platform.rest, f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    seconds_to_safety(release_platform, platform_stage, cancelled, "cancelled")
    assert platform_stage.image_of() == platform_stage.image("1")
    only_answers(platform_stage, "platform-1")


def test_a_release_that_is_killed_together_with_its_worker_is_brought_back_by_the_sweep(
    release_platform: ReleasePlatform, platform_stage: Stage, hello: Hello
) -> None:
    release_platform.sweep(on=True)
    run = release_platform.post_release(hello("slow", SLOW), "delivery-both")
    wait_until(lambda: is_rolling(platform_stage), "the rollout", seconds=60)
    killed = release_platform.kill_with_worker(run["id"])
    release_platform.worker.start()
    seconds_to_safety(release_platform, platform_stage, killed, "process and worker killed")
    assert platform_stage.image_of() == platform_stage.image("1")
    only_answers(platform_stage, "platform-1")


def test_a_rollback_that_is_killed_in_its_rollout_is_brought_to_its_end_by_itself(
    release_platform: ReleasePlatform, platform_stage: Stage, hello: Hello
) -> None:
    old, new = hello("slow", SLOW), platform_stage.image("2")
    for key, image in (("delivery-old", old), ("delivery-new", new)):
        run = release_platform.post_release(image, key)
        assert release_platform.wait_for_end(run["id"])["type"] == "COMPLETED"
    wait_until(lambda: versions_that_answer(platform_stage) == {"platform-2"}, "the new version alone answers")
    run = release_platform.post_rollback("INC-8")
    wait_until(lambda: is_rolling(platform_stage), "the rollback's rollout", seconds=60)
    killed = release_platform.kill(run["id"])
    seconds_to_safety(release_platform, platform_stage, killed, "rollback killed")
    assert release_platform.wait_for_end(run["id"])["type"] == "CRASHED"
    assert platform_stage.image_of() == old
    only_answers(platform_stage, "platform-slow")


def test_a_release_goes_on_to_its_end_while_the_prefect_server_is_away(
    release_platform: ReleasePlatform, platform_stage: Stage, hello: Hello
) -> None:
    image = hello("slower", "READY_DELAY=20")
    run = release_platform.post_release(image, "delivery-away")
    wait_until(lambda: is_rolling(platform_stage), "the rollout", seconds=60)
    server = release_platform.prefect.service
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    away = time.time()
    time.sleep(60)
    server.start()
    release_platform.prefect.wait_until_ready()
    back = time.time()
    state = release_platform.wait_for_end(run["id"], seconds=180)
    logger.info("server away for %.0f s; release %s: %s", back - away, state["name"], state["message"])
    wait_until(lambda: is_safe(platform_stage), "the safe state", seconds=60)
    assert [one.outcome for one in platform_stage.journals()] == ["released"]
    assert platform_stage.image_of() == image
    assert state["type"] == "COMPLETED"


def test_a_release_without_heartbeats_is_marked_crashed_and_that_starts_its_recovery(
    release_platform: ReleasePlatform, platform_stage: Stage, hello: Hello, tmp_path: Path
) -> None:
    """The sweep is off: only the automations are left. With a shorter patience than the file's five minutes."""
    ensure_automations(release_platform.client, with_patience(tmp_path, "zombies.yaml", "within: 300", "within: 75"))
    run = release_platform.post_release(hello("slow", SLOW), "delivery-zombie")
    wait_until(lambda: is_rolling(platform_stage), "the rollout", seconds=60)
    killed = release_platform.kill_with_worker(run["id"])
    release_platform.worker.start()
    state = release_platform.wait_for_end(run["id"], seconds=200)
    logger.info("marked %s %.0f s after the kill", state["name"], time.time() - killed)
    assert (state["type"], "no heartbeat" in state["message"]) == ("CRASHED", True)
    seconds_to_safety(release_platform, platform_stage, killed, "marked as a zombie")
    only_answers(platform_stage, "platform-1")


def test_a_standstill_of_the_sweep_stands_in_the_event_feed(
    release_platform: ReleasePlatform, platform_stage: Stage, tmp_path: Path
) -> None:
    ensure_automations(
        release_platform.client, with_patience(tmp_path, "sweep-stands-still.yaml", "within: 600", "within: 15")
    )
    done = release_platform.wait_for_end(release_platform.post_recovery()["id"])
    assert (done["type"], done["message"]) == ("COMPLETED", "no release is open")

    def told() -> bool:
        query = {"filter": {"event": {"name": ["prefect.automation.triggered"]}}}
        events = release_platform.rest.post("/events/filter", json=query).raise_for_status().json()["events"]
        return any("no sweep for ten minutes" in event["resource"].get("prefect.resource.name", "") for event in events)

    wait_until(told, "the automation's event", seconds=90)


def test_the_late_sweeps_of_a_night_without_a_worker_do_not_all_begin_at_once(
    release_platform: ReleasePlatform, platform_stage: Stage
) -> None:
    before = len(release_platform.runs_of("release-recovery"))
    release_platform.worker.stop()
    runs = [release_platform.post_recovery()["id"] for _ in range(15)]
    release_platform.worker.start()
    wait_until(
        lambda: all(release_platform.state(one).get("type") in ENDED for one in runs), "all runs end", seconds=180
    )
    names = Counter(release_platform.state(one)["name"] for one in runs)
    logger.info("15 late sweeps: %s", dict(names))
    assert set(names) == {"Completed", "Cancelled"}
    assert 1 <= names["Completed"] <= 10
    # None of them started another one.
    assert len(release_platform.runs_of("release-recovery")) == before + len(runs)


def test_the_command_shows_a_dry_runs_plan_releases_and_lists_what_it_did(
    release_platform: ReleasePlatform, platform_stage: Stage, tmp_path: Path
) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        process = start_nightshift(*arguments, "--json", **release_platform.shell(tmp_path))
        out, err = process.communicate(timeout=150)
        assert process.returncode == 0, out + err
        document: dict[str, Any] = json.loads(out)
        return document

    waived = [f"--skip={item}={reason}" for item, reason in SKIPPED.items()]
    release = ("release", "stage", platform_stage.digest("2"), "--commit", NEXT_COMMIT, "--no-migrate", *waived)
    planned = told(*release, "--dry-run")
    assert "nothing was changed" in planned["message"]
    assert platform_stage.digest("2") in planned["plan"]
    assert platform_stage.image_of() == platform_stage.image("1")

    done = told(*release, "--requested-by", "ada")
    assert done["completed"], done
    listed = told("releases", "stage")
    (one,) = listed["releases"]
    assert (one["outcome"], one["requested_by"], listed["holder"]) == ("released", "ada", None)
    assert told("rollback", "stage", "--reason", "INC-7")["completed"]
    assert platform_stage.image_of() == platform_stage.image("1")
    assert [one["kind"] for one in told("releases", "stage")["releases"]] == ["rollback", "release"]
