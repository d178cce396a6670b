"""A request to make something that arrives after another took over. What does not exist yet has no version and no number to refuse it by; what keeps it harmless."""

from uuid import uuid4

import pytest

from core.migration_job import BARRIER
from tests.fix_kill_proxy import KillProxy
from tests.fix_kubernetes import KubernetesApi
from tests.fix_migrated import Migrated
from tests.fix_release import Stage
from tests.fix_release_child import end_of, ended, recovery_in_child, request_of, send_to_sleep
from tests.test_release_kills import migrations_of, serving

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-late")]
JOBS = "/apis/batch/v1/namespaces/shop/jobs"


def makes_a_job(method: str, path: str, _body: bytes) -> bool:
    """Whether a write does."""
    return method == "POST" and "/jobs" in path


def adds_to_the_journal(method: str, path: str, _body: bytes) -> bool:
    """Whether a write does."""
    return method == "PATCH" and "/configmaps/" in path


@pytest.fixture
def dead_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect knows every run to have crashed; the checklist's surroundings are not looked at."""
    monkeypatch.setattr("tasks.release_left_open.state_of_run", lambda _run_id: "CRASHED")
    monkeypatch.setattr("tasks.release_checklist.ITEMS", ())


@pytest.mark.parametrize("compatibility", ["backward", "breaking"])
def test_a_request_for_the_migrations_job_that_arrives_after_its_release_went_back_starts_nothing(
    stage: Stage,
    kill_proxy: KillProxy,
    migrated: Migrated,
    dead_by_word: None,
    compatibility: str,
) -> None:
    asked = {"migrate": True, "skip_checks": {}, "schema_compatibility": compatibility}
    request = request_of(stage, str(uuid4()), "v2", **asked)
    child = send_to_sleep(stage, kill_proxy, 1, request, counts=makes_a_job)
    assert kill_proxy.stopped.is_set()
    try:
        assert ended(recovery_in_child(stage))
        assert stage.journals()[-1].outcome == "rolled back"
    finally:
        kill_proxy.wake()
    assert ended(child)
    assert end_of(stage, request).startswith("FencedError"), end_of(stage, request)
    (job,) = stage.client.get(JOBS)["items"]
    assert BARRIER in job["metadata"]["annotations"]
    assert migrated.names == ()
    assert migrations_of(stage) == []
    assert serving(stage) == stage.image("v1")


def test_a_job_that_comes_about_while_its_release_goes_back_is_waited_for_and_then_decided_anew(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy, migrated: Migrated, dead_by_word: None
) -> None:
    asked = {"migrate": True, "skip_checks": {}, "schema_compatibility": "breaking"}
    request = request_of(stage, str(uuid4()), "v2", **asked)
    child = send_to_sleep(stage, kill_proxy, 1, request, counts=makes_a_job)
    assert kill_proxy.stopped.is_set()
    # It arrives right before the recovery takes its name.
    kubernetes.before("POST", "/jobs", lambda *_: arrive(kubernetes, kill_proxy, child))
    assert not ended(recovery_in_child(stage))
    assert stage.journals()[-1].is_open and not stage.journals()[-1].goes_back
    assert ended(recovery_in_child(stage))
    assert stage.journals()[-1].outcome == "released"
    assert migrated.names == ("add_orders",)
    assert len(migrations_of(stage)) == 1
    assert serving(stage) == stage.image("v2")


def arrive(kubernetes: KubernetesApi, proxy: KillProxy, child: int) -> None:
    """Let the sleeper's request arrive, and the sleeper find out that another took over, before the API server goes on."""
    proxy.wake()
    ended(child)
    assert kubernetes.count("POST", "/jobs") >= 2


def test_a_name_is_taken_once_though_the_answer_was_lost_and_only_where_a_job_was_asked_for(  # noqa: PLR0917 - fixtures
    stage: Stage,
    kubernetes: KubernetesApi,
    kill_proxy: KillProxy,
    migrated: Migrated,
    dead_by_word: None,
    quick_retries: None,
) -> None:
    asked = {"migrate": True, "skip_checks": {}}
    request = request_of(stage, str(uuid4()), "v2", **asked)
    child = send_to_sleep(stage, kill_proxy, 1, request, counts=makes_a_job)
    kubernetes.fail("POST", "/jobs", 0, after=True)
    assert stage.recover().is_completed()
    kill_proxy.wake()
    assert ended(child)
    assert len(stage.client.get(JOBS)["items"]) == 1
    # Killed before: nothing was asked for, and there is nothing to keep away.
    request = request_of(stage, str(uuid4()), "v2", **asked)
    child = send_to_sleep(stage, kill_proxy, 2, request, counts=adds_to_the_journal)
    assert kill_proxy.stopped.is_set()
    assert ended(recovery_in_child(stage))
    kill_proxy.wake()
    assert ended(child)
    assert len(stage.client.get(JOBS)["items"]) == 1
    assert migrated.names == ()
