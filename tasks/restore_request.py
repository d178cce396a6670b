"""What a person asked of a restore, completed and checked before anything is touched."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from core.backup_source import source_topic
from core.environment import Environment
from core.errors import ConfigurationError
from core.manifest import Record
from core.swap_plan import restored_name
from tasks.masking import check_masking, read_masking


class RestoreRequest(Record):
    """What a person asked for, completed: which copy of which backup becomes which database where."""

    environment: str
    database: str
    server: str
    target: str
    restore_id: str
    flow_run_id: str
    jobs: int
    tables: tuple[str, ...] = ()
    masking: str = ""
    allow_missing_extensions: bool = False
    backup_of: str = ""

    @property
    def accepted(self) -> tuple[str, ...]:
        """The topics of differences that a swap may have: that the backup is of the database of this other name."""
        return (source_topic(self.backup_of),) if self.backup_of else ()


def complete_request(
    environment: Environment, database: str, *, server: str, target: str, flow_run_id: str, jobs: int, **more: Any
) -> RestoreRequest:
    """Given a form's fields, return the request. Raise ConfigurationError for a database, server or masking file that does not exist."""
    if database not in environment.databases:
        known = ", ".join(environment.databases)
        raise ConfigurationError("restore", f"{environment.name}/{database}", "no such database", f"It has {known}")
    if not environment.servers:
        raise ConfigurationError(
            "restore",
            environment.name,
            "no server to restore to is configured",
            "Add a table [servers.NAME]; docs/restore.md",
        )
    if not server and len(environment.servers) > 1:
        raise ConfigurationError(
            "choose a server", environment.name, "there are several", ", ".join(environment.servers)
        )
    name = server or next(iter(environment.servers))
    if name not in environment.servers:
        raise ConfigurationError(
            "choose a server", name, "no such server", f"There are {', '.join(environment.servers)}"
        )
    masking = more.get("masking", "")
    if masking and not Path(masking).is_file():
        raise ConfigurationError(
            "mask the copy", masking, "the worker has no such file", "Give a path that the worker can read"
        )
    if masking:
        # Now rather than after hours of restoring.
        check_masking(read_masking(Path(masking)), masking)
    # Of all of the run's id: the beginning alone is a time in ids of version 7, and two runs of a minute would share it.
    restore_id = hashlib.sha256(flow_run_id.encode()).hexdigest()[:8]
    return RestoreRequest(
        environment=environment.name,
        database=database,
        server=name,
        target=target or restored_name(environment.databases[database].name, restore_id),
        restore_id=restore_id,
        flow_run_id=flow_run_id,
        jobs=jobs or environment.restore.jobs,
        **more,
    )
