"""The watch as it is made in earnest: by a release on a real server and worker, its ticks killed, the server away, another release, a rollback; on a real cluster."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import httpx
import pytest

from core.watch_counts import BUCKETS
from tasks.watch_records import ENDED, WatchRecords
from tests.fix_release import Stage
from tests.fix_release_platform import Hello, ReleasePlatform
from tests.waiting import wait_until

logger = logging.getLogger(__name__)
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.platform,
    pytest.mark.timeout(420),
    pytest.mark.xdist_group("release-platform"),
]


class Address:
    """A public address that answers, or keeps whoever asks waiting: so a look is in its middle for as long as a test wants."""

    def __init__(self) -> None:
        self.go_on, self.asked = threading.Event(), threading.Event()
        self.go_on.set()
        handler = type("Handler", (_Handler,), {"address": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    address: Address

    def do_GET(self) -> None:
        self.address.asked.set()
        self.address.go_on.wait(60)
        with suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[Address]:
    found = Address()
    yield found
    found.go_on.set()
    found.server.shutdown()
    found.server.server_close()


class Watched:
    """`platform_stage` with a table [watch], and what the server knows of its watches."""

    def __init__(self, platform: ReleasePlatform, stage: Stage) -> None:
        self.platform, self.stage = platform, stage
        self.deployment = platform.client.read_deployment_by_name("post-deploy-watch/stage").id

    def release(self, image: str, key: str) -> str:
        """Release a version through the server and worker, and return the release's id."""
        run = self.platform.post_release(image, key)
        state = self.platform.wait_for_end(run["id"], seconds=180)
        assert state["type"] == "COMPLETED", state
        return f"r-{run['id'].replace('-', '')[:12]}"

    def records(self, release_id: str) -> WatchRecords:
        """What is kept of a watch."""
        return WatchRecords(self.stage.environment, release_id)

    def ticks(self, release_id: str) -> list[str]:
        """Names of the looks that are kept."""
        return [one for one in self.records(release_id).names() if one.startswith("tick-")]

    def schedules(self) -> dict[str, Any]:
        """Those of watches, by slug."""
        found = self.platform.client.read_deployment_schedules(self.deployment)
        return {one.slug: one for one in found if (one.slug or "").startswith("watch-")}

    def planned(self, release_id: str) -> list[dict[str, Any]]:
        """The runs of its schedule that are to come, in order."""
        query = {
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "deployments": {"id": {"any_": [str(self.deployment)]}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        answer = self.platform.rest.post("/flow_runs/filter", json=query).raise_for_status()
        return [one for one in answer.json() if one["auto_scheduled"] and one["parameters"]["release_id"] == release_id]

    def run_of(self, release_id: str, nth: int = 0) -> str:
        """The id of a run that was asked for at once, the oldest first."""

        def found() -> list[str]:
            runs = self.platform.runs_of("post-deploy-watch")
            asked = [one for one in runs if not one["auto_scheduled"] and one["parameters"]["release_id"] == release_id]
            return [one["id"] for one in sorted(asked, key=lambda one: one["created"])]

        wait_until(lambda: len(found()) > nth, "the run is asked for", seconds=60)
        return found()[nth]

    def look(self, release_id: str) -> dict[str, Any]:
        """Look now, by a run of the worker's, and return its end."""
        run = self.platform.post_tick(release_id)["id"]
        state = self.platform.wait_for_end(run, seconds=180)
        seen = self.platform.rest.get(f"/flow_runs/{run}").json()
        took = datetime.fromisoformat(seen["end_time"]) - datetime.fromisoformat(seen["start_time"])
        logger.info("a look by the worker took %.2f s from its run's start to its end: %s", took.total_seconds(), state)
        return state


@pytest.fixture
def watched(release_platform: ReleasePlatform, platform_stage: Stage, address: Address) -> Iterator[Watched]:
    probes = {"url": address.url, "timeout_seconds": 10}
    platform_stage.settings["watch"] = {"health": {"databases": False}, "probes": probes}
    platform_stage.write()
    found = Watched(release_platform, platform_stage)
    yield found
    address.go_on.set()
    for one in found.schedules().values():
        release_platform.client.delete_deployment_schedule(found.deployment, one.id)


def test_a_release_makes_its_schedule_and_a_look_that_is_killed_is_made_up_for(
    watched: Watched, address: Address
) -> None:
    platform = watched.platform
    address.go_on.clear()
    release_id = watched.release(watched.stage.image("2"), "watch-first")
    (schedule,) = watched.schedules().values()
    assert schedule.slug == f"watch-{release_id}"
    assert f"INTERVAL=5;COUNT={BUCKETS}" in schedule.schedule.rrule

    first = watched.run_of(release_id)
    assert address.asked.wait(90)
    platform.kill(first)
    assert platform.wait_for_end(first)["type"] == "CRASHED"
    assert watched.ticks(release_id) == []

    address.go_on.set()
    state = watched.look(release_id)
    assert state["type"] == "COMPLETED", state
    assert f" of {BUCKETS} buckets: " in state["message"]
    (kept,) = watched.ticks(release_id)
    assert kept.startswith("tick-")
    tick = watched.records(release_id).newest_tick([kept])
    assert tick is not None
    assert len(tick.sources["pods"]["replica_sets"]) == 1

    wait_until(lambda: len(watched.planned(release_id)) >= 3, "runs are planned ahead", seconds=150)
    times = [datetime.fromisoformat(one["expected_start_time"]) for one in watched.planned(release_id)]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(minutes=5)}
    assert times[0] >= watched.records(release_id).start().first + timedelta(minutes=5)

    # The server is away for a while: what it knew is there again, and looks go on.
    server = platform.prefect.service
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    time.sleep(15)
    with pytest.raises(httpx.TransportError):
        platform.rest.get("/health")
    server.start()
    platform.prefect.wait_until_ready()
    assert list(watched.schedules()) == [f"watch-{release_id}"]
    assert len(watched.planned(release_id)) >= 3
    state = watched.look(release_id)
    assert state["type"] == "COMPLETED", state


def test_another_release_supersedes_the_watch_and_a_rollback_ends_its_own(watched: Watched, hello: Hello) -> None:
    platform = watched.platform
    first = watched.release(watched.stage.image("2"), "watch-old")
    state = platform.wait_for_end(watched.run_of(first))
    assert state["type"] == "COMPLETED", state

    second = watched.release(hello("3"), "watch-new")
    ended = platform.wait_for_end(watched.run_of(first, 1))
    assert (ended["name"], ended["type"]) == ("Superseded", "COMPLETED"), ended
    assert ENDED in watched.records(first).names()
    assert watched.records(first).end().how == "superseded"
    assert list(watched.schedules()) == [f"watch-{second}"]
    assert watched.planned(first) == []

    done = platform.wait_for_end(platform.post_rollback("INC-9")["id"], seconds=180)
    assert done["type"] == "COMPLETED", done
    wait_until(lambda: ENDED in watched.records(second).names(), "the watch ends", seconds=90)
    assert watched.records(second).end().how == "rolled back"
    wait_until(lambda: watched.schedules() == {}, "the schedule is gone")
    assert watched.planned(second) == []
