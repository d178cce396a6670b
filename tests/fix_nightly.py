"""An environment in a file, as an operator has one: two databases of a real server, a bucket through the fault proxy, and the flow run in this process."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from prefect.client.schemas.objects import State

from core.environment import Environment
from core.evidence import Report
from flows.dr_drill import dr_drill
from flows.nightly_backup import nightly_backup
from flows.restore import restore
from tasks.backup_steps import check_before, commit, dump_and_digest, read_back_and_decode
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_object_store import FaultProxy, S3Server
from tests.fix_postgres import PostgresServer

TABLES = (
    "CREATE TABLE account (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, balance numeric(12,2))",
    "INSERT INTO account (name, balance) SELECT 'account ' || n, n * 1.50 FROM generate_series(1, 500) AS n",
)


@dataclass
class Night:
    """The environment `night` and what became of it."""

    folder: Path
    settings: dict[str, Any]
    server: PostgresServer
    s3: S3Server
    faults: FaultProxy
    names: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Write the environment's file, at once: another run may be reading it."""
        made = self.folder / f"night.toml.{threading.get_ident()}"
        made.write_text(tomli_w.dumps(self.settings))
        made.replace(self.folder / "night.toml")

    def run(self, **parameters: Any) -> State[Any]:
        """Run the flow in this process and return its final state."""
        self.write()
        return nightly_backup("night", **parameters, return_state=True)

    def drill(self, **parameters: Any) -> State[Any]:
        """Run the drill in this process and return its final state."""
        self.write()
        return dr_drill("night", **parameters, return_state=True)

    def restore(self, database: str = "first", **parameters: Any) -> State[Any]:
        """Run a restore in this process and return its final state."""
        self.write()
        return restore("night", database, **parameters, return_state=True)

    @property
    def environment(self) -> Environment:
        return load_environment("night")

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return str(self.settings["store"]["bucket"])

    @property
    def keys(self) -> list[str]:
        """Every key in the bucket, past the proxy."""
        listed = self.s3.client.list_objects_v2(Bucket=self.bucket)
        return [item["Key"] for item in listed.get("Contents", [])]

    @property
    def backup_keys(self) -> list[str]:
        """Keys of backups: neither a folder's owner nor evidence."""
        return [key for key in self.keys if not key.endswith("owner.json") and "/evidence" not in key]

    @property
    def uploads(self) -> list[str]:
        """Multipart uploads that were begun and not ended."""
        listed = self.s3.client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    @property
    def report(self) -> Report:
        """The newest report, its signature verified."""
        _, report = read_report(ObjectStore.open(self.environment), self.environment, signing_keys(self.environment))
        return report


def server_settings(server: PostgresServer) -> dict[str, Any]:
    """A test server as a table [servers.NAME], the superuser's."""
    login = server.database("postgres").model_dump(exclude_defaults=True)
    return {key: value for key, value in login.items() if key != "name"}


@pytest.fixture
def night(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_server: str,
    postgres_16: PostgresServer,
    fresh_database: Callable[..., str],
    s3_server: S3Server,
    s3_faults: FaultProxy,
    bucket: str,
) -> Iterator[Night]:
    """Two small databases, `first` and `second`; digests, decode and retention as by default. Steps are retried without waiting."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", "a signing key of more than thirty-two characters")
    names = {name: fresh_database(postgres_16, *TABLES) for name in ("first", "second")}
    settings = {
        "store": {
            "bucket": bucket,
            "endpoint_url": s3_faults.endpoint,
            "access_key_id": "env:NIGHTSHIFT_TEST_S3_KEY",
            "secret_access_key": "env:NIGHTSHIFT_TEST_S3_SECRET",
        },
        "signing": {"key": "env:NIGHTSHIFT_TEST_SIGNING_KEY"},
        "databases": {
            name: postgres_16.database(dbname).model_dump(exclude_defaults=True) for name, dbname in names.items()
        },
        "servers": {"primary": server_settings(postgres_16)},
        "restore": {"spool_reserve_mib": 16, "spool_directory": str(tmp_path)},
    }
    for step in (check_before, dump_and_digest, commit, read_back_and_decode):
        monkeypatch.setattr(step, "retry_delay_seconds", [0.0, 0.0, 0.0])
    yield Night(tmp_path, settings, postgres_16, s3_server, s3_faults, names)
