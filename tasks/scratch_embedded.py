"""A scratch server of the worker's own: a cluster made by initdb for one drill, on a private Unix socket without TCP, behind the guard; removed with the drill."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.environment import Environment
from core.environment_database import Database
from core.errors import NightshiftError, PermanentError
from core.manifest import Manifest
from core.scratch_settings import base_settings, bootstrap_superuser, checksum_option, tuned_settings
from tasks.postgres import connect, open_connection, translated
from tasks.postgres_binaries import ServerPrograms, find_server, reachable_programs, wheel_libraries
from tasks.scratch_folder import ScratchFolder, scratch_folder
from tasks.scratch_isolation import GuardedProgram, Isolation, Plan
from tasks.scratch_record import Scratch
from tasks.server_account import give, server_account

NAME = "the embedded scratch server"
# Its socket's folder is its own, so that no other server's port is ever met.
PORT = 5432
_INITDB_SECONDS = 180.0
_START_SECONDS = 120.0
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@contextmanager
def embedded_scratch(
    environment: Environment, manifest: Manifest, *, run_id: str, work_parent: Path | None
) -> Iterator[Scratch]:
    """Given the backup that a drill is going to restore, yield a server of its major (or the next newer one here). It is stopped and removed in any case.

    Raise PermanentError when there is no such PostgreSQL, when it does not start, or when it cannot be kept in and `drill.require_isolation` asks for it.
    """
    programs = find_server(manifest.server.version_number // 10000)
    superuser = bootstrap_superuser(
        tuple(role.name for role in manifest.roles if role.superuser), manifest.properties.owner
    )
    with scratch_folder(work_parent, environment.name, run_id) as folder:
        plan, binaries = _prepare(folder, programs)
        options = checksum_option(manifest.server.settings, programs.major)
        isolation = _make_cluster(plan, binaries, folder, superuser, options)
        if environment.drill.require_isolation and isolation.lacks:
            raise PermanentError(
                "keep a dump's code in",
                NAME,
                f"drill.require_isolation is set, and {'; '.join(isolation.lacks)}",
                "Run the worker where it may make namespaces (as root, or with user namespaces allowed), or drill in a Pod (drill.scratch)",
            )
        settings = base_settings(manifest.server.settings)
        if environment.drill.tuned:
            settings |= tuned_settings(memory_bytes(), shutil.disk_usage(folder.path).free)
        login = Database(host=str(folder.socket), port=PORT, name="postgres", user=superuser, sslmode="disable")
        with _running(plan, binaries, folder, settings, login):
            yield Scratch(
                kind="embedded",
                name=NAME,
                login=login,
                settings=settings,
                indicative=environment.drill.tuned,
                isolation=("no TCP: it listens on a private Unix socket only", *isolation.sentences),
                notes=(*isolation.notes, *_notes(programs, manifest, login)),
            )


def memory_bytes() -> int:
    """How much memory this process may use: the machine's, or its control group's limit where that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUP_LIMITS:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):
            continue  # no such controller here, or "max"
    return min(limits)


def _prepare(folder: ScratchFolder, programs: ServerPrograms) -> tuple[Plan, Path]:
    """Give the server's OS user what is its own, and return the plan for the guard and the bin folder that this user can run."""
    account = server_account()
    for path in (folder.server, folder.socket):
        give(path, account)
    binaries = reachable_programs(programs.folder, account, folder.server / "programs")
    show = (binaries.parent, wheel_libraries(binaries))
    plan = Plan(
        own=(folder.server,) if folder.socket.is_relative_to(folder.server) else (folder.server, folder.socket),
        root=folder.root,
        show=tuple(path for path in show if path is not None and not path.is_relative_to(folder.server)),
        account=account,
        # The immediate shutdown ends every backend at once (PostgreSQL manual, "Shutting Down the Server"); the data is thrown away.
        stop_signal=signal.SIGQUIT,
    )
    return plan, binaries


def _make_cluster(
    plan: Plan, binaries: Path, folder: ScratchFolder, superuser: str, options: tuple[str, ...]
) -> Isolation:
    command = [
        str(binaries / "initdb"),
        f"--pgdata={folder.server / 'data'}",
        f"--username={superuser}",
        # Who reaches the socket is let in: its folder is closed to every other OS user.
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        *options,
    ]
    with GuardedProgram(command, plan) as initdb:
        initdb.run_to_end(_INITDB_SECONDS)
        return initdb.isolation


@contextmanager
def _running(
    plan: Plan, binaries: Path, folder: ScratchFolder, settings: dict[str, str], login: Database
) -> Iterator[None]:
    given = {**settings, "listen_addresses": "", "port": str(PORT), "unix_socket_directories": str(folder.socket)}
    command = [
        str(binaries / "postgres"),
        "-D",
        str(folder.server / "data"),
        *(f"--{key}={value}" for key, value in given.items()),
    ]
    with GuardedProgram(command, plan) as server:
        _wait_until_it_answers(server, login)
        yield


def _wait_until_it_answers(server: GuardedProgram, login: Database) -> None:
    def waiting() -> bool:
        if not server.child.running:
            raise PermanentError("start PostgreSQL", NAME, server.found, "See what it said")
        return not _answers(login)

    try:
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(_START_SECONDS), wait=wait_fixed(0.05))(waiting)
    except RetryError as error:
        found = f"it did not answer within {_START_SECONDS:.0f} s: {server.found}"
        raise PermanentError("start PostgreSQL", NAME, found, "See what it said") from error


def _answers(login: Database) -> bool:
    try:
        open_connection(login, application_name="nightshift drill").close()
    except NightshiftError:
        return False
    return True


def _notes(programs: ServerPrograms, manifest: Manifest, login: Database) -> Iterator[str]:
    source_major = manifest.server.version_number // 10000
    if programs.major != source_major:
        yield f"restored on PostgreSQL {programs.version}, since no server of major {source_major} is installed on the worker"
    with connect(login, application_name="nightshift drill") as connection, translated("ask for amcheck", NAME):
        if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'amcheck'").fetchone() is None:
            yield f"amcheck is not available: PostgreSQL {programs.version} in {programs.folder} has no contrib modules"
