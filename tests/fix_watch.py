"""The day after a release of `stage`, in no time: a scripted Prometheus tells what each bucket had, and it is whatever time a test says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound

from core.keys import watch_folder
from core.watch_counts import BUCKETS, Array
from core.watch_days import BUCKET
from core.watch_decision import STOPPED
from core.watch_record import WatchEnd, WatchStart, WatchTick
from flows.post_deploy_watch import post_deploy_watch
from flows.rollback import rollback
from flows.watch_sign_off import watch_sign_off
from tasks.object_store import ObjectStore
from tasks.sealed import sealed_bytes
from tasks.secrets import signing_keys
from tasks.watch_records import WatchRecords
from tasks.watch_stand import Stand as WatchStand
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_release import Stage

DEPLOYED = (post_deploy_watch, rollback, watch_sign_off)


def _flat(value: float) -> Array:
    return np.full(BUCKETS, float(value))


@dataclass
class Day:
    """What Prometheus has: requests, failed and slow ones by bucket; of the earlier days always the same. NaN: it has no such series. `known`: it scraped at all;
    `scraped`: so many of the new Pods, at any time."""

    stage: Stage
    api: PrometheusApi
    requests: Array = field(default_factory=lambda: _flat(600))
    errors: Array = field(default_factory=lambda: _flat(3))
    slow: Array = field(default_factory=lambda: _flat(6))
    known: Array = field(default_factory=lambda: np.ones(BUCKETS, dtype=bool))
    before: tuple[float, float, float] = (600, 3, 6)
    lags: tuple[int, ...] = (7, 14, 21, 28)
    scraped: float = 100
    release_id: str = ""
    now: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    first: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    def begin(self, image: str = "v2", **parameters: Any) -> State[Any]:
        """Release a version for real; its day begins."""
        state = self.stage.release(image, **parameters)
        self.release_id = self.stage.journals()[-1].release_id
        self.first = self.start.first
        return state

    def begin_badly(self) -> State[Any]:
        """Release a version that crashes: it goes back by itself."""
        return self.stage.release("bad")

    @property
    def records(self) -> WatchRecords:
        """What is kept of the watch."""
        return WatchRecords(self.stage.environment, self.release_id)

    @property
    def start(self) -> WatchStart:
        """What is watched."""
        return self.records.start()

    @property
    def end(self) -> WatchEnd:
        """How it ended."""
        return self.records.end()

    @property
    def names(self) -> tuple[str, ...]:
        """What is there."""
        return self.records.names()

    @property
    def newest(self) -> WatchTick:
        """The tick that saw most."""
        found = self.records.newest_tick(self.names)
        assert found is not None
        return found

    def stand_anew(self) -> WatchStand:
        """How it stands for somebody who saw nothing yet."""
        now = WatchStand.read(self.stage.environment, self.release_id)
        return WatchStand(now.environment, now.records, now.names, now.start, before=None, marks=(), ended=None)

    @property
    def newest_replica_sets(self) -> tuple[str, ...]:
        """The new version's, as the last tick has them."""
        return tuple(self.newest.sources["pods"]["replica_sets"])

    def at(self, bucket: int, seconds: float = 75) -> datetime:
        """It is so long after a bucket's end: 70 s are needed for its last scrape. Bucket 0: so long after the watch's beginning."""
        self.now = self.start.first + BUCKET * bucket + timedelta(seconds=seconds)
        return self.now

    def tick(self, bucket: int, seconds: float = 75) -> State[Any]:
        """Run the flow once so many buckets are over."""
        self.at(bucket, seconds)
        return post_deploy_watch("stage", self.release_id, return_state=True)

    def stop_after(self, bucket: int) -> None:
        """Have the watch stopped by the next release after so many buckets, though that came in the same minute."""
        store, environment = ObjectStore.open(self.stage.environment), self.stage.environment
        mark = self.records.mark(STOPPED).model_copy(update={"at": self.at(bucket)})
        key = f"{watch_folder(environment.prefix, self.release_id)}{STOPPED}.json"
        store.put(key, sealed_bytes(mark, signing_keys(environment)[0]))

    def sweep(self) -> State[Any]:
        """Run the sweep, at the same time as the last tick."""
        return post_deploy_watch("stage", return_state=True)

    def runs_of(self, flow: str) -> list[FlowRun]:
        """Runs of FLOW/stage that were asked for, oldest first."""
        with get_client(sync_client=True) as prefect:
            deployment = prefect.read_deployment_by_name(f"{flow}/stage").id
            found = [one for one in prefect.read_flow_runs() if one.deployment_id == deployment]
        return sorted(found, key=lambda one: one.created or self.now)

    def schedules(self) -> list[str]:
        """Slugs of the schedules of post-deploy-watch/stage."""
        with get_client(sync_client=True) as prefect:
            deployment = prefect.read_deployment_by_name("post-deploy-watch/stage").id
            return sorted(one.slug or "" for one in prefect.read_deployment_schedules(deployment))

    def answer(self, query: str, _at: float) -> list[dict[str, Any]]:
        """As Prometheus would."""
        form = self.api.asked[-1][1]
        if "start" not in form:
            return []
        begin, end, step = float(form["start"]), float(form["end"]), float(form["step"])
        points = []
        for at in np.arange(begin, end + 1, step):
            value = self._value(query, float(at))
            if np.isfinite(value):
                points.append([float(at), str(value)])
        return [{"metric": {}, "values": points}] if points else []

    def _value(self, query: str, at: float) -> float:
        if query.startswith("count(count by"):
            return self.scraped
        bucket = round((at - self.first.timestamp()) / BUCKET.total_seconds()) - 1
        if bucket >= 0:
            if not self.known[bucket]:
                return float("nan")
            requests, errors, slow = self.requests[bucket], self.errors[bucket], self.slow[bucket]
        elif any(0 <= bucket + 288 * lag < BUCKETS for lag in self.lags):
            requests, errors, slow = self.before
        else:
            return float("nan")
        if query.startswith("count(up"):
            return 1.0
        if 'le="+Inf"' in query or 'status!=""' in query:
            return requests
        return requests - slow if "le!=" in query else errors


@pytest.fixture
def day(stage: Stage, prometheus_api: PrometheusApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Day]:
    """`stage` with a table [watch], its scripted Prometheus, and its deployments on the test server; nothing released yet."""
    stage.settings["release"] |= {
        "workloads": [{"name": "hello"}, {"name": "worker", "role": "worker"}],
        "gates": {"prometheus_url": prometheus_api.address, "minimum_requests": 10},
    }
    # What is tried is what a look finds, not that it is quick on a machine that runs other tests beside.
    monkeypatch.setattr("tasks.watch_looks.LOOK_SECONDS", 20.0)
    # Its database is nobody's.
    stage.settings["watch"] = {"health": {"databases": False}}
    stage.settings["timezone"] = "Europe/Berlin"
    found = Day(stage, prometheus_api)
    prometheus_api.answer = found.answer
    with on_server(found, monkeypatch):
        yield found


@contextmanager
def on_server(day: Day, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The deployments that a watch needs, on the test server while the block runs; it is whatever time a test says."""
    monkeypatch.setattr("flows.post_deploy_watch.utc_now", lambda: day.now)
    for one in DEPLOYED:
        one.to_deployment(name="stage", parameters={"environment": "stage"}).apply()
    yield
    with get_client(sync_client=True) as prefect:
        for one in DEPLOYED:
            # By name: a test may have removed one, and made it anew.
            with suppress(ObjectNotFound):
                prefect.delete_deployment(prefect.read_deployment_by_name(f"{one.name}/stage").id)
