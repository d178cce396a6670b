"""Where a secret's value must not turn up: log records, foreign errors, the Prefect server's log, states."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.errors import NightshiftError
from core.redaction import MASK
from tasks.log_redaction import install_log_redaction, redacted_errors
from tasks.secrets import resolve
from tests.test_secrets import new_secret


@pytest.fixture
def log_redaction() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    install_log_redaction()
    yield
    logging.setLogRecordFactory(before)


def test_a_log_record_holds_no_secret_however_it_came_in(
    log_redaction: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = new_secret()
    monkeypatch.setenv("NS_TEST_SECRET", secret)
    resolve("env:NS_TEST_SECRET")
    logger = logging.getLogger("some.library.below")
    logger.setLevel("INFO")
    logger.info(f"formatted {secret}")  # noqa: G004 - what others do
    logger.info("argument %s, %r", secret, [secret])
    logger.info("a mapping %(word)s", {"word": secret})
    logger.info("too few %s %s", secret)  # noqa: PLE1206 - what others do
    try:
        int(secret)
    except ValueError:
        logger.exception("an exception")
    logger.info("nothing to hide: %d of %s", 5, "five")
    assert secret not in caplog.text
    assert caplog.text.count(MASK) == 6
    assert "nothing to hide: 5 of five" in caplog.text
    assert all(secret not in repr(record.__dict__) for record in caplog.records)


def test_installing_log_redaction_twice_changes_nothing(log_redaction: None) -> None:
    factory = logging.getLogRecordFactory()
    install_log_redaction()
    assert logging.getLogRecordFactory() is factory


def test_a_foreign_error_that_tells_a_secret_is_replaced_and_others_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_secret()
    monkeypatch.setenv("NS_TEST_SECRET", secret)
    resolve("env:NS_TEST_SECRET")
    with pytest.raises(NightshiftError, match=r"OSError: .*\*{5}") as caught, redacted_errors():
        raise OSError(5, "no access", secret)
    assert secret not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    with pytest.raises(KeyError, match="harmless"), redacted_errors():
        raise KeyError("harmless")


@pytest.mark.xdist_group("prefect")
def test_a_secret_in_a_flow_reaches_neither_the_servers_log_nor_the_state(
    prefect_server: str, log_redaction: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow, get_run_logger, task

    secret = new_secret()
    monkeypatch.setenv("NS_TEST_SECRET", secret)

    @task
    def fails() -> None:
        with redacted_errors():
            raise ValueError(f"password authentication failed: {secret}")

    @flow(log_prints=True)
    def leaks() -> None:
        resolve("env:NS_TEST_SECRET")
        get_run_logger().warning("before %s after", secret)
        print(f"printed {secret}")  # noqa: T201 - what a library may do
        logging.getLogger("prefect.flow_runs").info("a child's text: %s", {"PGPASSWORD": secret})
        fails()

    state = leaks(return_state=True)
    assert state.is_failed()
    assert MASK in str(state.message)
    logs, states = everything_of(state.state_details.flow_run_id)
    assert secret not in states
    assert secret not in logs
    assert f"before {MASK} after" in logs
    assert f"printed {MASK}" in logs
    assert f"password authentication failed: {MASK}" in logs


def everything_of(flow_run_id: Any) -> tuple[str, str]:
    """All that the server's log and all states, of the run and its tasks, say; waits until the log's end has arrived."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        LogFilter,
        LogFilterFlowRunId,
    )

    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 20
        while True:
            records = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
            logs = "\n".join(record.message for record in records)
            if "Finished in state Failed" in logs and "Encountered exception" in logs:
                break
            assert time.monotonic() < deadline, logs
            time.sleep(0.2)
        states = [str(state) for state in client.read_flow_run_states(flow_run_id)]
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
        states += [repr(task.state) for task in tasks]
    return logs, "\n".join(states)
