"""A restore with a swap, as a flow, whose swap or its undoing cannot be made, or must not be disturbed: the run says so, and the live database serves as before."""

from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import PermanentError
from core.restore_record import Restored, WaitingCopy
from flows import restore as restore_flow
from flows import undo_swap as undo_flow
from flows.undo_swap import undo_swap
from tasks import swap_steps
from tasks.copy_seal import sealed
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.recording import utc_now
from tasks.restore_records import read_waiting_copy
from tasks.restore_request import RestoreRequest
from tasks.secrets import signing_keys
from tasks.swap_plans import plan_undo
from tasks.swap_session import open_session
from tasks.swap_transactions import new_marker, refuse_connections
from tests.fix_nightly import Night, server_settings
from tests.fix_swap import refused
from tests.test_restore_flow import drop, retry_of, rows

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("prefect")]

TARGET = "copy_beside_a_session"


def test_a_session_that_will_not_leave_fails_the_run_and_live_one_and_copy_stay_as_they_are(
    night: Night,
    fresh_role: Callable[..., tuple[str, str]],
    restored_names: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restored_names(night.server, TARGET)
    live = night.names["first"]
    owner, password = fresh_role(night.server, "CREATEDB")
    night.server.execute(live, f"ALTER DATABASE {live} OWNER TO {owner}", f"ALTER TABLE account OWNER TO {owner}")
    login = night.server.database("postgres", user=owner, password=password)
    night.settings["servers"]["primary"] = {**server_settings(night.server), "user": owner, "password": login.password}
    night.settings["restore"]["drain_seconds"] = 1
    night.run(databases=["first"])
    night.server.execute(live, "DELETE FROM account WHERE id > 10")
    answer = SimpleNamespace(database_name=live, approver="on call", reason="rows were deleted")
    monkeypatch.setattr(restore_flow, "ask_for_approval", lambda *_arguments, **_named: answer)
    with night.server.connect(live) as stubborn:
        stubborn.execute("SET application_name = 'cron of the platform'")
        state = night.restore(backup="newest-decoded", target=TARGET, swap_live=True)
        assert state.is_failed()
        assert f"pid {stubborn.info.backend_pid} (user postgres, application cron of the platform" in str(state.message)
        assert "which our role may not end" in str(state.message)
        assert "The live database serves as before" in str(state.message)
        assert stubborn.execute("SELECT count(*) FROM account").fetchone() == (10,)
    # Whoever connects anew gets there too; the copy is whole and open, under its own name.
    for name, expected in ((live, 10), (TARGET, 500)):
        with night.server.connect(name) as session:
            assert session.execute("SELECT count(*) FROM account").fetchone() == (expected,)
            comment = session.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
            ).fetchone()
        assert comment == (None,)
    failed = [step.name for step in night.report.steps if step.state == "failed"]
    assert failed == ["swap"]
    night.server.execute(live, f"ALTER DATABASE {live} OWNER TO postgres")


def approved(monkeypatch: pytest.MonkeyPatch, live: str) -> list[str]:
    """Approve every swap and every undoing; return the questions."""
    asked: list[str] = []

    def answer(question: str, *_arguments: Any, **_named: Any) -> Any:
        asked.append(question)
        return SimpleNamespace(database_name=live, approver="on call", reason="rows were deleted")

    for module in (restore_flow, undo_flow):
        monkeypatch.setattr(module, "ask_for_approval", answer)
    return asked


def test_who_comes_writes_and_goes_between_the_comparison_and_the_swap_does_not_get_in(
    night: Night, restored_names: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restored_names(night.server, TARGET)
    night.run(databases=["first"])
    live, tried = night.names["first"], []
    before = rows(night, live)
    approved(monkeypatch, live)
    compare, exchange = swap_steps.verify_restored, restore_flow.swap

    def intrude() -> None:
        tried.append(refused(night.server, TARGET))
        if not tried[-1]:
            night.server.execute(TARGET, "UPDATE account SET balance = 0 WHERE id = 1")

    def compared(*arguments: Any, **named: Any) -> Any:
        intrude()
        result = compare(*arguments, **named)
        intrude()
        return result

    def exchanged(*arguments: Any) -> Any:
        intrude()
        return exchange(*arguments)

    monkeypatch.setattr(swap_steps, "verify_restored", compared)
    monkeypatch.setattr(restore_flow, "swap", exchanged)
    state = night.restore(backup="newest-decoded", target=TARGET, swap_live=True)
    try:
        assert state.is_completed(), state.message
        assert tried == [True, True, True]
        assert rows(night, live) == before
    finally:
        drop(night, *names_like(night, f"{live}_before_%"))


def names_like(night: Night, pattern: str) -> list[str]:
    with night.server.connect() as session:
        found = session.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (pattern,)).fetchall()
    return [name for (name,) in found]


def orders_of(monkeypatch: pytest.MonkeyPatch) -> list[RestoreRequest]:
    """The requests whose records are kept from now on."""
    orders: list[RestoreRequest] = []
    keep = restore_flow.keep_record

    def kept(request: RestoreRequest, restored: Restored, **more: Any) -> None:
        orders.append(request)
        keep(request, restored, **more)

    monkeypatch.setattr(restore_flow, "keep_record", kept)
    return orders


def test_a_copy_that_a_killed_run_left_closed_is_opened_by_its_retry_and_compared_anew(
    night: Night, restored_names: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restored_names(night.server, TARGET)
    night.run(databases=["first"])
    live, orders = night.names["first"], orders_of(monkeypatch)
    asked = approved(monkeypatch, live)

    def lost(*_arguments: Any) -> Any:
        raise PermanentError("swap the databases", live, "the test ends here")

    with monkeypatch.context() as here:
        here.setattr(restore_flow, "swap", lost)
        state = night.restore(backup="newest-decoded", target=TARGET, swap_live=True)
    assert state.is_failed()
    # What fails after the comparison opens it.
    assert not refused(night.server, TARGET)
    # A process that is killed cannot.
    store, environment = ObjectStore.open(night.environment), night.environment
    record, login = read_waiting_copy(store, environment, orders[0].restore_id), night.server.database("postgres")
    assert record is not None
    copy = night.server.database(TARGET)
    with sealed(login, live, copy, record.restored, record.restore_id, begun=utc_now(), sessions=1):
        pass
    assert refused(night.server, TARGET)
    state = retry_of(orders[0])
    try:
        assert state.is_completed(), state.message
        assert asked == ["approve-swap", "approve-swap"]
        assert rows(night, live)[0] == 500
    finally:
        drop(night, *names_like(night, f"{live}_before_%"))


def killed_while_closed(night: Night, record: WaitingCopy, live: str, incoming: str) -> None:
    """Leave the live database as a process does that is killed between closing and renaming."""
    login = night.server.database("postgres")
    plan = plan_undo(login, live, incoming, record.restore_id)
    with closing(open_session(login, live)) as session:
        marker = new_marker(session, plan, utc_now())
        refuse_connections(session, plan, marker, lambda _point: None)
    assert refused(night.server, live)


def findings_of_all_reports(night: Night) -> list[str]:
    store, keys = ObjectStore.open(night.environment), signing_keys(night.environment)
    reports = [read_report(store, night.environment, keys, number)[1] for number in range(1, night.report.sequence + 1)]
    return [finding.text for report in reports for step in report.steps for finding in step.findings]


OPENED = "had ended before the renames; {} takes connections again"


def test_the_retry_of_a_swap_that_was_killed_while_the_live_database_was_closed_opens_it_before_it_asks_anybody(
    night: Night, restored_names: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restored_names(night.server, TARGET)
    night.run(databases=["first"])
    live, orders = night.names["first"], orders_of(monkeypatch)
    closed: list[bool] = []

    def refuse(*_arguments: Any, **_named: Any) -> Any:
        closed.append(refused(night.server, live))
        raise PermanentError("get the approval", live, "nobody says yes")

    monkeypatch.setattr(restore_flow, "ask_for_approval", refuse)
    assert night.restore(backup="newest-decoded", target=TARGET, swap_live=True).is_failed()
    record = read_waiting_copy(ObjectStore.open(night.environment), night.environment, orders[0].restore_id)
    assert record is not None
    killed_while_closed(night, record, live, TARGET)
    state = retry_of(orders[0])
    assert "nobody says yes" in str(state.message)
    assert closed == [False, False]
    assert (refused(night.server, live), refused(night.server, TARGET)) == (False, False)
    # That it was out of reach stands in the evidence, though the run that closed it could not write it.
    assert any(OPENED.format(live) in text for text in findings_of_all_reports(night))


def test_an_undoing_that_was_killed_while_the_live_database_was_closed_is_done_by_the_next_one(
    night: Night, restored_names: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restored_names(night.server, TARGET)
    night.run(databases=["first"])
    live, orders = night.names["first"], orders_of(monkeypatch)
    approved(monkeypatch, live)
    night.server.execute(live, "DELETE FROM account WHERE id > 10")
    assert night.restore(backup="newest-decoded", target=TARGET, swap_live=True).is_completed()
    record = read_waiting_copy(ObjectStore.open(night.environment), night.environment, orders[0].restore_id)
    try:
        assert record is not None
        killed_while_closed(night, record, live, str(record.old_name))
        state = undo_swap("night", record.restore_id, return_state=True)
        assert state.is_completed(), state.message
        assert rows(night, live)[0] == 10
        assert any(OPENED.format(live) in text for text in findings_of_all_reports(night))
    finally:
        drop(night, *names_like(night, f"{live}_before_%"), *names_like(night, f"{live}_undone_%"))


def test_an_undoing_whose_server_was_renamed_in_the_file_names_it_and_changes_nothing_until_it_is_back(
    night: Night, restored_names: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restored_names(night.server, TARGET)
    night.run(databases=["first"])
    live, orders = night.names["first"], orders_of(monkeypatch)
    asked = approved(monkeypatch, live)
    night.server.execute(live, "DELETE FROM account WHERE id > 10")
    assert night.restore(backup="newest-decoded", target=TARGET, swap_live=True).is_completed()
    (restore_id,) = {order.restore_id for order in orders}
    try:
        night.settings["servers"] = {"renamed": night.settings["servers"]["primary"]}
        night.write()
        state = undo_swap("night", restore_id, return_state=True)
        assert state.is_failed()
        assert "[servers.primary]): the environment's file does not have it any more. Put it back" in str(state.message)
        assert asked == ["approve-swap"]
        assert rows(night, live)[0] == 500
        # It failed before the approval, and the evidence says so.
        assert [(step.name, step.state) for step in night.report.steps] == [("approve", "failed")]
        night.settings["servers"] = {"primary": night.settings["servers"]["renamed"]}
        night.write()
        state = undo_swap("night", restore_id, return_state=True)
        assert state.is_completed(), state.message
        assert rows(night, live)[0] == 10
    finally:
        drop(night, *names_like(night, f"{live}_before_%"), *names_like(night, f"{live}_undone_%"))
