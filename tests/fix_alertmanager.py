"""A real Alertmanager, as Debian packages it, on loopback with a data folder of its own."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from core.environment_watch_alerts import WatchAlerts
from tests.leave_out import leave_out
from tests.ports import free_port
from tests.waiting import wait_until

# Nothing is told to anybody: a receiver without a way. An alert named Cause inhibits one named Symptom.
CONFIGURATION = {
    "route": {"receiver": "nobody", "group_wait": "1s"},
    "receivers": [{"name": "nobody"}],
    "inhibit_rules": [{"source_matchers": ['alertname="Cause"'], "target_matchers": ['alertname="Symptom"']}],
}


class Alertmanager:
    """The program: `kill` and `start` it, and post what Prometheus would send."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder, self._port = program, folder, free_port()
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(CONFIGURATION))
        self.address = f"http://127.0.0.1:{self._port}"
        self._http = httpx.Client(base_url=f"{self.address}/api/v2", trust_env=False, timeout=30)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with the data that it had, and wait until it is ready."""
        log = self._folder / "log"
        options = (
            f"--config.file={self._folder / 'alertmanager.yml'}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            # Alone: it opens no second port.
            "--cluster.listen-address=",
        )
        with log.open("ab") as out:
            process = subprocess.Popen(
                [self._program, *options], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self._process = process

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return self._http.get(f"{self.address}/-/ready").is_success
            except httpx.TransportError:
                return False

        wait_until(ready, "Alertmanager is ready")

    def kill(self) -> None:
        """As when its Pod is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
        self._process = None

    def close(self) -> None:
        """End it."""
        self.kill()
        self._http.close()

    def fire(self, name: str, starts: datetime, **labels: str) -> None:
        """Send an alert that began then and goes on, as Prometheus does again and again."""
        self._post(name, labels, starts, datetime.now(UTC) + timedelta(hours=1))

    def resolve(self, name: str, starts: datetime, **labels: str) -> None:
        """Send that an alert is over; wait until it is, by Alertmanager's clock."""
        self._post(name, labels, starts, datetime.now(UTC))
        time.sleep(0.01)

    def silence(self, name: str) -> None:
        """Silence an alert by its name, and wait until that is in force."""
        now = datetime.now(UTC)
        silence = {
            "matchers": [{"name": "alertname", "value": name, "isRegex": False, "isEqual": True}],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "ada",
            "comment": "known",
        }
        self._http.post("/silences", json=silence).raise_for_status()

    def settings(self, **more: Any) -> WatchAlerts:
        """Settings for it."""
        return WatchAlerts(url=self.address, **more)

    def _post(self, name: str, labels: dict[str, str], starts: datetime, ends: datetime) -> None:
        alert = {
            "labels": {"alertname": name, "namespace": "production", **labels},
            "annotations": {"summary": f"{name} it is"},
            "startsAt": starts.isoformat(),
            "endsAt": ends.isoformat(),
        }
        self._http.post("/alerts", json=[alert]).raise_for_status()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """An Alertmanager for one test."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        leave_out("no prometheus-alertmanager")
    running = Alertmanager(program, tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.close()
