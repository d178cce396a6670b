"""A real Redis, as Debian packages it, on loopback, with a password and little memory."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.leave_out import leave_out
from tests.ports import free_port
from tests.waiting import wait_until


@dataclass
class RedisServer:
    """A running server."""

    program: str
    folder: Path
    port: int
    password: str
    # Little memory, and what is oldest goes; few sessions.
    limits: tuple[str, ...] = ("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru", "--maxclients", "20")
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A session."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--requirepass",
            self.password,
            "--save",
            "",
            *self.limits,
        ]
        with (self.folder / "redis.log").open("wb") as log:
            self.process = subprocess.Popen([self.program, *options], cwd=self.folder, stdout=log, stderr=log)
        wait_until(self._answers, "Redis answers")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def new_redis(folder: Path) -> RedisServer:
    """One that is not started yet."""
    program = shutil.which("redis-server")
    if program is None:
        leave_out("no redis-server")
    return RedisServer(program, folder, free_port(), secrets.token_hex(12))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One of the test's own."""
    server = new_redis(tmp_path)
    server.start()
    yield server
    server.stop()
