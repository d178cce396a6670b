"""Where the server of this machine (`nightshift up`) keeps everything: one folder, kept from one start to the next, closed to other users.

.nightshift/server/auth-string       user and password of the API and the UI; made once, 0600
.nightshift/server/client.env        `. client.env` gives a shell the address and that password, 0600
.nightshift/server/platform.json     the same for nightshift's own commands, 0600
.nightshift/server/prefect/          PREFECT_HOME: the database prefect.db, the leases of concurrency slots
.nightshift/server/backups/          copies of the database, one made at each start
.nightshift/server/webhook/          the receiver's inbox and audit log
.nightshift/server/logs/             a log of each program and of the supervisor
.nightshift/server/temporary/        TMPDIR of flow runs
.nightshift/server/supervisor.*      the supervisor's configuration, socket and process id
.nightshift/server/turn              locked by the `up` or `down` that is at it, with its process id
"""

import json
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigurationError
from core.redaction import register_secret
from deployments.local.held_lock import HeldError, take_lock
from deployments.local.running import RunningPlatform

# sun_path of a Unix socket (unix(7)) has 108 bytes; the supervisor binds a name with its process id behind first.
_LONGEST_SOCKET = 95


class ServerFolder:
    """The folder, by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prefect_home, self.logs, self.temporary = path / "prefect", path / "logs", path / "temporary"
        self.backups, self.webhook = path / "backups", path / "webhook"
        self.database = self.prefect_home / "prefect.db"
        self.record, self.client_variables = path / "platform.json", path / "client.env"
        self.socket, self.configuration, self.process_id = (
            path / f"supervisor.{end}" for end in ("sock", "conf", "pid")
        )
        self._auth = path / "auth-string"

    def make(self) -> None:
        """Make what is not there. Raise ConfigurationError when its name is too long for a socket."""
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET:
            found = (
                f"{len(os.fsencode(self.socket))} bytes are too long for a socket's name, {_LONGEST_SOCKET} are allowed"
            )
            raise ConfigurationError(
                "make the server's folder", str(self.socket), found, "Set NIGHTSHIFT_DATA to a shorter one"
            )
        for folder in (self.path, self.prefect_home, self.logs, self.temporary, self.backups, self.webhook):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within the block no other `up` or `down` touches what runs from this folder. Raise ConfigurationError at once when another one is at it.

        What takes this process's place by exec lets it go.
        """
        try:
            lock = take_lock(self.path / "turn")
        except HeldError as error:
            raise ConfigurationError(
                "start or stop the server of this machine",
                str(self.path),
                f"another command starts or stops it (process {error.holder})",
                "Wait until that one has ended, then: nightshift status",
            ) from error
        try:
            yield
        finally:
            os.close(lock)

    def auth_string(self) -> str:
        """USER:PASSWORD of the server, made at the first time. Raise ConfigurationError when the file holds something else."""
        if not self._auth.exists():
            write_closed(self._auth, f"nightshift:{secrets.token_urlsafe(24)}\n")
        auth_string = self._auth.read_text().strip()
        user, _, password = auth_string.partition(":")
        if not user or not password:
            raise ConfigurationError(
                "read the server's password",
                str(self._auth),
                "it is not USER:PASSWORD",
                "Remove the file: a new one is made",
            )
        register_secret(password)
        return auth_string

    def write_record(self, platform: RunningPlatform) -> None:
        """Say where the server is, to nightshift's own commands and to a person's shell."""
        write_closed(self.record, json.dumps(platform.model_dump(), indent=1))
        lines = {"PREFECT_API_URL": platform.api_url, "PREFECT_API_AUTH_STRING": platform.auth_string}
        write_closed(
            self.client_variables, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in lines.items())
        )


def write_closed(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(path)
