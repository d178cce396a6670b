"""What a swap's preflight reads, all of it from shared catalogues on the maintenance database but the two databases' own properties. Nothing is changed or locked."""

from collections.abc import Sequence
from typing import LiteralString

from core.copy_seal import SealedCopy
from core.environment_database import Database
from core.manifest import DatabaseProperties
from core.property_differences import PropertyDifference, property_differences
from core.swap_plan import DatabaseFacts, ServerFacts, Session, SwapPlan, refusals, without_seal
from tasks.database_properties import read_properties, read_server
from tasks.postgres import Connection, connect, describe, translated

# Our own sessions on the two databases; a moment after they are closed the server may still list them.
PREFLIGHT = "nightshift swap preflight"

# A walsender without a database is a physical standby's, or a base backup's.
_SERVER: LiteralString = """
    SELECT pg_catalog.current_database(), r.rolname, r.rolsuper, r.rolcreatedb,
           EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'supabase_admin'),
           (SELECT count(*) FROM pg_catalog.pg_stat_replication AS s JOIN pg_catalog.pg_stat_activity AS a ON a.pid = s.pid WHERE a.datid IS NULL),
           ARRAY(SELECT datname::text FROM pg_catalog.pg_database)
    FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
"""
_DATABASE: LiteralString = """
    SELECT d.oid, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_has_role(d.datdba, 'USAGE'), d.datistemplate, d.datallowconn,
           pg_catalog.shobj_description(d.oid, 'pg_database'),
           ARRAY(SELECT p.gid FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = d.datname ORDER BY 1),
           ARRAY(SELECT s.slot_name::text FROM pg_catalog.pg_replication_slots AS s WHERE s.database = d.datname ORDER BY 1),
           ARRAY(SELECT s.subname::text FROM pg_catalog.pg_subscription AS s WHERE s.subdbid = d.oid ORDER BY 1)
    FROM pg_catalog.pg_database AS d WHERE d.datname = %s
"""
# Autovacuum's workers have no user; a rename ends them by itself (CountOtherDBBackends, procarray.c). Who may end a session: pg_signal_backend (signalfuncs.c).
_SESSIONS: LiteralString = """
    SELECT a.pid, d.datname, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
           me.rolsuper OR (NOT coalesce(r.rolsuper, false)
                           AND (pg_catalog.pg_has_role(a.usesysid, 'USAGE') OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')))
    FROM pg_catalog.pg_stat_activity AS a JOIN pg_catalog.pg_database AS d ON d.oid = a.datid
    JOIN pg_catalog.pg_roles AS me ON me.rolname = current_user LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.usesysid
    WHERE a.datid = ANY (%s) AND a.usesysid IS NOT NULL ORDER BY a.pid
"""


def read_server_facts(connection: Connection, login: Database) -> ServerFacts:
    """Given a session and its login, return the server and our role on it. Raise psycopg.Error."""
    server = read_server(connection, login)
    row = connection.execute(_SERVER).fetchone()
    assert row is not None  # noqa: S101 - for the type checker: a session's role is in pg_roles
    maintenance_database, role, superuser, createdb, supabase, standbys, names = row
    return ServerFacts(
        system_identifier=server.system_identifier,
        in_recovery=server.in_recovery,
        maintenance_database=maintenance_database,
        role=role,
        superuser=superuser,
        createdb=createdb,
        supabase=supabase,
        standbys=standbys,
        names=frozenset(names),
    )


def read_database_facts(connection: Connection, name: str) -> DatabaseFacts | str:
    """Given a session and a database's name, return what the shared catalogues tell of it, or the name where there is none. Raise psycopg.Error."""
    row = connection.execute(_DATABASE, (name,)).fetchone()
    if row is None:
        return name
    oid, owner, owned, is_template, allow_connections, comment, prepared, slots, subscriptions = row
    return DatabaseFacts(
        name=name,
        oid=oid,
        owner=owner,
        owned=owned,
        is_template=is_template,
        allow_connections=allow_connections,
        comment=comment,
        prepared=prepared,
        slots=slots,
        subscriptions=subscriptions,
    )


def read_sessions(connection: Connection, oids: Sequence[int]) -> tuple[Session, ...]:
    """Given a session on another database and databases' oids, return the sessions on these. Raise psycopg.Error."""
    return tuple(
        Session(pid=pid, database=database, user=user, application=application, state=state, terminable=terminable)
        for pid, database, user, application, state, terminable in connection.execute(
            _SESSIONS, (list(oids),)
        ).fetchall()
    )


def look(
    connection: Connection,
    login: Database,
    live: str,
    incoming: str,
    *,
    old_name: str,
    restore_id: str,
    recorded: DatabaseProperties | None,
    sealed: SealedCopy | None = None,
) -> SwapPlan:
    """Given a session on the maintenance database and its login, return the plan of a swap in which `live` becomes `old_name` and `incoming` becomes `live`.

    `sealed`: the incoming one was compared behind its seal; then nobody can ask it for its properties, which are in there.

    Raise TemporaryError or PermanentError when the server cannot be asked.
    """
    with translated("look at what would be swapped", f"{describe(login)} for {live} and {incoming}"):
        server = read_server_facts(connection, login)
        ours, theirs = read_database_facts(connection, live), read_database_facts(connection, incoming)
        if sealed is not None and not isinstance(theirs, str):
            theirs = without_seal(theirs, sealed.seal)
        found = refusals(server, ours, theirs, old_name, restore_id)
        oids = [0 if isinstance(facts, str) else facts.oid for facts in (ours, theirs)]
        sessions = read_sessions(connection, oids)
    return SwapPlan(
        live=live,
        live_oid=oids[0],
        copy_name=incoming,
        copy_oid=oids[1],
        old_name=old_name,
        restore_id=restore_id,
        system_identifier=server.system_identifier,
        refusals=found,
        differences=_read_differences(login, ours, theirs, recorded, sealed),
        sessions=sessions,
        notes=_notes(server, sessions),
        recorded=recorded,
        sealed=sealed,
    )


def _read_differences(
    login: Database,
    live: DatabaseFacts | str,
    incoming: DatabaseFacts | str,
    recorded: DatabaseProperties | None,
    sealed: SealedCopy | None,
) -> tuple[PropertyDifference, ...]:
    """Nothing where one of the two is not there or takes no connections: then the swap is refused anyway."""
    if (
        isinstance(live, str)
        or isinstance(incoming, str)
        or not (live.allow_connections and incoming.allow_connections)
    ):
        return ()
    theirs = _read_properties(login, incoming.name) if sealed is None else sealed.properties
    return property_differences(_read_properties(login, live.name), theirs, recorded)


def _read_properties(login: Database, name: str) -> DatabaseProperties:
    database = login.model_copy(update={"name": name})
    with (
        connect(database, application_name=PREFLIGHT) as connection,
        translated("read the database's properties", describe(database)),
    ):
        return read_properties(connection)


def _notes(server: ServerFacts, sessions: Sequence[Session]) -> tuple[str, ...]:
    notes = []
    if stuck := [str(session) for session in sessions if not session.terminable]:
        notes.append(f"the swap is given up unless these leave by themselves: {'; '.join(stuck)}")
    if ours := [str(session) for session in sessions if session.application.startswith("nightshift ")]:
        notes.append(f"nightshift's own work would be ended, perhaps a backup: {'; '.join(ours)}")
    if server.standbys:
        notes.append(
            f"{server.standbys} standby or base backup streams from the server: sessions on a standby are not drained and go on"
            " reading the old database until they connect anew"
        )
    return tuple(notes)
