"""Where the one-machine platform keeps what it needs: one folder a kind (`demo`, `trial`), for one platform at a time.

    .nightshift/KIND/platform.json   where the running platform answers and how to sign in (0600; removed when it stops)
    .nightshift/KIND/logs/           one log file a server; kept after the platform has stopped
    .nightshift/KIND/prefect/        PREFECT_HOME of the platform; the user's own ~/.prefect is left alone
    .nightshift/KIND/store/          temporary files of the S3 stand-in
    .nightshift/KIND/scratch         says where its other folder is, in /var/tmp: short names, which another OS user can reach when we are root
        postgres/                    PostgreSQL's data and socket
        temporary/                   TMPDIR of flow runs; Prefect's own /tmp/runner_storage would be the first user's who ran one here

All of it is closed to other users, but for PostgreSQL's, and is removed when the platform stops.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from core.errors import ConfigurationError
from deployments.local.held_lock import HeldError, take_lock

CHECKOUT = Path(__file__).resolve().parents[2]
SCRATCH_PREFIX = "nightshift-"
DATA_VARIABLE = "NIGHTSHIFT_DATA"


def data_root() -> Path:
    """The folder of everything that the platform writes: NIGHTSHIFT_DATA, else `.nightshift` of this checkout."""
    chosen = os.environ.get(DATA_VARIABLE, "")
    return Path(chosen).expanduser().resolve() if chosen else CHECKOUT / ".nightshift"


def platform_folder(kind: str) -> Path:
    """The folder of one kind of platform."""
    return data_root() / kind


def _scratch_parent() -> Path:
    # Outside the checkout, since PostgreSQL runs as another OS user when we are root, and a checkout under /root is closed to it. Short as well:
    # the path of a Unix socket has room for 107 bytes.
    place = Path("/var/tmp")  # noqa: S108 - only mkdtemp works in it
    return place if os.access(place, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


class DataFolder:
    """One platform's folder, locked for as long as the platform lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.prefect_home = path / "prefect"
        self.store = path / "store"
        self.record = path / "platform.json"
        self._scratch_note = path / "scratch"
        self._lock: int | None = None
        self._scratch = Path()

    @property
    def postgres(self) -> Path:
        """The folder for PostgreSQL."""
        return self._scratch / "postgres"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files of flow runs."""
        return self._scratch / "temporary"

    def claim(self) -> None:
        """Lock the folder, sweep what an earlier platform left in it, and make it afresh. Raise ConfigurationError when another platform holds it."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        try:
            self._lock = take_lock(self.path / "lock")
        except HeldError as error:
            raise ConfigurationError(
                "start the platform",
                str(self.path),
                f"one is running from this folder already (process {error.holder})",
                "Stop that one first (Ctrl-C)",
            ) from error
        self._sweep()
        for folder in (self.logs, self.prefect_home, self.store):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=_scratch_parent()))
        self._scratch_note.write_text(str(self._scratch))
        # PostgreSQL's OS user passes through to what is its own; nobody can list what is there.
        self._scratch.chmod(0o711)
        self.postgres.mkdir(mode=0o700)
        self.temporary.mkdir()
        self.temporary.chmod(0o711)

    def release(self) -> None:
        """Remove all but the logs, and unlock. Without a claim, nothing happens."""
        if self._lock is None:
            return
        self._sweep()
        for folder in (self.prefect_home, self.store):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def _sweep(self) -> None:
        self.record.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            noted = Path(self._scratch_note.read_text().strip())
            # Only a folder that bears our name is ever removed, whatever the note says.
            if noted.name.startswith(SCRATCH_PREFIX) and noted.parent == _scratch_parent():
                shutil.rmtree(noted, ignore_errors=True)
        self._scratch_note.unlink(missing_ok=True)
