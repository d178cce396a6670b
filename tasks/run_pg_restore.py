"""pg_restore at work: from a dump on the disk, with several jobs, or from a stream; and the statistics that a dump does not hold."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.environment_database import Database
from core.errors import IntegrityError, PermanentError, TemporaryError
from core.manifest import StoredPart
from core.restore_command import harmless, may_pass, pg_restore_command, pg_restore_script_command
from core.restore_listing import Choice
from core.restore_passes import in_passes, postponed_indexes
from tasks.archive_contents import list_archive
from tasks.children import PIPE, Child
from tasks.clients import Clients
from tasks.head_listing import list_folder
from tasks.postgres import describe, libpq_environment, translated
from tasks.restored_session import connect_to_copy
from tasks.row_counter import ENVIRONMENT
from tasks.stored_stream import Source, read_part


@dataclass(frozen=True)
class Restoring:
    """What pg_restore works with: which one, into which database, of which major, and where its list file is written."""

    clients: Clients
    login: Database
    server_major: int
    list_file: Path
    application_name: str


def restore_fetched(restoring: Restoring, source: Source, path: Path, choice: Choice, jobs: int) -> None:
    """Given a dump on disk and what of it is wanted, restore that with so many jobs. Raise PermanentError or TemporaryError with pg_restore's own words."""
    for list_text in _passes(restoring, source, path, choice) if jobs > 1 else (choice.list_text,):
        restoring.list_file.write_text(list_text)
        with _pg_restore(restoring, str(path), jobs) as child:
            child.wait()
            _judge(child, restoring)


def _passes(restoring: Restoring, source: Source, path: Path, choice: Choice) -> tuple[str, ...]:
    """What each pass restores, so that no two jobs wait for each other."""
    program = str(restoring.clients.pg_restore)
    script = list_folder(
        pg_restore_script_command(program, str(path)), ENVIRONMENT, on=source.where, error=IntegrityError
    )
    postponed = postponed_indexes(script)
    return (
        in_passes(list_archive(source, path, restoring.clients), choice, postponed)
        if postponed
        else (choice.list_text,)
    )


def restore_streamed(restoring: Restoring, source: Source, part: StoredPart, choice: Choice) -> None:
    """Given a custom-format dump in S3 and what of it is wanted, restore that with one job. Raise as `restore_fetched`, and IntegrityError when a checksum differs.

    That is known only at the end, with all restored: then the database is not to be used.
    """
    gave_up = False
    restoring.list_file.write_text(choice.list_text)

    def write(block: memoryview) -> None:
        nonlocal gave_up
        try:
            while block:
                block = block[os.write(child.stdin.fileno(), block) :]
        except BrokenPipeError:
            # It failed, or it needs no more: the rest is read for its checksums, which say more than its last words.
            gave_up = True

    with _pg_restore(restoring) as child:
        read_part(source, part, write, lambda: not gave_up)
        child.stdin.close()
        child.wait()
        _judge(child, restoring)


def analyze(login: Database) -> None:
    """Collect the planner's statistics of a database, which a dump does not hold. Raise TemporaryError or PermanentError."""
    with (
        closing(connect_to_copy(login, application_name="nightshift analyze")) as session,
        translated("analyze the new database", describe(login)),
    ):
        session.execute("ANALYZE")


def _pg_restore(restoring: Restoring, archive: str = "", jobs: int = 1) -> Child:
    command = pg_restore_command(
        str(restoring.clients.pg_restore),
        list_file=str(restoring.list_file),
        archive=archive,
        jobs=jobs,
        client_major=restoring.clients.major,
        server_major=restoring.server_major,
    )
    environment = libpq_environment(restoring.login, application_name=restoring.application_name)
    if not archive:
        return Child(command, environment=environment, stdin=PIPE)
    return Child(command, environment=environment, workers=jobs > 1)


def _judge(child: Child, restoring: Restoring) -> None:
    failure = child.failure()
    majors = {"client_major": restoring.clients.major, "server_major": restoring.server_major}
    # It has ended: this does not wait.
    if failure is None or harmless(child.wait(), child.stderr_tail, **majors):
        return
    if child.was_stopped:
        raise PermanentError("restore the dump", describe(restoring.login), failure, "The run was cancelled")
    kind = TemporaryError if may_pass(failure) else PermanentError
    raise kind("restore the dump", describe(restoring.login), failure)
