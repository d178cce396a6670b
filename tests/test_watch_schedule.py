"""The ticks of a watch on a real Prefect server: 288 of them, five minutes apart, made once, and gone with the watch."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import RRuleSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from core.errors import ConfigurationError, TemporaryError
from flows.post_deploy_watch import post_deploy_watch
from tasks.watch_schedule import remove_schedule, rule_of, schedule_ticks, slug_of, start_run

ENVIRONMENT, RELEASE = "ticking", "r-0123456789ab"


@pytest.fixture
def deployed(prefect_server: str) -> Iterator[str]:
    """post-deploy-watch/ticking on the test server."""
    made = post_deploy_watch.to_deployment(name=ENVIRONMENT, parameters={"environment": ENVIRONMENT}).apply()
    yield str(made)
    with get_client(sync_client=True) as prefect:
        prefect.delete_deployment(made)  # type: ignore[arg-type]


def test_a_rule_makes_288_ticks_five_minutes_apart() -> None:
    begin = datetime(2026, 10, 24, 22, 6, 15, tzinfo=UTC)
    found = list(RRuleSchedule(rrule=rule_of(begin)).to_rrule())
    assert len(found) == 288
    assert found[0].replace(tzinfo=UTC) == begin
    # In the night when the clocks change, too.
    assert found[-1].replace(tzinfo=UTC) == begin + timedelta(minutes=5 * 287)


def test_a_schedule_is_made_once_and_its_runs_go_with_it(deployed: str) -> None:
    begin = datetime.now(UTC) + timedelta(minutes=5)
    assert schedule_ticks(ENVIRONMENT, RELEASE, begin)
    assert not schedule_ticks(ENVIRONMENT, RELEASE, begin + timedelta(hours=1))
    with get_client(sync_client=True) as prefect:
        (found,) = prefect.read_deployment_schedules(deployed)  # type: ignore[arg-type]
        assert (found.slug, found.active) == (slug_of(RELEASE), True)
        assert found.parameters == {"environment": ENVIRONMENT, "release_id": RELEASE}
        assert isinstance(found.schedule, RRuleSchedule)
        assert found.schedule.rrule == rule_of(begin)
        assert remove_schedule(ENVIRONMENT, RELEASE)
        assert prefect.read_deployment_schedules(deployed) == []  # type: ignore[arg-type]
    assert not remove_schedule(ENVIRONMENT, RELEASE)


def test_a_run_is_started_once_for_each_key(deployed: str) -> None:
    first = start_run("post-deploy-watch", ENVIRONMENT, {"release_id": RELEASE}, "stop-1")
    assert start_run("post-deploy-watch", ENVIRONMENT, {"release_id": RELEASE}, "stop-1") == first
    assert start_run("post-deploy-watch", ENVIRONMENT, {"release_id": RELEASE}, "stop-2") != first
    with get_client(sync_client=True) as prefect:
        found = prefect.read_flow_run(first)
    assert found.parameters == {"environment": ENVIRONMENT, "release_id": RELEASE}
    assert found.name == f"watch {RELEASE} in {ENVIRONMENT}"


def test_a_deployment_that_is_not_there_is_named_with_how_to_make_it(prefect_server: str) -> None:
    with pytest.raises(ConfigurationError, match=r"post-deploy-watch/nowhere.*prefect --no-prompt deploy"):
        schedule_ticks("nowhere", RELEASE, datetime.now(UTC))


def test_a_server_that_is_away_is_told_as_that() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(TemporaryError, match="Connect"),
    ):
        schedule_ticks(ENVIRONMENT, RELEASE, datetime.now(UTC))
