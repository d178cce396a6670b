"""The database of this machine's Prefect server (SQLite): copied before anything changes it, and brought to the form that the installed Prefect wants.

`python -m deployments.local.prefect_database` makes a copy now, beside a server that runs, and prints its path.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from core.errors import PermanentError
from deployments.local.data_folder import platform_folder
from deployments.local.running import SERVER
from deployments.local.server_folder import ServerFolder
from deployments.local.service import last_lines

_KEPT = 14
_UPGRADE_SECONDS = 3600


def back_up(folder: ServerFolder) -> Path | None:
    """Copy the database as it is at one moment, also while the server writes to it, and return the copy's path; None when there is no database yet.

    The newest 14 copies are kept. Raise PermanentError when the copy is not whole.
    """
    if not folder.database.exists():
        return None
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
    copy, unfinished = folder.backups / f"prefect-{version('prefect')}-{at}.db", folder.backups / "unfinished"
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(folder.database)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
            found = target.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise PermanentError(
            "copy Prefect's database", str(folder.database), str(error), "Look at the disk; take an older copy"
        ) from error
    if found != "ok":
        raise PermanentError(
            "copy Prefect's database", str(folder.database), str(found), "Take an older copy (docs/operating.md)"
        )
    unfinished.replace(copy)
    # By when they were made, which stands in the name, after the version.
    for old in sorted(folder.backups.glob("prefect-*.db"), key=lambda one: one.name[-len(f"{at}.db") :])[:-_KEPT]:
        old.unlink()
    return copy


def upgrade(environment: Mapping[str, str], log: Path) -> None:
    """Run `prefect server database upgrade`. Raise PermanentError with the end of what it said when it fails: nothing is started on a half-upgraded database."""
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    done = subprocess.run(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_UPGRADE_SECONDS,
    )
    with log.open("a") as file:
        file.write(done.stdout + done.stderr)
    if done.returncode != 0:
        raise PermanentError(
            "upgrade Prefect's database",
            str(log),
            last_lines(done.stdout + done.stderr),
            "Go back to the copy (docs/operating.md, Upgrade)",
        )


if __name__ == "__main__":
    print(back_up(ServerFolder(platform_folder(SERVER))) or "there is no database yet")  # noqa: T201
