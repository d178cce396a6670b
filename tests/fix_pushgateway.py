"""A real Pushgateway, as Debian packages it, on loopback and in memory alone."""

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.leave_out import leave_out
from tests.ports import free_port
from tests.waiting import wait_until


@pytest.fixture
def pushgateway(tmp_path: Path) -> Iterator[str]:
    """Its address. Ends by its own process id."""
    program = shutil.which("prometheus-pushgateway")
    if program is None:
        leave_out("no prometheus-pushgateway")
    port = free_port()
    address, log = f"http://127.0.0.1:{port}", tmp_path / "pushgateway.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, f"--web.listen-address=127.0.0.1:{port}", "--persistence.file="],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError):
            return page(f"{address}/-/ready").strip() == "OK"
        return False

    try:
        wait_until(ready, "the Pushgateway is ready")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def page(address: str) -> str:
    """What an address on this machine says."""
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())
