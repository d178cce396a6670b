"""pg_restore's command line, and what its end means. Never a secret among the arguments: libpq takes those from its environment."""

import re

from core.pg_commands import KEEPALIVES

# What passes by itself: the server was away, or two jobs waited for each other. Any other failure is the same at the next attempt, an hour later.
_TEMPORARY = re.compile(
    r"server closed the connection|terminating connection|connection to server .* failed|could not (?:receive|send) data|Connection (?:refused|reset|timed out)"
    r"|the database system is (?:starting|shutting|in recovery|not (?:yet )?accepting)|no connection to the server|too many clients|connection slots|deadlock detected"
)
_PERMANENT = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|does not exist|certificate", re.IGNORECASE
)
# A pg_restore of 17 or newer says SET transaction_timeout to every server; those before 17 do not know it.
_UNKNOWN_TIMEOUT = re.compile(r'unrecognized configuration parameter "transaction_timeout"')
_WHOLE_STDERR = 15_000
_IGNORED = re.compile(r"errors ignored on restore: (\d+)")


def pg_restore_contents_command(program: str, archive: str = "") -> list[str]:
    """Return the command line that prints an archive's table of contents with dependencies: of a file or folder, or of a custom-format archive on stdin."""
    return [program, "--list", "--verbose", *((archive,) if archive else ("--format=custom",))]


def pg_restore_script_command(program: str, archive: str) -> list[str]:
    """Return the command line that prints the statements after an archive's data (indexes, constraints, triggers), each entry's after its number."""
    return [program, "--section=post-data", "--verbose", "--file=-", archive]


def pg_restore_command(
    program: str, *, list_file: str, archive: str = "", jobs: int = 1, client_major: int, server_major: int
) -> list[str]:
    """Given a list file, return the command line that restores its entries: from a file or folder with so many jobs, or from stdin with one.

    It ends at the first error, but where a newer client makes one at each server before 17; see `harmless`.
    """
    return [
        program,
        *(("--exit-on-error",) if not _says_unknown(client_major, server_major) else ()),
        "--no-tablespaces",
        "--no-password",
        f"--use-list={list_file}",
        f"--dbname={KEEPALIVES}",
        *((f"--jobs={jobs}", archive) if archive else ("--format=custom",)),
    ]


def harmless(exit_code: int, stderr: str, *, client_major: int, server_major: int) -> bool:
    """Given how pg_restore ended, tell whether all is restored: no error, or only that a server before 17 does not know transaction_timeout."""
    if exit_code == 0:
        return True
    # Workers' errors are not all in the count that it gives at its end; of a longer stderr only the end was kept.
    harmless_errors = len(_UNKNOWN_TIMEOUT.findall(stderr))
    ignored = _IGNORED.search(stderr)
    return (
        exit_code == 1
        and _says_unknown(client_major, server_major)
        and ignored is not None
        and int(ignored[1]) <= harmless_errors == stderr.count("pg_restore: error:")
        and len(stderr) < _WHOLE_STDERR
    )


def may_pass(failure: str) -> bool:
    """Given pg_restore's failure with its stderr, tell whether the same restore could succeed later."""
    return bool(_TEMPORARY.search(failure)) and not _PERMANENT.search(failure)


def _says_unknown(client_major: int, server_major: int) -> bool:
    return client_major >= 17 > server_major
