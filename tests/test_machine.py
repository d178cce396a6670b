"""The server of one machine: what dies is started again, and an upgrade loses nothing that is open."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from deployments.local.data_folder import CHECKOUT
from deployments.local.supervised import Supervised, marked
from tests.fix_kubernetes import KubernetesApi
from tests.fix_machine import Machine, release_deployments, release_of_run, webhook_settings
from tests.fix_object_store import S3Server
from tests.fix_refusals import require_refusals
from tests.fix_release import NEXT_COMMIT, SKIPPED, Stage, small_stage
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(540), pytest.mark.xdist_group("machine")]
ANSWER = {"approver": "Ada", "reason": "INC-7"}
PROGRAMS = {"prefect-server", "prefect-worker", "webhook"}


@pytest.fixture
def machine_stage(  # noqa: PLR0917 - fixtures
    machine: Machine,
    kubernetes: KubernetesApi,
    s3_server: S3Server,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """`stage` as the machine's programs see it."""
    for name, value in machine.variables.items():
        if name != "KUBECONFIG":
            monkeypatch.setenv(name, value)
    kubernetes.kubeconfig(machine.root)
    with small_stage(kubernetes, machine.root / "environments", s3_server.endpoint, bucket) as found:
        found.settings["webhook"] = webhook_settings(found.digest("v3"))
        found.settings["watch"] = {"health": {"databases": False}}
        found.write()
        yield found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_what_dies_is_started_again_and_a_second_up_says_that_it_runs(machine: Machine, machine_stage: Stage) -> None:
    # Somebody else's, that has nothing to do with it.
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as bystander:
        try:
            kill_each(machine)
            assert bystander.poll() is None
        finally:
            bystander.kill()


def kill_each(machine: Machine) -> None:
    """Start it, kill each of its programs, and see each again."""
    said = machine.up()
    password = machine.folder.auth_string().partition(":")[2]
    assert password not in said
    before = machine.processes()
    assert before.keys() == PROGRAMS
    assert "it runs already" in machine.up()
    assert machine.processes() == before

    mine = marked(machine.folder)
    secrets = (
        password,
        machine.variables["NIGHTSHIFT_TEST_HOOK_SECRET"],
        machine.variables["NIGHTSHIFT_TEST_SIGNING_KEY"],
    )
    listed = [" ".join(one.cmdline()) for one in mine] + [machine.folder.configuration.read_text()]
    assert [line for line in listed for secret in secrets if secret in line] == []
    assert {
        one.laddr.ip for each in mine for one in each.net_connections("tcp") if one.status == psutil.CONN_LISTEN
    } == {"127.0.0.1"}
    for file in ("auth-string", "client.env", "platform.json", "prefect/prefect.db"):
        assert stat.S_IMODE((machine.folder.path / file).stat().st_mode) & 0o077 == 0, file
    assert machine.folder.path.stat().st_mode & 0o077 == 0

    for name in PROGRAMS:
        kill(before[name])

    def started_again() -> bool:
        now = machine.processes()
        return now.keys() == PROGRAMS and not set(now.values()) & set(before.values())

    wait_until(started_again, "each has a process again", seconds=60)
    wait_until(machine.answers, "the server answers again", seconds=90)
    wait_until(machine.listens, "the receiver answers again", seconds=90)
    require_refusals(f"http://127.0.0.1:{machine.port}/api", machine.folder.auth_string())
    wait_until(lambda: machine.nightshift("status").returncode == 0, "all of it is well again", seconds=60)

    # It lives, and does nothing.
    os.kill(machine.processes()["webhook"], signal.SIGSTOP)
    try:
        told, again = machine.nightshift("status"), machine.nightshift("up", "--port", str(machine.port))
    finally:
        os.kill(machine.processes()["webhook"], signal.SIGCONT)
    assert (told.returncode, again.returncode) == (1, 1)
    assert "does not answer" in told.stdout
    assert "does not answer" in again.stdout


def test_an_upgrade_with_a_watch_and_an_approval_open_loses_nothing(
    machine: Machine, machine_stage: Stage, kubernetes: KubernetesApi
) -> None:
    stage = machine_stage
    machine.prefect("deploy", "--prefect-file", str(release_deployments(machine.root)), "--all")
    first = released(machine, stage)
    assert [one["slug"] for one in schedules(machine) if one["slug"] != "sweep"] == [f"watch-{first}"]
    wait_until(lambda: len(machine.planned()) >= 3, "ticks are planned", seconds=150)
    ticks = {one["id"]: one["expected_start_time"] for one in machine.planned()}

    # GitHub asks for the next one, which waits for a person.
    stage.settings["release"]["approval"] = True
    stage.write()
    assert machine.deliver(2).is_success
    wait_until(lambda: len(machine.runs("release")) == 2, "the receiver has made a run", seconds=60)
    (waiting,) = [one["id"] for one in machine.runs("release") if release_of_run(one["id"]) != first]
    machine.wait_for(waiting, "PAUSED")
    plan = plan_of(machine, waiting)

    assert "nothing of it is left running" in machine.nightshift("down").stdout
    assert marked(machine.folder) == []
    database = {"PREFECT_HOME": str(machine.folder.prefect_home)}
    downgraded = [sys.executable, "-m", "prefect", "server", "database", "downgrade", "-y"]
    # As an older release of Prefect left it: without the newest migration.
    done = subprocess.run(downgraded, env=machine.shell | database, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    before = revision(machine.folder.database)
    machine.up()
    assert revision(machine.folder.database) != before
    assert revision(max(machine.folder.backups.iterdir())) == before

    # Nothing is lost, nothing doubled: the same ticks are to come, once each, and the same question waits. Deploying plans them anew, at the same times.
    require_planned_once(machine, ticks)
    machine.prefect("deploy", "--prefect-file", str(machine.root / "prefect.yaml"), "--all")
    assert [one["slug"] for one in schedules(machine) if one["slug"] != "sweep"] == [f"watch-{first}"]
    wait_until(lambda: len(machine.planned()) >= 3, "ticks are planned", seconds=150)
    require_planned_once(machine, ticks)
    next_tick = machine.planned()[0]["id"]
    soon = {
        "type": "SCHEDULED",
        "name": "Scheduled",
        "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
    }
    machine.ask("POST", f"/flow_runs/{next_tick}/set_state", {"state": soon, "force": True})
    state = machine.wait_for(next_tick)
    assert state["type"] == "COMPLETED", state
    assert machine.ask("GET", f"/flow_runs/{next_tick}").json()["run_count"] == 1

    assert machine.ask("GET", f"/flow_runs/{waiting}").json()["state"]["type"] == "PAUSED"
    assert plan_of(machine, waiting) == plan
    answer = machine.ask("POST", f"/flow_runs/{waiting}/resume", {"run_input": {"plan": plan, **ANSWER}}).json()
    assert answer["status"] == "ACCEPT"
    state = machine.wait_for(waiting)
    assert state["type"] == "COMPLETED", state
    assert stage.image_of() == stage.image("v3")
    assert len(machine.runs("release")) == 2
    assert [one.release_id for one in stage.journals()] == [first, release_of_run(waiting)]

    # A copy beside the running server; what is deleted afterwards is in it.
    asked = [sys.executable, "-m", "deployments.local.prefect_database"]
    copy = subprocess.run(
        asked, env=machine.shell, cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.strip()
    machine.prefect("flow-run", "delete", waiting)
    assert (has_run(Path(copy), waiting), has_run(machine.folder.database, waiting)) == (True, False)

    # A supervisor that was killed leaves its programs; they are known all the same.
    kill(Supervised(machine.folder).pid)
    assert machine.nightshift("down").returncode == 0
    assert marked(machine.folder) == []


def released(machine: Machine, stage: Stage) -> str:
    """Release v2 without an approval, and return the release's id."""
    deployment = machine.ask("GET", "/deployments/name/release/stage").json()["id"]
    parameters = {"image": stage.digest("v2"), "commit": NEXT_COMMIT, "migrate": False, "skip_checks": SKIPPED}
    body = {"parameters": parameters | {"requested_by": "the test"}, "idempotency_key": "first"}
    run: str = machine.ask("POST", f"/deployments/{deployment}/create_flow_run", body).json()["id"]
    state = machine.wait_for(run)
    assert state["type"] == "COMPLETED", state
    looking = [one["id"] for one in machine.runs("post-deploy-watch")]
    for one in looking:
        machine.wait_for(one)
    return release_of_run(run)


def schedules(machine: Machine) -> list[dict[str, object]]:
    found: list[dict[str, object]] = machine.ask("GET", "/deployments/name/post-deploy-watch/stage").json()["schedules"]
    return found


def plan_of(machine: Machine, run_id: str) -> str:
    """The beginning of the plan's hash, as the form shows it."""
    keys = machine.ask("GET", f"/flow_runs/{run_id}").json()["state"]["state_details"]["run_input_keyset"]
    text = str(machine.ask("GET", f"/flow_runs/{run_id}/input/{keys['description']}").json())
    found = re.search(r"Approve the plan \*\*([0-9a-f]{8})\*\*", text)
    assert found is not None, text
    return found.group(1)


def require_planned_once(machine: Machine, ticks: dict[str, str]) -> None:
    """Hold that what was planned and is still to come is planned once."""
    times = [one["expected_start_time"] for one in machine.planned()]
    assert len(set(times)) == len(times)
    later = datetime.now(UTC) + timedelta(seconds=30)
    assert {one for one in ticks.values() if datetime.fromisoformat(one) > later} <= set(times)


def has_run(database: Path, run_id: str) -> bool:
    """Whether a database knows a run."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT count(*) FROM flow_run WHERE id IN (?, ?)"
        return bool(connection.execute(query, (run_id, run_id.replace("-", ""))).fetchone()[0])


def revision(database: Path) -> str:
    """Which migration a database has come to."""
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
