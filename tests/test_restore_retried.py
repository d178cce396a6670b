"""A restore's run that is killed about the moment in which its copy gets its name, and retried: it recognises its own copy, compares it
again, and touches nobody else's."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry

from core.keys import restore_key
from core.restore_record import WaitingCopy
from flows.restore import restore
from tasks.object_store import ObjectStore
from tasks.restore_records import read_waiting_copy
from tasks.sealed import sealed_bytes
from tasks.secrets import signing_keys
from tests.fix_flow_child import StartFlow
from tests.fix_nightly import Night
from tests.fix_restore import databases

# A process with its Prefect for each: make test-services.
pytestmark = [pytest.mark.services, pytest.mark.xdist_group("prefect")]

TARGET = "copy_of_a_retry"
NAMED = "tasks.restore_backup:RestoredCopy.finish:after"
COMMENT = "the source's own comment"


class KilledRun:
    """A run that was killed at a point, and its Retry."""

    def __init__(self, night: Night, start_flow: StartFlow, point: str, **more: Any) -> None:
        parameters = {"database": "first", "backup": "newest-decoded", "target": TARGET, **more}
        self.night = night
        with get_client(sync_client=True) as client:
            self.run: FlowRun = client.create_flow_run(restore, parameters={"environment": "night", **parameters})
        start_flow("restore", point, "kill", run_id=str(self.run.id), **parameters).wait_for_kill()

    def retry(self) -> State[Any]:
        """As pressing Retry does, but in this process."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(self.run.id, AwaitingRetry(), force=True)
            run = client.read_flow_run(self.run.id)
        state = run_flow(restore, flow_run=run, parameters=dict(run.parameters), return_type="state")
        assert isinstance(state, State)
        return state

    @property
    def record(self) -> WaitingCopy:
        (key,) = (key for key in self.night.keys if "/restores/" in key)
        store = ObjectStore.open(self.night.environment)
        found = read_waiting_copy(store, self.night.environment, key.rpartition("/")[2].partition(".")[0])
        assert found is not None
        return found

    def keep(self, record: WaitingCopy) -> None:
        """Put another record in its place."""
        environment = self.night.environment
        key = restore_key(environment.prefix, record.restore_id)
        ObjectStore.open(environment).put(key, sealed_bytes(record, signing_keys(environment)[0]))


@pytest.fixture
def killed(night: Night, start_flow: StartFlow, restored_names: Callable[..., str]) -> Callable[..., KilledRun]:
    """A factory: given a point and further parameters, return a run of a restore that was killed there."""
    restored_names(night.server, TARGET)
    night.server.execute(
        "postgres", f"COMMENT ON DATABASE {night.names['first']} IS '{COMMENT.replace(chr(39), chr(39) * 2)}'"
    )
    night.run(databases=["first"])

    def kill(point: str, **more: Any) -> KilledRun:
        return KilledRun(night, start_flow, point, **more)

    return kill


def facts_of(night: Night, name: str) -> Any:
    """Its oid and comment, and what is in it."""
    with night.server.connect(name) as session:
        return session.execute(
            "SELECT oid, shobj_description(oid, 'pg_database'), (SELECT count(*) FROM public.account)"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("tasks.restore_backup:RestoredCopy.finish:before", False),
        (NAMED, True),
        ("flows.restore:keep_record:before", True),
        ("flows.restore:keep_record:after", True),
    ],
)
def test_the_retry_ends_with_one_copy_under_its_name_and_goes_on_from_its_own_where_it_is_there(
    night: Night, killed: Callable[..., KilledRun], point: str, kept: bool
) -> None:
    run = killed(point)
    # Another one is decoded since: the run goes on with its own.
    chosen = run.record.restored.backup_id
    night.run(databases=["first"])
    before = facts_of(night, TARGET) if kept else None
    state = run.retry()
    assert state.is_completed(), state.message
    assert chosen in str(state.message)
    after = facts_of(night, TARGET)
    assert after[1:] == (COMMENT, 500)
    assert before in {None, after}
    assert databases(night.server) == set()
    assert run.record.named
    assert (run.record.restored.oid, run.record.restored.backup_id) == (after[0], chosen)
    if point == NAMED:
        step = next(step for step in night.report.steps if step.name == "restore and verify")
        assert any("made by an earlier attempt of this run" in finding.text for finding in step.findings)
        assert step.facts["rows"] == 500
    # And once more: nothing is left to do.
    assert run.retry().is_completed()
    assert facts_of(night, TARGET) == after


def test_another_database_under_the_name_is_nobodys_copy_and_stays_as_it_is(
    night: Night, killed: Callable[..., KilledRun]
) -> None:
    run = killed(NAMED)
    night.server.execute(
        "postgres", f"DROP DATABASE {TARGET}", f"CREATE DATABASE {TARGET} TEMPLATE {night.names['first']}"
    )
    before = facts_of(night, TARGET)
    state = run.retry()
    assert state.is_failed()
    assert "none is ever overwritten" in str(state.message)
    assert facts_of(night, TARGET) == before
    # What it had made is gone; under a free name the run makes it anew.
    night.server.execute("postgres", f"ALTER DATABASE {TARGET} RENAME TO {TARGET}_of_somebody")
    try:
        assert run.retry().is_completed()
        assert facts_of(night, f"{TARGET}_of_somebody") == before
    finally:
        night.server.execute("postgres", f"DROP DATABASE {TARGET}_of_somebody")


def test_only_the_recorded_oid_on_the_recorded_cluster_is_its_own(
    night: Night, killed: Callable[..., KilledRun]
) -> None:
    run = killed(NAMED)
    true, before = run.record, facts_of(night, TARGET)
    for change in ({"system_identifier": "1"}, {"system_identifier": "unknown"}, {"oid": true.restored.oid + 1}):
        record = true.model_copy(update={"restored": true.restored.model_copy(update=change)})
        run.keep(record)
        state = run.retry()
        assert state.is_failed()
        assert "none is ever overwritten" in str(state.message)
        assert facts_of(night, TARGET) == before
    run.keep(true)
    assert run.retry().is_completed()
    assert facts_of(night, TARGET) == before


@pytest.mark.parametrize("point", [NAMED, "flows.restore:keep_record:before"])
def test_a_copy_that_somebody_wrote_to_meanwhile_is_neither_called_verified_nor_dropped(
    night: Night, killed: Callable[..., KilledRun], point: str
) -> None:
    run = killed(point)
    night.server.execute(TARGET, "UPDATE account SET balance = balance + 1 WHERE id = 7")
    before = facts_of(night, TARGET)
    state = run.retry()
    assert state.is_failed()
    assert "it was changed since it was verified: public.account" in str(state.message)
    assert f'DROP DATABASE "{TARGET}"' in str(state.message)
    assert facts_of(night, TARGET) == before
    assert not run.record.named
    # Its owner drops it: then the Retry makes it anew.
    night.server.execute("postgres", f"DROP DATABASE {TARGET}")
    assert run.retry().is_completed()
    assert facts_of(night, TARGET)[2] == 500


def test_a_masked_copy_whose_record_is_not_complete_is_kept_and_told_of_since_it_cannot_be_compared_again(
    night: Night, killed: Callable[..., KilledRun]
) -> None:
    mask = night.folder / "mask.sql"
    mask.write_text("UPDATE public.account SET name = 'somebody';")
    run = killed(NAMED, masking=str(mask))
    state = run.retry()
    assert state.is_failed()
    assert "a masked copy cannot be compared with its backup once more" in str(state.message)
    assert facts_of(night, TARGET)[2] == 500
