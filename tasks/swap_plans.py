"""What a swap or its undo would do, and what forbids it. Read-only: nothing is locked, closed or renamed."""

from contextlib import closing

from core.backup_source import name_difference, source_text
from core.copy_seal import SealedCopy
from core.environment_database import Database
from core.manifest import Manifest
from core.restore_record import Restored
from core.swap_plan import SwapPlan, before_name, copy_refusals, live_refusals, undone_name
from tasks.database_properties import UNKNOWN
from tasks.postgres import Connection, translated
from tasks.swap_facts import look, read_database_facts, read_server_facts
from tasks.swap_session import described, open_session


def preview_swap(login: Database, live: str, restore_id: str) -> tuple[str, ...]:
    """Given a login of the maintenance database, return what forbids a swap of `live` whatever the copy is: for asking before hours of restoring. Read-only."""
    with (
        closing(open_session(login, live)) as connection,
        translated("look at the live database", described(login, live)),
    ):
        return live_refusals(read_server_facts(connection, login), read_database_facts(connection, live), restore_id)


def plan_swap(
    login: Database,
    live: str,
    copy: str,
    restore_id: str,
    manifest: Manifest,
    *,
    restored: Restored,
    sealed: SealedCopy | None = None,
) -> SwapPlan:
    """Given a login of another database of the server, the live database's name, the copy's, the restore's id, the backup's manifest and the record of the copy, return
    what a swap would do and what forbids it. `sealed`: the copy was compared and is closed since. Read-only; an unfinished swap is told of, not recovered.

    Raise TemporaryError or PermanentError when the server cannot be asked.
    """
    with closing(open_session(login, live)) as connection:
        plan = look(
            connection,
            login,
            live,
            copy,
            old_name=before_name(live, restore_id),
            restore_id=restore_id,
            recorded=manifest.properties,
            sealed=sealed,
        )
    more = list(copy_refusals(masked=restored.masked, partial=restored.partial))
    identity = (restored.system_identifier, restored.oid)
    if plan.copy_oid and identity != (plan.system_identifier, plan.copy_oid) and UNKNOWN not in identity:
        more.append(
            f"{copy} is not the database that was restored and verified: its oid is {plan.copy_oid}, not {restored.oid}, or the server is another"
        )
    if restored.backup_id != manifest.backup_id:
        more.append(f"the copy was made of the backup {restored.backup_id}, not of {manifest.backup_id}")
    skipped = [f"not in the copy: {entry.entry} ({entry.why})" for entry in restored.skipped]
    return plan.model_copy(
        update={
            "refusals": (*plan.refusals, *more),
            "differences": (*name_difference(manifest.server, live), *plan.differences),
            "notes": (*plan.notes, *skipped),
            "source": source_text(manifest.server),
        }
    )


def plan_undo(login: Database, live: str, old: str, restore_id: str) -> SwapPlan:
    """Given a login of another database of the server, the live database's name, that of the old one and the restore's id, return what `undo_swap` would do. Read-only.

    Differences are told and stop nothing: the old database had its own properties before.
    """
    with closing(open_session(login, live)) as connection:
        return look_back(connection, login, live, old, restore_id)


def look_back(connection: Connection, login: Database, live: str, old: str, restore_id: str) -> SwapPlan:
    """As `plan_undo`, on a session that is there."""
    plan = look(
        connection, login, live, old, old_name=undone_name(live, restore_id), restore_id=restore_id, recorded=None
    )
    told = tuple(difference.model_copy(update={"stops": False}) for difference in plan.differences)
    return plan.model_copy(update={"differences": told})
