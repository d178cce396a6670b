"""Which database a backup is of, and whether that is the one that the environment's file leads to: a wrong name there leads to another, and all else goes well."""

from collections.abc import Collection, Iterable
from typing import Literal

from core.checks import Check
from core.manifest import Manifest, Record, Server
from core.property_differences import PropertyDifference

# What stands for a system identifier that the role may not ask for.
_UNKNOWN = "unknown"


class SourceDifference(Record):
    """In what the database that was backed up and the one that is there now are not one: the name, or the server by its system identifier."""

    what: Literal["name", "server"]
    recorded: str
    now: str


def source_text(server: Server) -> str:
    """Given the server's record of a backup, return of what it is, for a sentence: `database app on db-1:5432`."""
    return f"database {server.database_name} on {server.host}:{server.port}"


def source_differences(recorded: Server, now: Server) -> tuple[SourceDifference, ...]:
    """Given what a backup recorded of its server and what the server says now, return what differs.

    Not the oid, which a swap changes, nor the address, which a failover changes. A new server is legitimate after pg_upgrade or a move; a standby has its primary's
    identifier. Where an identifier is unknown nothing is said of it.
    """
    pairs: tuple[tuple[Literal["name", "server"], str, str], ...] = (
        ("name", recorded.database_name, now.database_name),
        ("server", recorded.system_identifier, now.system_identifier),
    )
    return tuple(
        SourceDifference(what=what, recorded=before, now=after)
        for what, before, after in pairs
        if before != after and not (what == "server" and _UNKNOWN in {before, after})
    )


def check_source(key: str, manifests: Iterable[Manifest], now: Server) -> Check:
    """Given a database's key, those of its backups that can be relied on and its server now, return whether it is the database that they are of; else a warning.

    The newest counts for the name and the server. An older one (the newest proven) counts for the name: one night of a wrong name does not end the warning.
    """
    name = f"{key}: source"
    known = sorted(manifests, key=lambda manifest: manifest.snapshot_time, reverse=True)
    if not known:
        return Check(name=name, state="passed", found="no backup yet that it could be compared with")
    for manifest in known:
        if any(difference.what == "name" for difference in source_differences(manifest.server, now)):
            whose = (
                f"the backups of {key} so far are" if manifest is known[0] else f"the backup {manifest.backup_id} is"
            )
            return Check(
                name=name,
                state="warning",
                found=f"{whose} of the {source_text(manifest.server)}; {key} now is the {source_text(now)}",
                next_step=f"If that is a mistake, correct name in [databases.{key}]: {manifest.backup_id} would bring back the other database",
            )
    for difference in source_differences(known[0].server, now):
        was, found = source_text(known[0].server), f"system {difference.now}, was {difference.recorded}"
        return Check(
            name=name,
            state="warning",
            found=f"the backups of {key} so far are of the {was}; {key} now is on another server, {now.host}:{now.port} ({found})",
            next_step=f"Right after a move or pg_upgrade, until the next backup; if it is a mistake, correct host and port in [databases.{key}]",
        )
    return Check(name=name, state="passed", found=f"its backups are of the {source_text(known[0].server)}, as this one")


def source_topic(database_name: str) -> str:
    """Given the name of the database that a backup is of, return the topic by which a swap of it for a database of another name is accepted."""
    return f"backup of the database {database_name}"


def name_difference(source: Server, live: str) -> tuple[PropertyDifference, ...]:
    """Given the server's record of a backup and the live database's name, return what stops a swap: nothing when the backup is of a database of that name."""
    if source.database_name == live:
        return ()
    return (
        PropertyDifference(
            topic=source_topic(source.database_name),
            live=f"the name {live}",
            copied=f"the name {source.database_name}",
            stops=True,
            origin=f"the backup is of the {source_text(source)}",
        ),
    )


def swap_refusals(source: Server, live: str, accepted: Collection[str]) -> tuple[str, ...]:
    """Given the server's record of a backup, the live database's name and the topics that were accepted, return why no copy of it may replace that database."""
    return tuple(
        f"{difference}: correct name in the environment file; or, if {live} is that database under a new name, say so: backup_of (--backup-of {source.database_name})"
        for difference in name_difference(source, live)
        if difference.topic not in accepted
    )
