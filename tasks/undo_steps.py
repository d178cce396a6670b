"""The steps of a swap's reverse, each a Prefect task: what forbids it, what it would do, and doing it."""

from __future__ import annotations

from contextlib import closing

from core.errors import ConfigurationError, PermanentError
from core.restore_record import WaitingCopy
from core.swap_plan import SwapOutcome, SwapPlan, before_name, undone_name
from tasks.environments import load_environment
from tasks.postgres import translated
from tasks.retrying import step
from tasks.swap import undo_swap
from tasks.swap_guard import guarded
from tasks.swap_plans import plan_undo
from tasks.swap_session import described, open_session
from tasks.swap_steps import is_swapped, maintenance_login, tell_who_is_there


@step("look whether the swap {record.restore_id} of {live} can be undone")
def check_swap_back(record: WaitingCopy, live: str) -> SwapPlan:
    """Return what the swap back would do. Raise ConfigurationError when it is not this restore's copy that serves, PermanentError when it must not be done."""
    environment = load_environment(record.environment)
    # The name follows from the restore's id: a swap whose process ended before it could keep the record is undone like any other.
    old = record.old_name or before_name(live, record.restore_id)
    plan = plan_undo(maintenance_login(environment, record), live, old, record.restore_id)
    if not is_swapped(plan, record):
        raise ConfigurationError("undo the swap", record.restore_id, *_why_not_back(record, live))
    if reasons := [*plan.refusals, *_another_old_one(record, plan)]:
        raise PermanentError("undo the swap", f"{live} and {old}", "; ".join(reasons), "Nothing was changed")
    if record.old_oid is None:
        note = (
            f"the swap's own record is missing, so it is not known whether {old} is the database that served before it"
        )
        return plan.model_copy(update={"notes": (*plan.notes, note)})
    return plan


def _why_not_back(record: WaitingCopy, live: str) -> tuple[str, str]:
    """What became of a copy that does not serve under the live name, and what to do."""
    login = maintenance_login(load_environment(record.environment), record)
    with (
        closing(open_session(login, live)) as session,
        translated("look for the restored copy", described(login, live)),
    ):
        row = session.execute(
            "SELECT datname FROM pg_catalog.pg_database WHERE oid = %s", (record.restored.oid,)
        ).fetchone()
        names = {str(one) for (one,) in session.execute("SELECT datname FROM pg_catalog.pg_database").fetchall()}
    name = None if row is None else str(row[0])
    if name == undone_name(live, record.restore_id):
        return f"it was undone already: the copy that this restore made is called {name}", "Nothing is left to do"
    if name is None:
        return (
            f"{live} is not the copy that this restore made, which is not on this server any more",
            "See nightshift evidence show",
        )
    if name == record.restored.name:
        return f"it was not swapped in: the copy that this restore made is still called {name}", "Nothing is left to do"
    # Where the file named another database at the swap, the copy has that one's name, and beside it stands the one that served there.
    if (before := before_name(name, record.restore_id)) in names:
        found = f"{live} is not the copy that this restore made, which took the place of {name}: that one is kept as {before}"
        return (
            found,
            f"To undo that swap set name = {name} in [databases.{record.database}], and afterwards correct it again",
        )
    found = f"{live} is not the copy that this restore made, which is called {name}: another swap came after it"
    return found, "Undo the newest swap first; its report tells its id"


def _another_old_one(record: WaitingCopy, plan: SwapPlan) -> list[str]:
    """Why what has the old database's name is not the one that served before; nothing where that is not known, or it is gone."""
    if record.old_oid is None or plan.copy_oid in {0, record.old_oid}:
        return []
    return [
        f"{plan.copy_name} is not the database that served before the swap: its oid is {plan.copy_oid}, not {record.old_oid}"
    ]


@step("swap {record.old_name} back for {live}")
def swap_back(record: WaitingCopy, live: str) -> SwapOutcome:
    """Let the database that served before a swap take its name back. Raise PermanentError when it is gone or cannot: then nothing was changed."""
    environment = load_environment(record.environment)
    login, old = maintenance_login(environment, record), record.old_name or ""
    # Between the form and the answer somebody may have put another database there.
    if reasons := _another_old_one(record, plan_undo(login, live, old, record.restore_id)):
        raise PermanentError("undo the swap", f"{live} and {old}", "; ".join(reasons), "Nothing was changed")
    with guarded(login, live):
        return undo_swap(
            login,
            live,
            old,
            record.restore_id,
            drain_seconds=environment.restore.drain_seconds,
            on_wait=tell_who_is_there(),
        )
