"""Environments and manifests for scratch servers, and a dump's code that tries to get at what it must not."""

import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.backup_id import make_backup_id
from core.environment import Environment, Signing, Store
from core.environment_database import Database
from core.environment_restore import Drill, RestoreServer
from core.manifest import Manifest, Role
from tests.fix_keeping import sample_manifest


def scratch_environment(
    *,
    name: str = "local",
    databases: dict[str, Database] | None = None,
    servers: dict[str, RestoreServer] | None = None,
    **drill: Any,
) -> Environment:
    """An environment whose [drill] says what is given."""
    return Environment(
        name=name,
        store=Store(bucket="bucket"),
        signing=Signing(key="env:NIGHTSHIFT_TEST_SIGNING_KEY"),
        databases=databases or {"app": Database(host="127.0.0.1", name="app", user="backup")},
        servers=servers or {},
        drill=Drill(**drill),
    )


def manifest_of(
    major: int = 15,
    *,
    system_identifier: str = "7",
    superusers: tuple[str, ...] = (),
    settings: dict[str, str] | None = None,
) -> Manifest:
    """A manifest of a database on a server of this major, with these superusers among its roles."""
    manifest = sample_manifest(make_backup_id(datetime(2026, 1, 2, tzinfo=UTC), b"\0\0\0\1"))
    server = manifest.server.model_copy(
        update={
            "version": f"{major}.1",
            "version_number": major * 10000 + 1,
            "system_identifier": system_identifier,
            "settings": settings or {},
        }
    )
    roles = tuple(Role(name=name, login=True, superuser=True) for name in superusers)
    return manifest.model_copy(update={"server": server, "roles": roles})


@dataclass
class Bait:
    """What a dump's code must not get at, each with a word of its own that gives it away."""

    home_file: Path
    open_file: Path
    port: int
    visitors: list[str] = field(default_factory=list)

    @property
    def script(self) -> str:
        """A shell script that prints all that it can get at: environments, files, the network, other processes."""
        home, world = shlex.quote(str(self.home_file)), shlex.quote(str(self.open_file))
        return (
            "env; "
            f"cat /proc/{os.getpid()}/environ | tr '\\0' '\\n'; "
            "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; "
            f"cat {home}; cat {world}; "
            f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{self.port} && echo the-network-is-open'; "
            "echo processes: /proc/[0-9]*; "
            "ls -d /root /home /run /var /etc/ssl /var/run/postgresql; "
            "true"
        )


WORDS = ("word-of-the-environment", "word-of-the-home-file", "word-of-the-open-file", "the-network-is-open")


@pytest.fixture
def bait(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bait]:
    """A secret in this process's environment, one in a file of its home (0600), one in a file that everybody may read, and a server on the loopback."""
    monkeypatch.setenv("NIGHTSHIFT_TEST_BAIT", "word-of-the-environment")
    home_file = Path.home() / f".nightshift-test-bait-{os.getpid()}"
    open_file = Path("/var/tmp") / f"nightshift-test-bait-{os.getpid()}"
    with _listening() as port:
        try:
            home_file.touch(mode=0o600)
            home_file.write_text("word-of-the-home-file\n")
            open_file.write_text("word-of-the-open-file\n")
            open_file.chmod(0o644)
            yield Bait(home_file, open_file, port)
        finally:
            home_file.unlink(missing_ok=True)
            open_file.unlink(missing_ok=True)


@contextmanager
def _listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
