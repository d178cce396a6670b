"""The one-machine platform: PostgreSQL with the sample database, an S3 stand-in, a Prefect server and a worker, started and stopped together.

    with Platform(folder, rows=2000) as platform:
        platform.watch(…)

All of it listens on 127.0.0.1 only, is made anew at each start, and is gone when the block ends, however it ends.
"""

import os
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from core.errors import PermanentError
from core.redaction import register_secret
from deployments.local.data_folder import CHECKOUT, DataFolder
from deployments.local.embedded_postgres import EmbeddedPostgres
from deployments.local.object_store_server import ObjectStoreServer
from deployments.local.ports import HOST
from deployments.local.prefect_server import PREFERRED_PORT, PrefectServer
from deployments.local.running import RunningPlatform, write_record
from deployments.local.sample_database import SampleInfo, load_sample
from deployments.local.supervisor import Supervisor, Tell, signals_wait

BUCKET = "nightshift-local"
# Stands for the copy in another region; empty until somebody copies a backup there, as the demo does.
COPY_BUCKET = "nightshift-local-copy"
_NEEDED_MIB = 512


class Platform:
    """The platform. Entering the block starts it; leaving stops it."""

    postgres: EmbeddedPostgres
    store: ObjectStoreServer
    prefect: PrefectServer
    sample: SampleInfo

    def __init__(
        self,
        path: Path,
        *,
        rows: int,
        postgres: str | None = None,
        preferred_port: int = PREFERRED_PORT,
        prefect_file: Path = CHECKOUT / "prefect.yaml",
        deployments: str = "*/local",
        variables: dict[str, str] | None = None,
        store_variables: dict[str, str] | None = None,
        tell: Tell = lambda _: None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Given its folder and the sample's size, get ready to start.

        Args:
            path: the folder that is this platform's own (see data_folder).
            rows: how many rows the sample database's largest table gets.
            postgres: `machine`, `wheel` or None (see find_binaries).
            preferred_port: the Prefect server's port when it is free.
            prefect_file: what to deploy from.
            deployments: which of them, as `prefect deploy --name` understands it.
            variables: further variables for flow runs.
            store_variables: further variables of the S3 stand-in's process.
            tell: called with a sentence at each step.
            meanwhile: called once while the Prefect server is still starting.
        """
        self.folder = DataFolder(path)
        self.rows = rows
        self._postgres_choice, self._preferred_port = postgres, preferred_port
        self._prefect_file, self._deployments = prefect_file, deployments
        self._further_variables, self._store_variables = variables or {}, store_variables or {}
        self._tell, self._meanwhile = tell, meanwhile
        self._supervisor = Supervisor(tell)
        self._backup_password, self._signing_key = secrets.token_urlsafe(24), secrets.token_urlsafe(36)
        register_secret(self._backup_password)
        register_secret(self._signing_key)

    def __enter__(self) -> Self:
        """Start everything. Raise ConfigurationError or PermanentError, in one line, after having stopped what was started."""
        try:
            self._start()
        except OSError as error:
            self.stop()
            found = f"{type(error).__name__}: {error}"
            raise PermanentError(
                "start the platform", str(self.folder.path), found, "Free the disk or mend its rights"
            ) from error
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def stop(self) -> None:
        """End all servers and remove the data. Signals that ask us to end wait until this is done; it takes half a minute at most."""
        with signals_wait():
            self._supervisor.stop()
            self.folder.release()

    def watch(self, until: threading.Event) -> None:
        """Look after the servers until the event is set, and start again one that died. Raise its error when it has died too often."""
        self._supervisor.watch(until)

    def check(self) -> None:
        """Raise the error of the first server that is not running."""
        self._supervisor.check()

    @property
    def variables(self) -> dict[str, str]:
        """The variables that make the environment `local` this platform; secrets among them."""
        return {
            "NIGHTSHIFT_LOCAL__STORE__ENDPOINT_URL": self.store.endpoint_url,
            "NIGHTSHIFT_LOCAL__STORE__BUCKET": self.store.bucket,
            "NIGHTSHIFT_LOCAL__DATABASES__APP__HOST": HOST,
            "NIGHTSHIFT_LOCAL__DATABASES__APP__PORT": str(self.postgres.port),
            "NIGHTSHIFT_LOCAL__COPY_STORE__BUCKET": COPY_BUCKET,
            "NIGHTSHIFT_LOCAL__COPY_STORE__ENDPOINT_URL": self.store.endpoint_url,
            "NIGHTSHIFT_LOCAL__SERVERS__LOCAL__HOST": HOST,
            "NIGHTSHIFT_LOCAL__SERVERS__LOCAL__PORT": str(self.postgres.port),
            "NIGHTSHIFT_LOCAL_ADMIN_PASSWORD": self.postgres.admin_password,
            "NIGHTSHIFT_LOCAL_S3_KEY_ID": self.store.key_id,
            "NIGHTSHIFT_LOCAL_S3_SECRET": self.store.secret_key,
            "NIGHTSHIFT_LOCAL_BACKUP_PASSWORD": self._backup_password,
            "NIGHTSHIFT_LOCAL_SIGNING_KEY": self._signing_key,
        }

    @property
    def running(self) -> RunningPlatform:
        """What it says about itself."""
        return RunningPlatform(
            process_id=os.getpid(),
            ui_url=self.prefect.ui_url,
            api_url=self.prefect.api_url,
            auth_string=self.prefect.auth_string,
            variables=self.variables,
        )

    def _start(self) -> None:
        self.folder.claim()
        self._check_space()
        self.prefect = PrefectServer(self.folder, preferred_port=self._preferred_port)
        self.store = ObjectStoreServer(self.folder, BUCKET, COPY_BUCKET, variables=self._store_variables)
        self.postgres = EmbeddedPostgres(self.folder, choice=self._postgres_choice)

        # The Prefect server takes longest; the others start meanwhile.
        self._tell("starting the Prefect server")
        self._supervisor.add(self.prefect.service, self.prefect.start)
        self._supervisor.add(self.store.service, self.store.start, after_restart=self._bucket_again)
        self._tell(f"starting PostgreSQL {self.postgres.version} ({self.postgres.origin})")
        self._supervisor.add(self.postgres.service, self.postgres.start)
        self._tell(f"filling the sample database ({self.rows:,} rows)")
        conninfo = self.postgres.admin_conninfo
        self.sample = load_sample(conninfo, rows=self.rows, backup_password=self._backup_password)
        self.store.make_buckets()
        self._tell("waiting for the Prefect server")
        self._meanwhile()
        self.prefect.wait_until_ready()

        self._tell(f"starting a worker, deploying from {self._prefect_file.name}")
        variables = {**self.variables, **self._further_variables}
        worker = self.prefect.worker(variables)
        self._supervisor.add(worker, worker.start)
        self.prefect.deploy(variables, prefect_file=self._prefect_file, names=self._deployments)
        self.check()
        write_record(self.folder.record, self.running)

    def _bucket_again(self) -> None:
        self.store.make_buckets()
        self._tell("the S3 stand-in keeps nothing over a restart: the backups in it are gone")

    def _check_space(self) -> None:
        for folder in (self.folder.path, self.folder.temporary):
            free_mib = shutil.disk_usage(folder).free // 1024**2
            if free_mib < _NEEDED_MIB:
                found = f"its disk has {free_mib} MiB free, {_NEEDED_MIB} MiB are needed"
                raise PermanentError("start the platform", str(folder), found, "Free some space")
