"""Whether an environment's runs begin without a person: every way in which they would not is told, and nothing else."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.schedules import CronSchedule

from core.checks import Check
from core.environment import Environment
from core.environment_release import Release
from core.unattended import Deployed, PoolState, unattended_checks, unattended_flows
from deployments.command.probe import Probe
from deployments.command.probes import run_probes
from deployments.command.server_probes import look_at_server
from tests.fix_object_store import environment_for

NAMES = ("nightly-backup/mine", "dr-drill/mine")
deployed = st.builds(
    Deployed,
    paused=st.booleans(),
    schedules=st.integers(0, 3),
    pool=st.sampled_from(["", "a", "b"]),
    paused_queue=st.sampled_from(["", "default"]),
    closed_queue=st.sampled_from(["", "default"]),
)


def told(deployments: Mapping[str, Deployed | None], pools: Mapping[str, PoolState]) -> list[Check]:
    return list(unattended_checks(deployments, pools, "prefect deploy"))


@given(
    st.fixed_dictionaries(dict.fromkeys(NAMES, st.none() | deployed)),
    st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(PoolState)),
)
def test_all_is_passed_exactly_when_every_run_would_begin(
    deployments: dict[str, Deployed | None], pools: dict[str, PoolState]
) -> None:
    begin = [
        one is not None
        and not one.paused
        and one.schedules > 0
        and not one.paused_queue
        and not one.closed_queue
        and pools.get(one.pool) is PoolState.READY
        for one in deployments.values()
    ]
    checks = told(deployments, pools)
    assert all(check.state == "passed" for check in checks) == all(begin), checks
    assert all(check.next_step for check in checks if check.state != "passed")
    assert {check.name for check in checks} >= {"nightly-backup: schedule", "dr-drill: schedule"}


@pytest.mark.parametrize(
    ("state", "found", "next_step"),
    [
        (PoolState.PAUSED, "a is paused: no run begins", "prefect work-pool resume a"),
        (PoolState.NOT_READY, "a has no worker", "prefect worker start --pool a"),
        (PoolState.CLOSED, "a lets no run begin", "prefect work-pool clear-concurrency-limit a"),
        (PoolState.LACKING, "no work pool a", "prefect work-pool create a"),
    ],
)
def test_a_pool_that_hands_out_nothing_is_named_once(state: PoolState, found: str, next_step: str) -> None:
    well = Deployed(paused=False, schedules=1, pool="a")
    *_, check = told(dict.fromkeys(NAMES, well), {"a": state})
    assert (check.name, check.state) == ("work pool", "warning")
    assert found in check.found
    assert next_step in check.next_step


def test_what_an_environments_tables_promise_has_to_begin_by_itself() -> None:
    plain = environment_for("bucket-name", "http://127.0.0.1:1")
    assert unattended_flows(plain) == ("nightly-backup", "dr-drill")
    releasing = plain.model_copy(update={"release": Release.model_construct()})
    assert unattended_flows(releasing) == ("nightly-backup", "dr-drill", "release-recovery")


@pytest.mark.xdist_group("prefect")
def test_a_real_server_is_asked_for_schedules_and_pool(prefect_server: str) -> None:
    environment = environment_for("bucket-name", "http://127.0.0.1:1").model_copy(update={"name": "unattended"})
    assert states(environment) == {
        "Prefect server": "passed",
        "nightly-backup: schedule": "warning",
        "dr-drill: schedule": "warning",
    }
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 2 * * *"), active=True)
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="unattended", type="process"))
        for flow in unattended_flows(environment):
            flow_id = client.create_flow_from_name(flow)
            client.create_deployment(flow_id, environment.name, schedules=[schedule], work_pool_name="unattended")
        assert states(environment)["nightly-backup: schedule"] == "passed"
        # It has no worker yet.
        assert states(environment)["work pool"] == "warning"
        client.request(
            "POST", "/work_pools/{name}/workers/heartbeat", path_params={"name": "unattended"}, json={"name": "one"}
        )
        assert states(environment)["work pool"] == "passed"
        # Of its queue the pool says nothing.
        queue = client.read_work_queue_by_name("default", work_pool_name="unattended").id
        client.update_work_queue(queue, is_paused=True)
        assert states(environment)["nightly-backup: schedule"] == "warning"
        client.update_work_queue(queue, is_paused=False)
        assert states(environment)["nightly-backup: schedule"] == "passed"
        client.update_work_queue(queue, concurrency_limit=0)
        assert states(environment)["nightly-backup: schedule"] == "warning"
        client.update_work_queue(queue, concurrency_limit=None)
        assert states(environment)["nightly-backup: schedule"] == "passed"
        client.update_work_pool("unattended", WorkPoolUpdate(concurrency_limit=0))
        assert states(environment)["work pool"] == "warning"
        client.update_work_pool("unattended", WorkPoolUpdate(is_paused=True, concurrency_limit=None))
        assert states(environment)["work pool"] == "warning"
        deployment = client.read_deployment_by_name(f"dr-drill/{environment.name}")
        client.request("POST", "/deployments/{id}/pause_deployment", path_params={"id": deployment.id})
        assert states(environment)["dr-drill: schedule"] == "warning"


def states(environment: Environment) -> dict[str, str]:
    """What is told of the server, by what was looked at."""
    [checks] = run_probes([Probe("server", lambda: look_at_server(environment), 60)])
    return {check.name: check.state for check in checks}
