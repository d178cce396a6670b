"""Runs through a real Prefect server: one for each key, whoever asks how often; and what the server refuses."""

import threading
import time
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed

from core.checks import Check
from core.webhook_event import RefusedError
from core.webhook_mapping import Start
from deployments.command.follow import start_deployment
from deployments.command.probes import run_probes
from deployments.command.webhook_probes import webhook_probes
from deployments.webhook.audit import Audit
from deployments.webhook.dispatcher import Dispatcher
from deployments.webhook.figures import Figures
from deployments.webhook.flow_parameters import ENTRYPOINTS, mistake_in, model_of, require_fitting
from deployments.webhook.inbox import opened
from deployments.webhook.prefect_runs import NotDeployedError, PrefectRuns
from flows.release import release
from tasks.environments import load_environment
from tests.fix_raw_server import RawServer
from tests.fix_webhook import SHA, Hook, webhook, webhook_table
from tests.waiting import wait_until

PARAMETERS = {"environment": "hook", "image": "1.8.0", "commit": SHA}


@flow(name="release")
def pretend_release(environment: str, image: str, commit: str) -> None:
    """Carries the release's name and parameters; nobody runs it."""


def deploy(client: SyncPrefectClient) -> None:
    """FLOW/ENVIRONMENT on the server, for no worker."""
    flow_id = client.create_flow(pretend_release)
    client.create_deployment(flow_id=flow_id, name="hook", parameters={"environment": "hook"}, tags=["nightshift"])


def report(client: SyncPrefectClient, run_id: str, key: str) -> None:
    """What a run shows, as its flow would have."""
    client.create_artifact(ArtifactCreate(key=key, type="markdown", data="the report", flow_run_id=UUID(run_id)))


def start(key: str, environment: str = "hook") -> Start:
    """Something to start."""
    return Start(key, environment, "release", PARAMETERS, "acme/api", 1)


def test_of_one_key_there_is_one_run_and_its_end_is_told(prefect_server: str) -> None:
    runs = PrefectRuns("hook")
    with get_client(sync_client=True) as client:
        deploy(client)
        first, again, other = (runs.make(start(key)) for key in ("one", "one", "two"))
        assert first == again != other
        run = client.read_flow_run(first)
        # It waits, and a list of runs says what it is.
        assert run.name == f"release hook {SHA[:7]} → 1.8.0"
        mine = start_deployment(client, "release/hook", {**PARAMETERS, "image": "1.9.0"})
        assert client.read_flow_run(mine).name == f"release hook {SHA[:7]} → 1.9.0"
        assert run.parameters == PARAMETERS
        assert {"webhook", "nightshift"} <= set(run.tags)
        report(client, first, "release-hook")
        client.set_flow_run_state(run.id, Completed(message="released"), force=True)
        client.set_flow_run_state(other, Cancelled(), force=True)
    told = runs.look([(one, start("one")) for one in (first, other, "00000000-0000-0000-0000-000000000001")])
    assert [one.state for one in told.values()] == ["success", "failure", "error"]
    assert first in runs.page(start("one"), first)


@pytest.mark.parametrize(("key", "dry_run"), [("", False), ("", True), ("release-plan-r-1", False)])
def test_a_run_that_somebody_completed_by_hand_is_no_success(prefect_server: str, key: str, dry_run: bool) -> None:
    runs, asked = PrefectRuns("hook"), start(f"by-hand-{key}-{dry_run}")
    asked = replace(asked, parameters={**asked.parameters, "dry_run": dry_run})
    with get_client(sync_client=True) as client:
        deploy(client)
        run_id = runs.make(replace(asked, parameters=PARAMETERS))
        if key:
            report(client, run_id, key)
        client.set_flow_run_state(UUID(run_id), Completed(message="looks fine to me"), force=True)
    told = runs.look([(run_id, asked)])[run_id]
    assert (told.state, told.final) == ("error", True)
    assert "by hand" in told.description


def test_a_deployment_that_the_server_lacks_is_named_with_how_it_comes_there(prefect_server: str) -> None:
    with pytest.raises(NotDeployedError, match=r"has no such deployment.*deploy --name '\*/nowhere'"):
        PrefectRuns("nowhere").make(start("three", "nowhere"))


def test_check_tells_which_deployment_a_rule_starts_and_the_server_lacks(prefect_server: str, hook: Hook) -> None:
    def found() -> Check:
        (probe,) = webhook_probes(load_environment("staging"))
        ((check,),) = run_probes([probe])
        return check

    # Other tests of this server's may have made some.
    with get_client(sync_client=True) as client:
        for one in client.read_deployments():
            if one.name == "staging":
                client.delete_deployment(one.id)
    assert found().state == "failed"
    assert "no deployment release/staging" in found().found
    with get_client(sync_client=True) as client:
        flows = {
            rule.get("flow", "release")
            for repository in webhook_table()["repositories"].values()
            for rule in repository["triggers"]
        }
        for name in flows:
            flow_id = client.create_flow_from_name(name)
            client.create_deployment(flow_id=flow_id, name="staging")
    assert (found().state, "has its deployment" in found().found) == ("passed", True), found()


def test_a_server_that_takes_the_question_and_never_answers_makes_no_delivery_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_server: RawServer
) -> None:
    monkeypatch.setattr("deployments.webhook.prefect_runs.ASK_SECONDS", 0.5)
    raw_server.answers = lambda _asked: [600.0]
    made = threading.Event()

    class Late(PrefectRuns):
        def make(self, start: Start) -> str:
            made.set()
            return start.key

    with opened(tmp_path) as inbox, temporary_settings({PREFECT_API_URL: f"{raw_server.address}/api"}):
        audit = Audit(str(tmp_path / "audit"))
        dispatcher = Dispatcher(inbox, Late("hook"), dict, lambda _name: 3600.0, audit=audit, figures=Figures())
        thread = threading.Thread(target=copy_context().run, args=(dispatcher.work,), daemon=True)
        thread.start()
        wait_until(lambda: raw_server.asked, "it asks whether the server is there")
        inbox.accept(start("late"), None, time.time()).result()
        dispatcher.wake()
        wait_until(made.is_set, "the delivery is made into a run")
        dispatcher.end()
        thread.join()
        audit.close()
    assert "it did not answer within 0.5 s" in (tmp_path / "audit").read_text()


@pytest.mark.parametrize("name", ENTRYPOINTS)
def test_each_flow_that_may_be_started_has_a_model_with_its_environment(name: str) -> None:
    assert "environment" in model_of(name).model_fields


@pytest.mark.parametrize(
    ("more", "fits"),
    [
        ({}, True),
        ({"dry_run": True}, True),
        ({"image": 7}, False),
        ({"commit": "main"}, False),
        ({"strategy": "x"}, False),
        ({"dry_run": "yes"}, False),
        ({"dry_run": 1}, False),
        ({"evil": 1}, False),
    ],
)
def test_parameters_are_held_to_what_the_flow_itself_takes(more: dict[str, object], fits: bool) -> None:
    given = {**PARAMETERS, **more}
    if fits:
        require_fitting("release", given)
        release.validate_parameters(
            {
                **{
                    name: field.default
                    for name, field in model_of("release").model_fields.items()
                    if not field.is_required()
                },
                **given,
            }
        )
        return
    with pytest.raises(RefusedError, match="422"):
        require_fitting("release", given)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"take": {"image": "commit"}}, "needs the parameter 'commit'"),
        ({"take": {"image": "commit", "commit": "commit", "nonsense": "ref"}}, "no parameter 'nonsense'"),
        ({"fixed": {"migrate": "perhaps"}}, "fixed.migrate"),
        ({"fixed": {"migrate": "yes"}}, "fixed.migrate"),
        ({"fixed": {"strategy": "rolling", "skip_checks": {"documentation": "later"}}}, ""),
    ],
)
def test_a_rule_that_its_flow_cannot_be_started_by_is_found_before_anything_is_listened_to(
    change: dict[str, object], told: str
) -> None:
    rule = webhook().repositories["api"].triggers[0]
    assert told in mistake_in(rule.model_copy(update=change))
    assert bool(told) == bool(mistake_in(rule.model_copy(update=change)))


def test_tables_and_lists_are_not_accepted_from_a_job() -> None:
    rule = webhook().repositories["api"].triggers[3]
    assert "only in fixed" in mistake_in(rule.model_copy(update={"accept": ("image", "skip_checks")}))
