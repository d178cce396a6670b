"""The restore as a flow: side by side, compared, and, when approved, in the live database's place. Approvals come from the test; that a run waits for
one in the UI is tested on the platform."""

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from prefect import flow

from core.errors import TemporaryError
from core.restore_record import Restored
from flows import approval
from flows import restore as restore_flow
from flows.undo_swap import undo_swap
from tasks.report_steps import begin_run
from tasks.restore_records import find_record
from tasks.restore_request import RestoreRequest
from tests.fix_nightly import Night

pytestmark = pytest.mark.xdist_group("prefect")
ASK = "SELECT count(*), sum(balance) FROM public.account"


def rows(night: Night, name: str) -> Any:
    with psycopg.connect(night.server.conninfo(name)) as connection:
        return connection.execute(ASK).fetchone()


def change(night: Night, name: str, statement: str) -> None:
    with psycopg.connect(night.server.conninfo(name), autocommit=True) as connection:
        connection.execute(statement.encode())


def databases(night: Night) -> set[str]:
    with psycopg.connect(night.server.conninfo("postgres")) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def drop(night: Night, *names: str) -> None:
    with psycopg.connect(night.server.conninfo("postgres"), autocommit=True) as connection:
        for name in names:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def approve(monkeypatch: pytest.MonkeyPatch, **answer: str) -> list[str]:
    """Answer every form with these values; return the texts that were shown."""
    shown: list[str] = []

    def answered(*, wait_for_input: Any, key: str, timeout: int) -> Any:
        shown.append(str(wait_for_input._description))
        return SimpleNamespace(**answer)

    monkeypatch.setattr(approval, "suspend_flow_run", answered)
    return shown


def test_a_backup_becomes_a_new_database_with_the_rows_of_its_snapshot_and_the_live_one_is_untouched(
    night: Night,
) -> None:
    night.run(databases=["first"])
    live = night.names["first"]
    change(night, live, "DELETE FROM account WHERE id > 10")
    state = night.restore(backup="newest-decoded", target="copy_of_first")
    try:
        assert state.is_completed(), state.message
        assert rows(night, "copy_of_first")[0] == 500
        assert rows(night, live)[0] == 10
        facts = next(step.facts for step in night.report.steps if step.name == "restore and verify")
        assert (facts["tables_compared"], facts["rows"], facts["skipped"]) == (1, 500, [])
        again = night.restore(backup="newest-decoded", target="copy_of_first")
        assert again.is_failed()
        assert "copy_of_first" in str(again.message)
    finally:
        drop(night, "copy_of_first")


def test_a_dry_run_tells_what_would_be_done_and_changes_nothing(night: Night) -> None:
    night.run(databases=["first"])
    before = databases(night)
    state = night.restore(backup="newest-decoded", target="copy_of_first", dry_run=True)
    assert state.is_completed(), state.message
    assert "nothing was changed" in str(state.message)
    assert databases(night) == before


def test_without_a_backup_named_the_run_asks_and_shows_what_each_would_lose(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    shown = approve(monkeypatch, backup="newest-decoded")
    state = night.restore(target="copy_of_first", dry_run=True)
    assert state.is_completed(), state.message
    assert "loses everything written in the last" in shown[0]
    assert "newest-decoded" in shown[0]


def test_a_backup_that_is_not_there_is_refused_and_nothing_is_made(night: Night) -> None:
    night.run(databases=["first"])
    state = night.restore(backup="newest-proven", target="copy_of_first")
    assert state.is_failed()
    assert "no backup is proven yet" in str(state.message)
    assert "There are newest-decoded" in str(state.message)
    assert "copy_of_first" not in databases(night)


@pytest.mark.services
def test_a_masked_copy_has_the_masked_data_and_a_failing_mask_leaves_no_copy(night: Night) -> None:
    night.run(databases=["first"])
    good, bad = night.folder / "mask.sql", night.folder / "bad.sql"
    good.write_text("UPDATE public.account SET name = 'somebody', balance = 0;")
    bad.write_text("UPDATE public.account SET no_such_column = 1;")
    try:
        state = night.restore(backup="newest-decoded", target="masked_first", masking=str(good))
        assert state.is_completed(), state.message
        assert "verified (masked after it was verified)" in str(state.message)
        assert rows(night, "masked_first") == (500, 0)
        state = night.restore(backup="newest-decoded", target="masked_second", masking=str(bad))
        assert state.is_failed()
        assert "no_such_column" in str(state.message)
        assert not {name for name in databases(night) if name.startswith(("masked_second", "nightshift_"))}
    finally:
        drop(night, "masked_first", "masked_second")


def test_a_masked_copy_is_never_swapped_in(night: Night) -> None:
    night.run(databases=["first"])
    mask = night.folder / "mask.sql"
    mask.write_text("DELETE FROM public.account;")
    state = night.restore(backup="newest-decoded", masking=str(mask), swap_live=True)
    assert state.is_failed()
    assert "never takes a live database's place" in str(state.message)


@pytest.mark.parametrize(
    "more", [{"masking": "mask.sql"}, {"tables": ["public.account"]}, {"allow_missing_extensions": True}]
)
def test_what_is_less_than_the_backup_never_gets_the_live_name_though_the_live_database_is_gone(
    night: Night, more: dict[str, Any]
) -> None:
    night.run(databases=["first"])
    live = night.names["first"]
    night.server.execute("postgres", f"DROP DATABASE {live}")
    if "masking" in more:
        (night.folder / "mask.sql").write_text("SELECT 1;")
        more = {"masking": str(night.folder / "mask.sql")}
    state = night.restore(backup="newest-decoded", target=live, **more)
    assert state.is_failed()
    assert "never takes a live database's place" in str(state.message)
    assert live not in databases(night)


def test_a_live_database_that_is_gone_is_restored_under_its_own_name(night: Night) -> None:
    night.run(databases=["first"])
    live = night.names["first"]
    night.server.execute("postgres", f"DROP DATABASE {live}")
    state = night.restore(backup="newest-decoded", target=live)
    assert state.is_completed(), state.message
    assert rows(night, live)[0] == 500


def test_after_an_approval_the_copy_takes_the_live_name_and_the_way_back_works(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    live = night.names["first"]
    change(night, live, "DELETE FROM account WHERE id > 10")
    shown = approve(monkeypatch, database_name=live, approver="on call", reason="rows were deleted")
    state = night.restore(backup="newest-decoded", swap_live=True)
    assert state.is_completed(), state.message
    old = next(name for name in databases(night) if "_before_" in name)
    try:
        assert live in shown[0].replace("\\", "")
        assert (rows(night, live)[0], rows(night, old)[0]) == (500, 10)
        facts = next(step.facts for step in night.report.steps if step.name == "swap")
        assert facts["outage_ms"] < 4000
        approved = next(step.facts for step in night.report.steps if step.name == "approve")
        assert (approved["approver"], approved["reason"]) == ("on call", "rows were deleted")
        undone = undo_swap("night", old.rpartition("_")[2], return_state=True)
        assert undone.is_completed(), undone.message
        assert rows(night, live)[0] == 10
    finally:
        drop(night, *(name for name in databases(night) if "_undone_" in name or "_before_" in name))


@pytest.mark.services
def test_a_swap_whose_record_cannot_be_kept_is_told_as_made_first_of_all(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    live, keep = night.names["first"], restore_flow.keep_record
    approve(monkeypatch, database_name=live, approver="on call", reason="rows were deleted")

    def refused(request: RestoreRequest, restored: Restored, *, swapped_as: str | None = None, **_more: Any) -> None:
        if swapped_as is not None:
            raise TemporaryError("write", "s3://bucket/record", "no answer")
        keep(request, restored)

    monkeypatch.setattr(restore_flow, "keep_record", refused)
    state = night.restore(backup="newest-decoded", swap_live=True)
    (old,) = (name for name in databases(night) if "_before_" in name)
    try:
        assert state.is_failed()
        assert str(state.message).startswith(f"THE SWAP WAS MADE, {live} is ")
        assert f"before: {old}; what failed came after it: " in str(state.message)
        assert "no answer" in str(state.message)
    finally:
        drop(night, old)


@pytest.mark.services
@pytest.mark.parametrize("retried", [True, False])
def test_a_swap_that_ended_before_it_was_recorded_is_told_of_by_a_retry_and_can_be_undone_without_one(
    night: Night, monkeypatch: pytest.MonkeyPatch, retried: bool
) -> None:
    night.run(databases=["first"])
    live, keep, orders = night.names["first"], restore_flow.keep_record, []
    change(night, live, "DELETE FROM account WHERE id > 10")
    shown = approve(monkeypatch, database_name=live, approver="on call", reason="rows were deleted")

    def ends(request: RestoreRequest, restored: Restored, *, swapped_as: str | None = None, **_more: Any) -> None:
        orders.append(request)
        if swapped_as is not None:
            raise RuntimeError("the process ends here")
        keep(request, restored)

    monkeypatch.setattr(restore_flow, "keep_record", ends)
    state = night.restore(backup="newest-decoded", swap_live=True)
    assert state.is_failed()
    order = orders[-1]
    old = f"{live}_before_{order.restore_id}"
    try:
        assert (rows(night, live)[0], rows(night, old)[0]) == (500, 10)
        # Who approved it stands in the evidence all the same: that was written before.
        assert night.report.steps[0].facts["approver"] == "on call"
        monkeypatch.setattr(restore_flow, "keep_record", keep)
        if retried:
            told = retry_of(order)
            assert told.is_completed(), told.message
            assert (
                f"made by an earlier process of this run, which ended before it could report it: its outage is not known; before: {old}"
                in str(told.message)
            )
            assert night.report.verdict == "passed with warnings"
            assert len(shown) == 1
        undone = undo_swap("night", order.restore_id, return_state=True)
        assert undone.is_completed(), undone.message
        assert f"**{old}** becomes **{live}** again" in shown[-1].replace("\\", "")
        assert rows(night, live)[0] == 10
        # Once more there is nothing to undo, and nobody is asked.
        again = undo_swap("night", order.restore_id, return_state=True)
        assert again.is_failed()
        assert "it was undone already: the copy that this restore made is called" in str(again.message)
        assert len(shown) == 2
    finally:
        drop(night, *(name for name in databases(night) if "_undone_" in name or "_before_" in name))


def retry_of(order: RestoreRequest) -> Any:
    """What a Retry of the restore comes to, after the copy was found."""

    @flow(name="restore")
    def again() -> Any:
        run = begin_run("night", flow="restore", run_id=order.flow_run_id, run_name="again")
        waiting = find_record("night", order.restore_id)
        assert waiting is not None
        return restore_flow.swap_when_approved(run, order, waiting, {})

    return again(return_state=True)


@pytest.mark.services
def test_a_name_that_was_edited_while_the_run_waited_replaces_nothing_unless_it_was_accepted_and_asked_for(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    was, now, keep, orders = night.names["first"], night.names["second"], restore_flow.keep_record, []

    def kept(request: RestoreRequest, *arguments: Any, **more: Any) -> None:
        orders.append(request)
        keep(request, *arguments, **more)

    def suspended(**_form: Any) -> Any:
        raise RuntimeError("the process ends here")

    monkeypatch.setattr(restore_flow, "keep_record", kept)
    monkeypatch.setattr(approval, "suspend_flow_run", suspended)
    assert night.restore(backup="newest-decoded", target="copy_of_first", swap_live=True).is_failed()
    night.settings["databases"]["first"]["name"] = now
    night.write()
    change(night, now, "DELETE FROM account WHERE id > 10")
    shown = approve(monkeypatch, database_name=now, approver="on call", reason="rows were deleted")
    try:
        ended = retry_of(orders[-1])
        assert ended.is_failed()
        assert f"backup of the database {was}: the name {now} in the live database, the name {was} in the copy" in str(
            ended.message
        )
        assert "Nothing was swapped" in str(ended.message)
        assert (shown, rows(night, now)[0]) == ([], 10)
        assert retry_of(orders[-1].model_copy(update={"backup_of": was})).is_completed()
        assert f"That backup is of: database {was} on " in shown[0].replace("\\", "")
        assert f"the name {now} in the live database" in shown[0].replace("\\", "")
        assert rows(night, now)[0] == 500
        # With the right name again, the way back says where that swap stands, and with that name it is gone.
        night.settings["databases"]["first"]["name"] = was
        night.write()
        stands = undo_swap("night", orders[-1].restore_id, return_state=True)
        assert stands.is_failed()
        assert f"which took the place of {now}: that one is kept as {now}_before_" in str(stands.message)
        assert f"set name = {now} in [databases.first]" in str(stands.message)
        night.settings["databases"]["first"]["name"] = now
        night.write()
        assert undo_swap("night", orders[-1].restore_id, return_state=True).is_completed()
        assert rows(night, now)[0] == 10
    finally:
        drop(night, "copy_of_first", *(name for name in databases(night) if "_before_" in name or "_undone_" in name))


@pytest.mark.services
def test_another_name_typed_three_times_approves_nothing(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.run(databases=["first"])
    live = night.names["first"]
    approve(monkeypatch, database_name="something else", approver="on call", reason="none")
    state = night.restore(backup="newest-decoded", target="copy_of_first", swap_live=True)
    try:
        assert state.is_failed()
        assert "asked 3 times; “something else” was typed" in str(state.message)
        assert {live, "copy_of_first"} <= databases(night)
    finally:
        drop(night, "copy_of_first")


@pytest.mark.services
def test_a_copy_that_was_written_to_before_its_approval_is_not_swapped_in(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    live = night.names["first"]

    def approve_after_a_write(_question: str, _text: str, _live: str, _about: object, *, hours: int) -> Any:
        change(night, "copy_of_first", "UPDATE account SET balance = 0 WHERE id = 1")
        return SimpleNamespace(database_name=live, approver="on call", reason="none")

    monkeypatch.setattr(restore_flow, "ask_for_approval", approve_after_a_write)
    state = night.restore(backup="newest-decoded", target="copy_of_first", swap_live=True)
    try:
        assert state.is_failed()
        assert "changed since it was verified" in str(state.message)
        assert rows(night, live)[0] == 500
    finally:
        drop(night, "copy_of_first")
