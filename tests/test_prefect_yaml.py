"""prefect.yaml as a whole: every entrypoint, schedule and parameter in it, so that a deployment never fails, or runs at the wrong hour, because of a slip in it."""

import importlib
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import EventTrigger
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.utilities.callables import parameter_schema

from core.environment import Environment
from deployments.command.automations import read_automations
from deployments.command.deploying import PREFECT_FILE, RECOVERY, RELEASING, WATCH, WATCHING, deployment_file
from deployments.local.prefect_server import WORK_POOL
from tasks.environments import environment_names, environments_folder, load_environment

DOCUMENT: dict[str, Any] = yaml.safe_load(PREFECT_FILE.read_text())
ENTRIES: list[dict[str, Any]] = DOCUMENT["deployments"]

# Of the issue and DESIGN §3: when each flow runs, in the environment's own time zone.
CRONS = {
    "nightly-backup": "0 2 * * *",
    "app-state-backup": "0 3 * * *",
    "dr-drill": "0 4 * * *",
    "release-recovery": "*/2 * * * *",
    "post-deploy-watch": "17 * * * *",
}
ONE_AT_A_TIME = {"limit": 1, "collision_strategy": "ENQUEUE"}
# A release must not wait behind another one, nor a rollback behind anything: the lease in the cluster is what lets one work.
AT_MOST_FIVE = {"limit": 5, "collision_strategy": "CANCEL_NEW"}
LIMITS = {
    "release": None,
    "rollback": None,
    "release-recovery": AT_MOST_FIVE,
    "post-deploy-watch": AT_MOST_FIVE,
    # It waits for a person, for days.
    "watch-sign-off": None,
}

FILLED_IN = {
    "database": "app",
    "restore_id": "1f2e3d4c",
    "image": "v1.2.3",
    "commit": "1f2e3d4c",
    "reason": "INC-7",
    "release_id": "r-0123456789ab",
}


def flow_of(entry: dict[str, Any]) -> Flow[..., Any]:
    """Given a deployment's entry, return its flow."""
    module, _, name = entry["entrypoint"].rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, Flow)
    return found


def environment_of(entry: dict[str, Any]) -> Environment:
    """Given a deployment's entry, return the environment that its runs are for."""
    return load_environment(entry["parameters"]["environment"])


each_entry = pytest.mark.parametrize(
    "entry", ENTRIES, ids=[f"{entry['entrypoint'].split('.')[-1]}/{entry['name']}" for entry in ENTRIES]
)


def test_each_environment_of_the_checkout_has_a_nightly_backup() -> None:
    backed_up = {entry["name"] for entry in ENTRIES if flow_of(entry).name == "nightly-backup"}
    assert backed_up == {file.stem for file in environments_folder().glob("*.toml")} == set(environment_names())


def test_each_environment_with_application_state_has_its_backup_and_no_other() -> None:
    backed_up = {entry["name"] for entry in ENTRIES if flow_of(entry).name == "app-state-backup"}
    assert backed_up == {name for name in environment_names() if load_environment(name).app_state is not None}


def test_each_environment_that_releases_has_all_that_belongs_to_it_and_no_other() -> None:
    releasing = {name for name in environment_names() if load_environment(name).release is not None}
    assert releasing
    for flow in RELEASING:
        assert {entry["name"] for entry in ENTRIES if flow_of(entry).name == flow} == releasing


def test_each_environment_that_watches_has_all_that_belongs_to_it_and_no_other() -> None:
    watching = {name for name in environment_names() if load_environment(name).watch is not None}
    assert watching
    for flow in WATCHING:
        assert {entry["name"] for entry in ENTRIES if flow_of(entry).name == flow} == watching


def test_no_deployment_is_there_twice() -> None:
    names = [f"{flow_of(entry).name}/{entry['name']}" for entry in ENTRIES]
    assert len(names) == len(set(names))


@each_entry
def test_the_entrypoint_imports_and_says_what_it_does(entry: dict[str, Any]) -> None:
    assert flow_of(entry).description
    assert len(entry["description"].split()) >= 5
    assert "nightshift" in entry["tags"]


@each_entry
def test_the_deployment_is_called_as_its_environment(entry: dict[str, Any]) -> None:
    assert entry["name"] == entry["parameters"]["environment"] == environment_of(entry).name


@each_entry
def test_the_parameters_are_what_the_flow_takes(entry: dict[str, Any]) -> None:
    flow = flow_of(entry)
    given = entry["parameters"]
    schema = parameter_schema(flow)
    assert given.keys() <= schema.properties.keys()
    # What has no schedule is started by a person, whose form asks for what is missing.
    missing = (
        {} if entry["schedules"] else {name: FILLED_IN[name] for name in set(schema.required or ()) - given.keys()}
    )
    assert set(schema.required or ()) <= given.keys() | missing.keys()
    defaults = {name: one["default"] for name, one in schema.properties.items() if "default" in one}
    flow.validate_parameters({**defaults, **given, **missing})


@each_entry
def test_the_form_explains_each_parameter(entry: dict[str, Any]) -> None:
    for name, described in parameter_schema(flow_of(entry)).properties.items():
        # Prefect takes it from the docstring's Args, or from a default that is a Field; not from an Annotated's Field.
        assert described.get("description"), name


@each_entry
def test_schedules_are_crons_at_the_agreed_time_in_the_environments_time_zone(entry: dict[str, Any]) -> None:
    schedules = entry["schedules"]
    expected = CRONS.get(flow_of(entry).name)
    assert [schedule["cron"] for schedule in schedules] == ([expected] if expected else [])
    for schedule in schedules:
        # An RRULE fires an hour off on the days when the clocks change.
        assert schedule.keys() == {"slug", "cron", "timezone"}
        assert schedule["timezone"] == environment_of(entry).timezone
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


@each_entry
def test_runs_go_to_the_pool_of_processes_or_the_one_that_the_server_says_without_streamed_output(
    entry: dict[str, Any],
) -> None:
    # Prefect strips a variable that the server does not have (utilities/templating, resolve_variables).
    assert entry["work_pool"]["name"] == WORK_POOL + "{{ prefect.variables.nightshift_pool }}"
    assert entry["work_pool"]["job_variables"]["stream_output"] is False


@each_entry
def test_each_run_has_the_account_of_what_it_does(entry: dict[str, Any]) -> None:
    releasing = dict.fromkeys((*RELEASING, *WATCHING), "release")
    others = {"nightly-backup": "backup", "dr-drill": "drill", "undo-swap": "restore", "app-state-backup": "app-state"}
    account = {"restore": "restore", **releasing, **others}[flow_of(entry).name]
    assert entry["work_pool"]["job_variables"]["service_account_name"] == f"nightshift-{account}"


@each_entry
def test_runs_go_one_at_a_time_but_those_of_releases(entry: dict[str, Any]) -> None:
    assert entry.get("concurrency_limit") == LIMITS.get(flow_of(entry).name, ONE_AT_A_TIME)


@each_entry
def test_what_the_zombie_automation_watches_sends_heartbeats_several_times_within_its_patience(
    entry: dict[str, Any],
) -> None:
    (zombies,) = [one for one in read_automations() if "heartbeat" in one.name]
    assert isinstance(zombies.trigger, EventTrigger)
    variables = entry["work_pool"]["job_variables"].get("env", {})
    assert isinstance(zombies.trigger.match_related, list)
    watched = flow_of(entry).name in zombies.trigger.match_related[0]["prefect.resource.name"]
    assert watched == (flow_of(entry).name not in WATCHING)
    if watched:
        seconds = int(variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert zombies.trigger.within.total_seconds() >= 3 * seconds
    else:
        assert "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" not in variables


@each_entry
def test_a_run_asks_for_eight_minutes_a_server_that_is_away(entry: dict[str, Any]) -> None:
    retries = int(entry["work_pool"]["job_variables"]["env"]["PREFECT_CLIENT_MAX_RETRIES"])
    # Prefect's client waits 2, 4, 8 … seconds (prefect.client.base, _send_with_retry).
    assert sum(2**attempt for attempt in range(1, retries + 1)) == 510


@each_entry
def test_recovery_and_watch_alone_are_started_by_events_and_only_by_those_of_their_own_environment(
    entry: dict[str, Any],
) -> None:
    triggers = entry.get("triggers", [])
    assert len(triggers) == {RECOVERY: 2, WATCH: 1}.get(flow_of(entry).name, 0)
    for trigger in triggers:
        # What Prefect does not know it passes over.
        assert trigger.keys() <= DeploymentEventTrigger.model_fields.keys()
        DeploymentEventTrigger.model_validate(trigger)
        assert entry["name"] in trigger["name"]
        if flow_of(entry).name == WATCH:
            assert trigger["match"]["nightshift.environment"] == entry["name"]
            continue
        *_, deployment = trigger["match_related"]
        assert deployment == {"prefect.resource.role": "deployment", "prefect.resource.name": entry["name"]}


def test_recovery_is_started_by_each_bad_end_of_a_release_and_not_by_a_recovery_that_failed() -> None:
    """One that fails since a person must decide would start itself again, for ever."""
    (entry,) = [entry for entry in ENTRIES if flow_of(entry).name == RECOVERY and entry["name"] == "production"]
    expected = {
        flow: {event.rpartition(".")[2] for event in trigger["expect"]}
        for trigger in entry["triggers"]
        for one in [trigger["match_related"][0]["prefect.resource.name"]]
        for flow in ([one] if isinstance(one, str) else one)
    }
    bad = {"Crashed", "Failed", "Cancelled", "TimedOut"}
    assert expected == {"release": bad, "rollback": bad, RECOVERY: {"Crashed"}}


def test_nothing_is_pulled_since_the_code_is_installed() -> None:
    assert DOCUMENT["pull"] == []


def test_an_environment_that_the_file_has_is_deployed_as_it_says() -> None:
    document, scheduled = deployment_file(DOCUMENT, "nightly-backup", "production")
    assert scheduled
    assert document["deployments"] == [next(entry for entry in ENTRIES if entry["name"] == "production")]


def test_an_environment_that_the_file_does_not_have_is_deployed_without_a_schedule() -> None:
    document, scheduled = deployment_file(DOCUMENT, "nightly-backup", "mine")
    (entry,) = document["deployments"]
    assert not scheduled
    assert (entry["name"], entry["parameters"]["environment"], entry["schedules"]) == ("mine", "mine", [])
    assert entry["entrypoint"] == "flows.nightly_backup.nightly_backup"


def test_a_release_of_ones_own_environment_has_its_recovery_with_sweep_and_triggers() -> None:
    document, scheduled = deployment_file(DOCUMENT, RECOVERY, "mine")
    (entry,) = document["deployments"]
    assert not scheduled
    assert [one["cron"] for one in entry["schedules"]] == ["*/2 * * * *"]
    assert [one["name"] for one in entry["triggers"]] == ["mine, a release ended badly", "mine, a recovery was killed"]
    for trigger in entry["triggers"]:
        assert trigger["match_related"][-1]["prefect.resource.name"] == "mine"
    assert "staging" not in str(entry)
