"""Command lines of PostgreSQL's client programs, and what their stderr means. Never a secret among the arguments: libpq takes those from its environment."""

import re
from collections.abc import Iterable
from typing import Literal

# A peer that vanished without a word (failover, a NAT table lost) is noticed after a minute instead of the kernel's two hours. libpq has no variables
# for these; a connection string without dbname leaves host, user and database to its environment.
KEEPALIVES = "keepalives=1 keepalives_idle=30 keepalives_interval=10 keepalives_count=3"

# What pg_dump and the server say when the same command fails again (English: children run with LC_ALL=C, servers mostly so). All else may pass.
_PERMANENT = re.compile(
    r"permission denied|authentication failed|no password supplied|does not exist|must be (superuser|owner)|no pg_hba\.conf entry"
    r"|row-level security|server version mismatch|No space left on device|invalid (option|value)|unrecognized (option|parameter)|could not be found"
    r"|not executable|error while loading shared libraries|certificate verify failed",
    re.IGNORECASE,
)
# An exported snapshot ends with the session that holds it: the whole step succeeds later, with a new one.
_TEMPORARY = re.compile(r"snapshot .* does not exist|invalid snapshot identifier|terminating connection|lock timeout")


def exact_pattern(name: str) -> str:
    """Given a schema's name, return the pg_dump pattern that matches it alone (manual, psql "Patterns": quoted, so no letter is special)."""
    return '"' + name.replace('"', '""') + '"'


def pg_dump_command(
    program: str,
    *,
    snapshot: str,
    archive_format: Literal["custom", "directory"] = "custom",
    directory: str = "",
    jobs: int = 1,
    exclude_schemas: Iterable[str] = (),
    lock_timeout_seconds: int = 60,
) -> list[str]:
    """Given what to dump, return pg_dump's command line: uncompressed, to stdout (custom) or into a folder (directory), from an exported snapshot."""
    command = [
        program,
        f"--format={archive_format}",
        "--compress=0",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={lock_timeout_seconds * 1000}",
        "--no-password",
        f"--dbname={KEEPALIVES}",
        *(f"--exclude-schema={exact_pattern(name)}" for name in exclude_schemas),
    ]
    if archive_format == "directory":
        # The files are gone from the folder, uploaded, by the time pg_dump would sync them.
        command += [f"--jobs={jobs}", f"--file={directory}", "--no-sync"]
    return command


def pg_dumpall_globals_command(
    program: str, *, database: str, role_passwords: bool = False, lock_timeout_seconds: int = 60
) -> list[str]:
    """Given the database to connect to, return the command line that writes roles and tablespaces as SQL."""
    return [
        program,
        "--globals-only",
        *(() if role_passwords else ("--no-role-passwords",)),
        f"--lock-wait-timeout={lock_timeout_seconds * 1000}",
        "--no-password",
        f"--dbname={KEEPALIVES}",
        f"--database={_plain_database(database)}",
    ]


def _plain_database(name: str) -> str:
    """A database's name as an option that is also read as a connection string (PQconnectdbParams, expand_dbname): what looks like one is put into one."""
    if "=" not in name and not name.startswith(("postgresql://", "postgres://")):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def pg_restore_list_command(program: str, archive: str = "") -> list[str]:
    """Return the command line that prints an archive's table of contents: of a folder, or of a custom-format archive on stdin, of which it reads the head."""
    return [program, "--list", *((archive,) if archive else ("--format=custom",))]


def pg_restore_decode_command(program: str, archive: str = "") -> list[str]:
    """Return the command line that decodes an archive (a folder, or stdin) to its end and prints all of its data as SQL."""
    return [program, "--section=data", "--file=-", *((archive,) if archive else ("--format=custom",))]


def may_succeed_later(failure: str) -> bool:
    """Given how a client program failed (with its stderr), tell whether the same step could succeed later. Unknown failures could."""
    return bool(_TEMPORARY.search(failure)) or not _PERMANENT.search(failure)
