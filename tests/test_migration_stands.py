"""How a migration stands, when the settings of its attempts were edited since they were made: what was begun is seen, and what is left is not forgotten."""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from core.migration_end import JobEnd, JobLook
from core.migration_outcome import Judgement, MigrationState
from core.release_recovery import MIGRATE
from tasks.migrate import MigrationFailedError, migrate
from tasks.migration_barrier import CameAboutError, bar_migration
from tasks.migration_stands import migration_stands
from tasks.object_store import ObjectMissingError
from tasks.recording import Notes

STATE = MigrationState(table_exists=True, names=("a",), locked=None, invalid_indexes=(), fingerprint="0" * 64)
NO_LOCK = JobLook(state="ended", end=JobEnd(state="failed", lock_timeout=True))
CLEAN = Judgement(outcome="clean", sentence="", next_step="", again="lock-timeout")
PLAN: Any = SimpleNamespace(
    migration=SimpleNamespace(image="app@sha256:1", command=(), database="app"),
    release_id="r-000000000001",
    schema_compatibility="backward",
)
ONE_ATTEMPT = SimpleNamespace(runs=1, lock_attempts=1, lock_timeout_ms=1000, last_lock_timeout_ms=1000)
ANY: Any = None


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have these Jobs been made, attempt by attempt, and the settings allow for one attempt now."""

    def having(*looks: JobLook) -> None:
        def look_at_job(_client: object, _namespace: str, _release: str, attempt: int) -> JobLook:
            return looks[attempt - 1] if attempt <= len(looks) else JobLook(state="never created")

        def read_before(_environment: object, _release: str, attempt: int) -> MigrationState:
            if attempt > len(looks):
                raise ObjectMissingError("read", "the state before", "there is none")
            return STATE

        for module in ("tasks.migration_stands", "tasks.migration_barrier"):
            monkeypatch.setattr(f"{module}.look_at_job", look_at_job)
            monkeypatch.setattr(f"{module}.read_before", read_before)
            monkeypatch.setattr(f"{module}.migration_settings", lambda _environment: (ONE_ATTEMPT, None, "stage"))
        monkeypatch.setattr("tasks.migration_stands.judge_end", lambda *_arguments: (STATE, CLEAN))

    return having


def test_a_job_that_runs_is_seen_though_fewer_attempts_are_allowed_by_now(made: Callable[..., None]) -> None:
    made(NO_LOCK, NO_LOCK, JobLook(state="running"))
    assert migration_stands(ANY, ANY, PLAN, None) == (True, "unknown")


def test_nor_does_a_release_go_back_past_it(made: Callable[..., None]) -> None:
    made(NO_LOCK, NO_LOCK, JobLook(state="running"))
    journal = SimpleNamespace(journal=SimpleNamespace(entries=()))
    run: Any = SimpleNamespace(plan=PLAN, environment=None, client=nullcontext, journal=journal)
    with pytest.raises(CameAboutError, match="its migration's Job runs"):
        bar_migration(run, Notes())


def test_after_the_last_attempt_nothing_is_looked_for(made: Callable[..., None]) -> None:
    made(NO_LOCK)
    assert migration_stands(ANY, ANY, PLAN, None) == (False, "no")


@pytest.mark.parametrize(("outcome", "again"), [("applied", "pending"), ("clean", "lock-timeout")])
def test_a_migration_that_was_to_be_tried_again_is_not_called_complete_for_want_of_attempts(
    made: Callable[..., None], monkeypatch: pytest.MonkeyPatch, outcome: str, again: str
) -> None:
    made(NO_LOCK)
    performed: list[str] = []
    monkeypatch.setattr("tasks.migrate.perform", lambda _run, name, _action: performed.append(name))
    monkeypatch.setattr("tasks.migrate.migration_settings", lambda _environment: (ONE_ATTEMPT, None, "stage"))
    facts = {"outcome": outcome, "again": again, "applied": 0, "migrations": ""}
    journal = SimpleNamespace(is_done=lambda _step: False, facts_of=lambda _step: facts)
    run: Any = SimpleNamespace(plan=PLAN, environment=None, journal=SimpleNamespace(journal=journal))
    with pytest.raises(MigrationFailedError, match=rf"{outcome}: the settings allow no attempt after this one"):
        migrate(run)
    assert MIGRATE not in performed
