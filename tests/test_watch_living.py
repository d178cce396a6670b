"""A day after a release of ten services that a real Prometheus scrapes while their knobs turn: what the watch of each tells, how soon, and how its day ends."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from core.keys import watch_folder
from core.watch_counts import BUCKETS
from core.watch_days import LAG_DAYS, first_bucket
from core.watch_verdict import Judgement
from tasks.kubernetes_kinds import find_kind
from tasks.object_store import ObjectStore
from tasks.sealed import sealed_bytes
from tasks.secrets import signing_keys
from tasks.watch_count import count
from tasks.watch_steps import judged
from tests.fix_release import Stage, hello_documents
from tests.fix_sample_application import Application, sample_application
from tests.fix_watch import Day
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(580), pytest.mark.xdist_group("watch-living")]
CRASHING = "crashing"
SERVICES = ("well", "resetting", "threefold", "slow", "late", "gone", "renamed", "collapsed", "quiet", CRASHING)
HOUR, BUCKET, HOUR_BUCKETS = 3600, 300, 12
# After so many buckets knobs are turned, and later Prometheus is stopped, for so many.
TURN, STOP, AWAY = 3 * HOUR_BUCKETS, 12 * HOUR_BUCKETS, 15
# Minutes a scrape: when nobody looks, and in the weeks before.
FAST, FASTER = 30, 120


@dataclass
class Living:
    """The application and a watch of each of its services. `released`: seconds since the epoch. `told`: what each tick said, by the bucket that was over last."""

    base: Day
    application: Application
    released: int
    monkeypatch: pytest.MonkeyPatch
    days: dict[str, Day] = field(default_factory=dict)
    told: dict[str, list[tuple[int, State[Any]]]] = field(default_factory=dict)

    def release(self) -> dict[str, list[str]]:
        """Release the new version for real, once for CRASHING and once for all others, each of which is a prefix of the bucket; return the new Pods of each service."""
        pods = {}
        for name, stage in (("well", self.base.stage), (CRASHING, self._own_stage(CRASHING))):
            day = self.days[name] = replace(self.base, stage=stage)
            self.monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(stage.folder))
            state = day.begin()
            assert state.is_completed(), state.message
            pods[name] = _pods_of(stage, "v2")
        for name in SERVICES:
            day = self.days[name] = self.days[name] if name == CRASHING else self._copied(name)
            settings = day.stage.settings["release"]
            settings["gates"] = {
                "prometheus_url": self.application.address,
                "requests": f'http_requests_total{{pod=~"{{pods}}",service="{name}"}}',
                "durations": f'http_request_duration_seconds_bucket{{pod=~"{{pods}}",service="{name}"}}',
            }
            self.monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(day.stage.folder))
            environment, released = day.stage.environment, datetime.fromtimestamp(self.released, UTC)
            start = day.start.model_copy(update={"released_at": released, "first": first_bucket(released)})
            key = f"{watch_folder(environment.prefix, day.release_id)}watch.json"
            ObjectStore.open(environment).put(key, sealed_bytes(start, signing_keys(environment)[0]))
            self.told[name] = []
        return {name: pods.get(name, pods["well"]) for name in SERVICES}

    def at(self, bucket: int) -> int:
        """When so many buckets are over and their last scrape has come in."""
        return self.released + BUCKET * bucket + 120

    def look(self, bucket: int, *names: str, step: int = 5) -> None:
        """Let the application run until so many buckets are over, so many minutes a scrape, and then look at these services."""
        self.application.run(self.at(bucket), step)
        self.look_now(bucket, *names)

    def look_now(self, bucket: int, *names: str) -> None:
        """Look at these services, at that time; whoever was told that one is worse looks at it no more."""
        for name in names:
            day = self.chosen(name)
            if self.first(name, "Degraded") < 0:
                self.base.now = day.at(bucket, 100)
                self.told[name].append((bucket, day.tick(bucket, 100)))

    def first(self, name: str, told: str) -> int:
        """After which bucket that was told of a service first; -1: never."""
        return next((bucket for bucket, state in self.told[name] if state.name == told), -1)

    def failed(self, name: str) -> list[str]:
        """What was told of a service as a failure, in order."""
        return [
            f"{state.name} after {bucket}: {state.message}" for bucket, state in self.told[name] if state.is_failed()
        ]

    def last(self, name: str) -> State[Any]:
        """What was told of a service last."""
        return self.told[name][-1][1]

    def look_once(self, name: str) -> Judgement:
        """What is said of the whole day by who looks at its end alone."""
        day = self.chosen(name)
        counted = count(day.stand_anew(), day.newest_replica_sets, day.at(BUCKETS))
        return judged(day.stand_anew(), counted)

    def chosen(self, name: str) -> Day:
        """A service's day, of whose environment `stage` is spoken from now on."""
        self.monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(self.days[name].stage.folder))
        return self.days[name]

    def _own_stage(self, name: str) -> Stage:
        """An environment `stage` in a namespace of its own."""
        base, control = self.base.stage, f"{name}-control"
        for one in (name, control):
            document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one}}
            base.client.create("/api/v1/namespaces", document)
        for document in hello_documents(base.image("v1"))[:2]:
            base.client.create(find_kind(base.client, document["kind"]).path(name), document)
        settings = copy.deepcopy(base.settings)
        settings["store"]["prefix"] = name
        settings["release"] |= {"namespace": name, "control_namespace": control, "workloads": [{"name": "hello"}]}
        found = replace(base, folder=_folder(base, name), settings=settings, namespace=name, control=control)
        wait_until(lambda: found.deployment().get("status", {}).get("availableReplicas") == 2, name)
        return found

    def _copied(self, name: str) -> Day:
        """The same release below a prefix of its own."""
        well, base = self.days["well"], self.base.stage
        self.monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(base.folder))
        settings = copy.deepcopy(well.stage.settings)
        settings["store"]["prefix"] = name
        stage = replace(base, folder=_folder(base, name), settings=settings)
        store, prefix = ObjectStore.open(base.environment), base.environment.prefix
        for one in list(store.list(f"{prefix}/")):
            store.put(name + one.key.removeprefix(prefix), store.get(one.key))
        return replace(well, stage=stage)


def _folder(stage: Stage, name: str) -> Path:
    folder = stage.folder / name
    folder.mkdir()
    return folder


def _pods_of(stage: Stage, version: str) -> list[str]:
    return [
        one["metadata"]["name"]
        for one in stage.client.list(f"/api/v1/namespaces/{stage.namespace}/pods", labelSelector="app=hello")
        if one["spec"]["containers"][0]["image"] == stage.image(version)
    ]


@pytest.fixture
def living(day: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    """The services, released by nobody yet, whose day began the day before yesterday; nobody scrapes them yet."""
    day.stage.settings["timezone"] = "UTC"
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with sample_application(folder, free_port(), SERVICES) as application:
        yield Living(day, application, int((now - timedelta(days=2)).timestamp()), monkeypatch)


def live_through_the_weeks_before(living: Living) -> None:
    """The same day of four weeks, and the hour before the release; nothing in between. Counters begin before the days do."""
    application = living.application
    for lag in sorted(LAG_DAYS, reverse=True):
        begin = living.released - lag * 24 * HOUR
        for one in application.services.values():
            one.deploy([f"hello-old{lag}-a", f"hello-old{lag}-b"])
        application.jump(begin - HOUR)
        application.run(begin + 25 * HOUR, FASTER)
    application.jump(living.released - HOUR)
    application.run(living.released, FASTER)


def live_through_the_day(living: Living, pods: dict[str, list[str]]) -> None:
    """The day of the new version, which Prometheus scrapes but for a while."""
    services, look = living.application.services, living.look
    look(TURN, *SERVICES, step=FAST)
    services["threefold"].turn(errors=0.015)
    services["slow"].turn(slow=0.03)
    services["collapsed"].turn(requests=1.2)
    services["gone"].end()
    services[CRASHING].turn(restarts=3)
    for pod in pods[CRASHING]:
        assert living.base.stage.controllers is not None
        living.base.stage.controllers.mark(pod, "crash")
    look(TURN + 1, CRASHING)
    look(TURN + 2, CRASHING)
    look(TURN + 6, "slow", "gone")
    look(TURN + 7, "gone")
    look(TURN + 12, "threefold", "slow", "collapsed")
    look(TURN + 24, "threefold", "slow", step=FAST)
    look(STOP - 6, "well", "late", step=FAST)
    living.application.run(living.at(STOP))


def live_through_the_evening(living: Living) -> None:
    """The rest of it, after Prometheus came back."""
    back = STOP + AWAY
    living.look(back + 2, "well", "late")
    living.look(back + 12, "late")
    living.look(back + 24, "late", step=FAST)
    living.look(BUCKETS, *SERVICES, step=FAST)


def test_a_day_of_services_whose_knobs_turn_while_prometheus_scrapes_them(living: Living) -> None:
    application, services = living.application, living.application.services
    services["quiet"].turn(requests=0.05)
    with application.scraped():
        live_through_the_weeks_before(living)
        pods = living.release()
        for name in SERVICES:
            services[name].deploy(pods[name])
        services["renamed"].turn(counter="requests_total")
        services["resetting"].turn(restarts=40)
        live_through_the_day(living, pods)
    # Prometheus is stopped, and while it is, one of them gets worse.
    services["late"].turn(errors=0.02)
    living.look_now(STOP + 1, "well", "late")
    application.pass_by(living.at(STOP + AWAY))
    living.look_now(STOP + AWAY, "well")
    with application.scraped():
        live_through_the_evening(living)

        # Counters that begin anew are no trouble, and hide none.
        assert (living.failed("resetting"), living.last("resetting").name) == ([], "Healthy")
        # Who was not seen for a while is told as that, once, and what Prometheus had kept until then is read afterwards.
        (blind,) = living.failed("well")
        assert blind.startswith(f"Blind after {STOP + 1}: "), blind
        assert "the observer is blind since" in blind
        assert "Connection refused" in blind
        well = living.chosen("well")
        assert living.last("well").name == "Healthy"
        assert (well.newest.closed, well.newest.known) == (BUCKETS, BUCKETS - AWAY)
        assert living.look_once("well").reasons == well.end.reasons

    # How soon: three times as many failed requests, three times as many slow ones, four times as many failed since nobody saw it.
    assert TURN < living.first("threefold", "Degraded") <= TURN + 24
    assert TURN < living.first("slow", "Degraded") <= TURN + 12
    assert STOP + AWAY < living.first("late", "Degraded") <= STOP + AWAY + 24
    assert "worse than before: errors: E = " in str(living.last("threefold").message)
    assert "worse than before: slow: E = " in str(living.last("slow").message)
    assert TURN < living.first(CRASHING, "Degraded") <= TURN + 2
    assert "2 of 2 Pods of the new version crash again and again" in str(living.last(CRASHING).message)

    # What is not seen is never well.
    for name, since in (("gone", TURN + 7), ("renamed", TURN)):
        assert living.first(name, "Blind") == since
        assert "was a metric renamed, is it scraped?" in living.failed(name)[0]
        assert (living.last(name).name, living.chosen(name).end.verdict) == ("Blind", "blind")
    # Next to no requests since the third hour, and three an hour.
    assert "2 warnings of other sources" in str(living.last("collapsed").message)
    for name in ("collapsed", "quiet"):
        assert living.last(name).name == "Insufficient", living.last(name).message
        assert living.first(name, "Healthy") < 0
