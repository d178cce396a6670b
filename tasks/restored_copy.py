"""The database that a restore makes: what was asked for, and how it gets its name or is dropped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg

from core.environment import Environment
from core.environment_database import Database
from core.errors import NightshiftError, PermanentError
from core.manifest import Manifest
from core.restore_record import Restored
from tasks.object_store import ObjectStore
from tasks.postgres import Connection, connect, describe, translated
from tasks.restore_database import finish_database
from tasks.restore_roles import remove_roles
from tasks.restore_target import drop_database

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoreOrder:
    """What is to be restored, and where.

    Args:
        login: the maintenance database of the target server.
        server_name: what messages and reports call that server: "primary", "the embedded scratch server".
        restore_id: eight hexadecimal digits; the same again for a repeated attempt, which drops what the earlier one left.
        purpose: whose rules hold for roles and leftovers.
        target: the name that the database is to get in the end; None for drills.
        jobs: pg_restore's.
        tables: `schema.table` or `schema.*`; empty: all.
        spool_parent: where the fetched dump lies meanwhile; None: the temporary folder.
        spool_reserve_bytes: so much of its disk is left free.
        allow_missing_extensions: skip, and name, extensions that the server lacks and all that needs them, rather than refuse.
        analyze: collect the planner's statistics; not before a masking, since they hold values of the rows.
    """

    store: ObjectStore
    environment: Environment
    manifest: Manifest
    login: Database
    server_name: str
    restore_id: str
    purpose: Literal["restore", "drill"]
    target: str | None = None
    jobs: int = 2
    tables: tuple[str, ...] = ()
    spool_parent: str | None = None
    spool_reserve_bytes: int = 1 << 30
    allow_missing_extensions: bool = False
    analyze: bool = True


class RestoredCopy:
    """The new database, as long as its restore's locks are held. `database` is the login to it; `restored` says what was done.

    Not a dataclass on purpose: a drill's steps get it, and Prefect would look at each value of the order's manifest every time.
    """

    def __init__(self, order: RestoreOrder, database: Database, restored: Restored, session: Connection) -> None:
        self.order, self.database, self.restored, self.session = order, database, restored, session
        self.finished = self.dropped = False

    def finish(self, name: str) -> None:
        """Give the database its name and the source's comment; from then on nothing drops it.

        Raise PermanentError when the name is taken by now or cannot be had, TemporaryError when sessions are connected or the server is lost.
        """
        finish_database(self.session, self.order.login, self.database.name, name, self.order.manifest.properties)
        self.finished = True
        self.database = self.database.model_copy(update={"name": name})
        self.restored = self.restored.model_copy(update={"name": name})


def drop_copy(copy: RestoredCopy) -> None:
    """Drop a copy that is not finished, with whoever is connected, and the roles that were made for it and that nothing else depends on.

    Raise TemporaryError or PermanentError; once dropped, calling it again does nothing.
    """
    if copy.finished:
        found = "it is finished and has its name"
        raise PermanentError("drop the copy", describe(copy.database), found, "Drop it by hand if it is not wanted")
    if not copy.dropped:
        drop_new(copy.session, copy.order.login, copy.database.name, copy.restored.roles_created)
        copy.dropped = True


def drop_new(session: Connection, login: Database, name: str, roles: Sequence[str]) -> None:
    """Drop a new database, with whoever is connected, and the roles that were made for it; by another session where this one is lost."""
    with translated("drop the new database", f"{name} on {login.host}:{login.port}"):
        if not session.closed and not session.broken:
            _drop_by(session, login, name, roles)
            return
        with connect(login, application_name="nightshift restore") as another:
            _drop_by(another, login, name, roles)


def _drop_by(session: Connection, login: Database, name: str, roles: Sequence[str]) -> None:
    drop_database(session, login, name)
    if stay := remove_roles(session, roles):
        logger.warning(
            "roles made for %s stay on %s:%s, since something else may need them: %s",
            name,
            login.host,
            login.port,
            ", ".join(stay),
        )


def drop_or_tell(session: Connection, login: Database, name: str, roles: Sequence[str]) -> None:
    """While another error goes on its way: drop the database; where that cannot be done, say in the log what is left."""
    try:
        drop_new(session, login, name, roles)
    except (NightshiftError, psycopg.Error) as error:
        where = f"{login.host}:{login.port}"
        logger.warning("%s is left on %s (%s); remove it: DROP DATABASE %s WITH (FORCE);", name, where, error, name)
