"""The switch of a dead man: a watch whose ticks stop starts a look at it, once; one that ends does not; and a server that is restarted in between forgets nothing."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
import yaml
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

from core.watch_days import BUCKET
from deployments.command.deploying import PREFECT_FILE, WATCH, deployment_file
from tasks.watch_events import watch_resource
from tasks.watch_stand import Stand
from tasks.watch_sweep import stood_still
from tests.fix_restarting_prefect import RestartingPrefect
from tests.waiting import wait_until

WITHIN = 15


def trigger_of(environment: str) -> dict[str, Any]:
    """The trigger of an environment's deployment, as it is deployed."""
    document, _ = deployment_file(yaml.safe_load(PREFECT_FILE.read_text()), WATCH, environment)
    [entry] = document["deployments"]
    [trigger] = entry["triggers"]
    return dict(trigger)


def test_it_waits_for_three_ticks_and_knows_every_word_that_it_is_given() -> None:
    trigger = trigger_of("production")
    # What Prefect does not know it passes over.
    assert trigger.keys() <= DeploymentEventTrigger.model_fields.keys()
    deployed = DeploymentEventTrigger.model_validate(trigger)
    deployed.set_deployment_id(uuid4())
    made = deployed.as_automation().trigger
    assert isinstance(made, EventTrigger)
    assert (made.posture, made.threshold, made.for_each) == (Posture.Proactive, 1, {"prefect.resource.id"})
    assert made.within >= 3 * BUCKET
    assert made.after == {"nightshift.watch.began", "nightshift.watch.tick"}
    assert made.expect == {"nightshift.watch.tick", "nightshift.watch.ended"}


def test_an_environment_of_ones_own_gets_one_of_its_own() -> None:
    ours, theirs = trigger_of("stage"), trigger_of("production")
    assert (ours["name"], theirs["name"]) == ("stage, a watch stands still", "production, a watch stands still")
    for trigger, environment in ((ours, "stage"), (theirs, "production")):
        resource = watch_resource(environment, "r-0123456789ab")
        assert trigger["match"]["nightshift.environment"] == resource["nightshift.environment"] == environment
        assert resource["prefect.resource.id"].startswith(trigger["match"]["prefect.resource.id"].removesuffix("*"))


def test_what_it_starts_takes_three_ticks_that_did_not_come_for_a_standstill() -> None:
    """It comes fifteen minutes after the last tick, and reads what was missed: were that little to it, nobody would ever hear."""
    within = timedelta(seconds=trigger_of("production")["within"])
    last = datetime(2026, 11, 26, 10, 6, 12, tzinfo=UTC)
    stand = cast(
        "Stand",
        SimpleNamespace(
            release_id="r-0123456789ab",
            before=SimpleNamespace(closed=7, at=last),
            ended=None,
            closed_by=lambda now: 7 + (now - last) // BUCKET,
        ),
    )
    assert "stood still since 2026-11-26 10:06 UTC: 3 buckets" in stood_still(stand, last + within)
    assert stood_still(stand, last + within - BUCKET) == ""


@pytest.mark.services
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("prefect")
def test_a_watch_that_stops_is_looked_at_once_and_one_that_ends_or_goes_on_is_not(
    restarting_prefect: RestartingPrefect, tmp_path: Path
) -> None:
    server = restarting_prefect
    triggers = {one: {**trigger_of(one), "within": WITHIN} for one in ("production", "staging")}
    watched, others = server.deploy_watches(tmp_path, triggers).values()
    for release in ("r-stops", "r-ends"):
        server.tell("production", release, "began")
        server.tell("production", release, "tick")
    silent = server.tell("production", "r-stops", "tick")
    server.tell("production", "r-ends", "ended")
    # What a server has not read yet when it is stopped is lost.
    wait_until(lambda: server.has_told("nightshift.watch.ended"), "the end is kept", seconds=60)
    # In between, as in an update: what it waits for it has kept.
    server.restart()
    # Begun only now: a restart on a busy machine may take so long that this one would have been silent, too.
    server.tell("production", "r-goes-on", "began")

    def fired() -> bool:
        server.tell("production", "r-goes-on", "tick")
        time.sleep(0.5)
        return bool(server.runs(watched))

    wait_until(fired, "the silence is seen", seconds=60)
    told = server.tell("production", "r-goes-on", "tick")
    assert (told - silent).total_seconds() >= WITHIN
    # As long again: it has fired for this silence, and nobody else is silent.
    for _ in range(WITHIN):
        server.tell("production", "r-goes-on", "tick")
        time.sleep(1)
    server.tell("production", "r-goes-on", "ended")
    assert server.runs(watched) == [{"environment": "production", "release_id": ""}]
    assert server.runs(others) == []
    # One that has begun and never ticks is silent, too; and one that stood still and goes on may stand still again.
    server.tell("staging", "r-never", "began")
    server.tell("production", "r-stops", "tick")
    wait_until(lambda: len(server.runs(watched)) == 2 and len(server.runs(others)) == 1, "both are seen", seconds=60)
