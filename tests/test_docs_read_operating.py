"""docs/operating.md: *From boot on*, as it stands there, on a machine that is a folder; the server of one machine at other places; one in several parts."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deployments.local.ports import free_port
from deployments.local.supervised import marked
from tests.fix_distributed import SETTINGS, settings_file
from tests.fix_postgres import PostgresServer
from tests.fix_reader_home import Home
from tests.fix_redis import new_redis
from tests.leave_out import leave_out
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]


@pytest.fixture
def debian(home: Home) -> Path:
    """A folder that stands for a machine, for programs of Debian that can work on one."""
    folder = home.reader.root / "machine"
    (folder / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group", "shadow", "gshadow"):
        (folder / "etc" / name).touch()
    return folder


def here(debian: Path) -> dict[str, str]:
    """What stands for the machine itself."""
    return {"useradd": f"/usr/sbin/useradd --prefix {debian}", "/etc/systemd": f"{debian}/etc/systemd",
            "systemctl enable --now": f"systemctl --root={debian} enable"}  # fmt: skip


def test_the_user_and_the_unit_of_a_machine(home: Home, debian: Path) -> None:
    line = "useradd --system --home-dir /var/lib/nightshift nightshift"
    home.reader.types("operating.md", line, stands_for=here(debian))
    assert "nightshift:" in (debian / "etc/passwd").read_text()
    line = "cp deployments/systemd/nightshift.service /etc/systemd/system/"
    home.reader.types("operating.md", line, stands_for=here(debian))
    assert (debian / "etc/systemd/system/nightshift.service").is_file()


def test_the_unit_is_enabled_from_boot_on_and_right(home: Home, debian: Path) -> None:
    if shutil.which("systemctl") is None:
        leave_out("no systemctl")
    reader = home.reader
    reader.types("operating.md", "systemctl enable --now nightshift", stands_for=here(debian))
    assert (debian / "etc/systemd/system/multi-user.target.wants/nightshift.service").is_symlink()
    # Of what the unit names, the checkout is elsewhere.
    unit = debian / "nightshift.service"
    unit.write_text(
        (debian / "etc/systemd/system/nightshift.service").read_text().replace("/opt/nightshift", str(reader.checkout))
    )
    verified = reader.shell(f"systemd-analyze verify --man=no {unit}")
    assert verified.returncode == 0 and str(unit) not in verified.stderr, verified.stderr


def test_the_server_at_other_places(home: Home) -> None:
    """Its shell is told anew where it is; then it is put back where it was."""
    reader, page = home.reader, "operating.md"
    assert "nothing of it is left running" in reader.types(page, "nightshift down --wait 3600")
    assert marked(home.server) == []
    port, hook = free_port(), free_port()
    line = "nightshift up --port 4300 --listen 127.0.0.1:8090 --proxy 10.0.0.7"
    reader.types(page, line, stands_for={"4300": str(port), "8090": str(hook)})
    assert home.api_url == f"http://127.0.0.1:{port}/api"
    assert home.ask("GET", "/health") is True
    line = "sudo -u nightshift NIGHTSHIFT_DATA=/var/lib/nightshift /opt/nightshift/.venv/bin/nightshift status"
    own = {"sudo -u nightshift": "env", "/var/lib/nightshift": f"{reader.checkout}/.nightshift"}
    assert f":{port}" in reader.types(page, line, stands_for={**own, "/opt/nightshift": str(reader.checkout)})
    reader.types(page, "make down")
    smaller = {"prefect.db": str(home.server.database)}
    reader.types(page, "sqlite3 prefect.db VACUUM", stands_for=smaller)
    assert marked(home.server) == []
    reader.types(page, "make up", stands_for=reader.up)
    reader.types(page, "nightshift status")
    reader.types(page, ". .nightshift/server/client.env")


def test_two_of_each_part(home: Home, postgres_15: PostgresServer, tmp_path: Path) -> None:
    """One of each here; two of each are test_high_availability's."""
    page, port, password = "operating.md", free_port(), secrets.token_hex(12)
    postgres_15.execute("postgres", "CREATE DATABASE prefect_parts")
    broker = new_redis(tmp_path)
    broker.limits = ("--appendonly", "yes")
    broker.start()
    variables = {
        **settings_file(SETTINGS / "server.env"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://postgres:{postgres_15.password}@127.0.0.1:{postgres_15.port}/prefect_parts",
        "PREFECT_SERVER_API_AUTH_STRING": f"ops:{password}",
        "PREFECT_API_AUTH_STRING": f"ops:{password}",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        **dict.fromkeys(
            (
                "PREFECT_REDIS_MESSAGING_URL",
                "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL",
                "PREFECT_SERVER_DOCKET_URL",
            ),
            broker.url,
        ),
    }
    try:
        server, services = (home.reader.opens(terminal, **variables) for terminal in ("server", "services"))
        server.types(page, "prefect server database upgrade -y")
        with server.goes_on(page, "prefect server start --no-services") as api:
            api.until_it_answers(f"http://127.0.0.1:{port}/api/ready")
            with services.goes_on(page, "prefect server services start") as running:
                running.until("Starting services")
                with planned(f"http://127.0.0.1:{port}/api", ("ops", password)) as a_run_is:
                    wait_until(a_run_is, "a run is planned", seconds=170)
    finally:
        broker.stop()
        postgres_15.execute("postgres", "DROP DATABASE prefect_parts WITH (FORCE)")


@contextmanager
def planned(server: str, auth: tuple[str, str]) -> Iterator[Callable[[], bool]]:
    """Have a deployment with a schedule made, which a service then plans the runs of; the block gets what tells whether one is planned."""
    with httpx.Client(base_url=server, auth=auth, timeout=30, trust_env=False) as rest:
        flow = rest.post("/flows/", json={"name": "hourly"}).raise_for_status().json()["id"]
        hourly = {"schedule": {"interval": 3600}, "active": True}
        rest.post("/deployments/", json={"name": "hourly", "flow_id": flow, "schedules": [hourly]}).raise_for_status()
        yield lambda: bool(rest.post("/flow_runs/filter", json={}).json())
