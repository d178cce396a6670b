"""prefect.yaml as a whole: every entrypoint, schedule and parameter in it, so that a deployment never fails, or runs at the wrong hour, because of a slip in it."""

import importlib
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.callables import parameter_schema

from core.environment import Environment
from deployments.command.deploying import PREFECT_FILE, deployment_file
from deployments.local.prefect_server import WORK_POOL
from tasks.environments import environment_names, environments_folder, load_environment

DOCUMENT: dict[str, Any] = yaml.safe_load(PREFECT_FILE.read_text())
ENTRIES: list[dict[str, Any]] = DOCUMENT["deployments"]

# Of the issue and DESIGN §3: when each flow runs, in the environment's own time zone.
CRONS = {"nightly-backup": "0 2 * * *", "app-state-backup": "0 3 * * *", "dr-drill": "0 4 * * *"}

FILLED_IN = {"database": "app", "restore_id": "1f2e3d4c"}


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
def test_runs_go_to_the_process_pool_one_at_a_time_and_without_streamed_output(entry: dict[str, Any]) -> None:
    assert entry["work_pool"]["name"] == WORK_POOL
    assert entry["work_pool"]["job_variables"]["stream_output"] is False
    assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


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
