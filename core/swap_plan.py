"""Swapping a restored copy with the live database by renaming both: what the names are, what forbids it, and what is recorded while it goes on.

Every fact about the server is an argument; tasks.swap_facts reads them. Rules come from PostgreSQL's source: RenameDatabase and AlterDatabase
(src/backend/commands/dbcommands.c) want the owner's rights, for the rename CREATEDB too, and no session or prepared transaction in the database.
"""

from collections.abc import Collection, Iterator

from pydantic import AwareDatetime, ValidationError

from core.canonical import canonical_bytes
from core.copy_seal import Seal, SealedCopy, read_seal
from core.manifest import DatabaseProperties, Record
from core.property_differences import PropertyDifference

# NAMEDATALEN - 1, in bytes of the name as the server stores it (UTF-8).
NAME_BYTES = 63
# The environment's file may be edited while a run waits: the live database's name is part of what was asked.
LIVE_NAME = "the live database's name"
_TEMPLATES = frozenset({"template0", "template1"})
# Databases that a managed platform's own services live in.
_PLATFORM = {
    "rdsadmin": "Amazon RDS",
    "cloudsqladmin": "Google Cloud SQL",
    "alloydbadmin": "Google AlloyDB",
    "azure_maintenance": "Azure",
    "azure_sys": "Azure",
    "_supabase": "Supabase",
}


class Session(Record):
    """A session on one of the two databases. `user`, `application` and `state` are empty where the server does not tell them; `terminable`: whether our role may
    end it."""

    pid: int
    database: str
    user: str
    application: str
    state: str
    terminable: bool

    def __str__(self) -> str:
        return (
            f"pid {self.pid} (user {self.user or 'unknown'}, application {self.application or 'unnamed'},"
            f" {self.state or 'state unknown'}{'' if self.terminable else ', which our role may not end'})"
        )


class ServerFacts(Record):
    """The server and our role on it. `superuser` and `createdb` are the role's own; `standbys`: physical ones that stream from it now."""

    system_identifier: str
    in_recovery: bool
    maintenance_database: str
    role: str
    superuser: bool
    createdb: bool
    supabase: bool
    standbys: int
    names: frozenset[str]


class DatabaseFacts(Record):
    """One database as the shared catalogues tell of it. `owned`: our role has its owner's rights."""

    name: str
    oid: int
    owner: str
    owned: bool
    is_template: bool
    allow_connections: bool
    comment: str | None
    prepared: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()


class Marker(Record):
    """What stands in the live database's comment from the moment it refuses connections until it is open again: the way back after a killed process.

    It is written in the transaction that refuses connections and taken away in the one that renames. So whoever finds it knows that nothing was renamed.
    """

    nightshift: str = "swap"
    restore_id: str
    live: str
    live_oid: int
    copied: str
    copied_oid: int
    comment: str | None
    begun: AwareDatetime
    way_back: str


class SwapPlan(Record):
    """What a swap would do. `live` becomes `old_name` and `copy_name` becomes `live`. Refusals forbid it; of the differences, those that stop it must be accepted by
    topic; sessions are those that would be drained now; notes are for the approver. `recorded` is what the backup says, for looking again before the swap;
    `sealed`: the copy was compared and is closed since. `source`: of what database the backup is, where the incoming one was made of one.
    """

    live: str
    live_oid: int
    copy_name: str
    copy_oid: int
    old_name: str
    restore_id: str
    system_identifier: str
    refusals: tuple[str, ...]
    differences: tuple[PropertyDifference, ...] = ()
    sessions: tuple[Session, ...] = ()
    notes: tuple[str, ...] = ()
    recorded: DatabaseProperties | None = None
    sealed: SealedCopy | None = None
    source: str = ""

    @property
    def identities(self) -> dict[str, str]:
        """Which databases it is about, whatever they are called, and what the live one is called: what an approval holds for."""
        return {
            "the live database": f"{self.system_identifier}/{self.live_oid}",
            "the one that takes its place": f"{self.system_identifier}/{self.copy_oid}",
            LIVE_NAME: self.live,
        }

    def unaccepted(self, accepted: Collection[str] = ()) -> tuple[PropertyDifference, ...]:
        """Given the topics that were accepted, return the differences that still stop the swap."""
        return tuple(
            difference for difference in self.differences if difference.stops and difference.topic not in accepted
        )


class SwapOutcome(Record):
    """A swap that was done. `outage_ms` is the time between refusing connections and the new database's being open, without `drain_ms`, the wait for sessions to go
    (both are milliseconds). `sessions` were there when connections were refused; `terminated` of them (and of the copy's) had to be ended.
    """

    live: str
    live_oid: int
    old_name: str
    old_oid: int
    outage_ms: int
    drain_ms: int
    sessions: tuple[Session, ...] = ()
    terminated: tuple[Session, ...] = ()
    notes: tuple[str, ...] = ()


class SwapRecovery(Record):
    """What was found after a swap that may have been killed, and done about it. `reopened`: the live database refused connections and takes them again."""

    live: str
    reopened: bool
    found: str


def _suffixed(name: str, suffix: str) -> str:
    """The name with the suffix, the name cut at a character so that both fit into 63 bytes of UTF-8."""
    room = NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def before_name(live: str, restore_id: str) -> str:
    """Given the live database's name and the restore's id, return what it is called after the swap: `app_before_1f2e3d4c`, cut to PostgreSQL's 63 bytes."""
    return _suffixed(live, f"_before_{restore_id}")


def restored_name(live: str, restore_id: str) -> str:
    """Given the live database's name and the restore's id, return what a copy is called for which no name was asked: `app_restored_1f2e3d4c`."""
    return _suffixed(live[:40], f"_restored_{restore_id}")


def undone_name(live: str, restore_id: str) -> str:
    """Given the live database's name and the restore's id, return what the restored copy is called after the swap was undone: `app_undone_1f2e3d4c`."""
    return _suffixed(live, f"_undone_{restore_id}")


def marker_text(marker: Marker) -> str:
    """Given a marker, return the comment that holds it."""
    return canonical_bytes(marker.model_dump(mode="json")).decode()


def read_marker(comment: str | None, oid: int) -> Marker | None:
    """Given a database's comment and its oid, return the marker in it; None when there is none, or when it is another database's (a comment that went through a dump)."""
    if comment is None or not comment.startswith("{"):
        return None
    try:
        marker = Marker.model_validate_json(comment)
    except ValidationError:
        return None
    return marker if marker.nightshift == "swap" and marker.live_oid == oid else None


def without_seal(database: DatabaseFacts, seal: Seal) -> DatabaseFacts:
    """Given a copy's facts and the seal behind which it was compared, return them as they are without it; unchanged where it is not on the copy."""
    if database.allow_connections or read_seal(database.comment, database.oid) != seal:
        return database
    return database.model_copy(update={"allow_connections": True, "comment": seal.comment})


def refusals(
    server: ServerFacts, live: DatabaseFacts | str, incoming: DatabaseFacts | str, old_name: str, restore_id: str
) -> tuple[str, ...]:
    """Given the facts (a name where there is no such database), what the live one will be called and the restore's id, return why the swap must not be done, a sentence
    each; none when it may."""
    return tuple(_refusals(server, live, incoming, old_name, restore_id))


def live_refusals(server: ServerFacts, live: DatabaseFacts | str, restore_id: str) -> tuple[str, ...]:
    """As `refusals`, of the live database alone: what would forbid a swap before there is a copy."""
    return tuple(_server_refusals(server, before_name(_name(live), restore_id), (live,)))


def copy_refusals(*, masked: bool, partial: bool) -> tuple[str, ...]:
    """Given what was done to the copy, return why it must never become the live database."""
    reasons = []
    if masked:
        reasons.append("the copy is masked: its data was changed on purpose")
    if partial:
        reasons.append("the copy is partial: only chosen tables were restored")
    return tuple(reasons)


def _name(database: DatabaseFacts | str) -> str:
    return database if isinstance(database, str) else database.name


def _refusals(
    server: ServerFacts, live: DatabaseFacts | str, incoming: DatabaseFacts | str, old_name: str, restore_id: str
) -> Iterator[str]:
    if not (len(restore_id) == 8 and set(restore_id) <= set("0123456789abcdef")):
        yield f"{restore_id} is not a restore's id (8 hexadecimal characters)"
    if _name(live) == _name(incoming):
        yield f"{_name(live)} cannot be swapped with itself"
    yield from _server_refusals(server, old_name, (live, incoming))


def _server_refusals(server: ServerFacts, old_name: str, databases: Collection[DatabaseFacts | str]) -> Iterator[str]:
    if server.in_recovery:
        yield "the server is a standby: nothing can be renamed there"
    if not (server.superuser or server.createdb):
        yield f"the role {server.role} has no CREATEDB, which a rename needs: ALTER ROLE … CREATEDB"
    if old_name in server.names:
        yield f"the name {old_name} is taken: drop or rename that database"
    for database in databases:
        yield from _managed(server, _name(database))
        if isinstance(database, str):
            yield f"there is no database {database} on this server"
        else:
            yield from _database_refusals(server, database)


def _managed(server: ServerFacts, name: str) -> Iterator[str]:
    if name == "postgres" and server.supabase:
        yield (
            "postgres is managed by Supabase: its services (auth, storage, realtime, the API, the dashboard) connect to that name with superuser sessions that nobody"
            " else may end, so it cannot be renamed. Restore chosen tables into it, or point the application at the copy"
        )
    elif name == "postgres" or name in _TEMPLATES:
        yield f"{name} is one of the server's own databases, which programs expect under that name"
    elif name in _PLATFORM:
        yield f"{name} belongs to the platform ({_PLATFORM[name]})"
    if name == server.maintenance_database:
        yield f"{name} is the maintenance database that the session is on, and a session cannot rename its own database"


def _database_refusals(server: ServerFacts, database: DatabaseFacts) -> Iterator[str]:
    name = database.name
    if database.is_template and name not in _TEMPLATES:
        yield f"{name} is marked as a template"
    if not (server.superuser or database.owned):
        yield f"the role {server.role} may not rename {name}: it belongs to {database.owner}, of which {server.role} is no member"
    if marker := read_marker(database.comment, database.oid):
        yield (
            f"a swap of {name} with {marker.copied}, begun {marker.begun:%Y-%m-%d %H:%M:%S} UTC, was not finished and {name} refuses connections:"
            f" Retry of the run that was killed, a restore with the swap, or undo-swap opens it; or, in psql on another database: {marker.way_back}"
        )
    elif not database.allow_connections and (seal := read_seal(database.comment, database.oid)):
        yield f"{name} is closed while the restore {seal.restore_id} compares it for a swap; if that was killed, its Retry opens it, or: {seal.way_back}"
    elif not database.allow_connections:
        yield f"{name} takes no connections: ALTER DATABASE … ALLOW_CONNECTIONS true, if it should"
    if database.prepared:
        yield f"{name} has prepared transactions: {', '.join(database.prepared)}; COMMIT PREPARED or ROLLBACK PREPARED them"
    if database.slots:
        yield (
            f"{name} has logical replication slots: {', '.join(database.slots)}; they would go on decoding the old database:"
            " drop them, and make them anew after the swap"
        )
    if database.subscriptions:
        yield (
            f"{name} has subscriptions: {', '.join(database.subscriptions)}; they would go on in the database under its new name: drop or move them"
        )
