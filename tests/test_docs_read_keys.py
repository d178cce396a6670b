"""docs/operating.md, *Change keys* and *Prune runs*, and docs/app-state.md, as a reader types them: what was signed, backed up or is open before is good afterwards."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest

from tests.fix_reader_home import Home
from tests.fix_velero import playing_velero
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]
PAGE = "operating.md"


def up(home: Home) -> None:
    home.reader.types(PAGE, "make up", stands_for=home.reader.up)


def after_any_of_them(home: Home) -> None:
    """The line below the table: a check, and a backup."""
    home.reader.types(PAGE, "nightshift check NAME", stands_for={"NAME": "mine"})
    home.reader.types("quickstart.md", "nightshift backup mine")


def signers(home: Home) -> list[str]:
    """Which key signed each backup's manifest, the oldest first."""
    manifests = {key: body for key, body in home.objects().items() if key.endswith("/manifest.json")}
    by_id = sorted(manifests, key=lambda key: key.split("/")[-2])
    return [json.loads(manifests[key])["signature"]["key_id"] for key in by_id]


def whole(home: Home) -> str:
    """What is said of the reports, all of which are good."""
    line = "nightshift evidence verify"
    return home.reader.types("concepts.md", line, stands_for={line: f"{line} mine"})


def test_the_servers_password(home: Home) -> None:
    old = home.server.auth_string()
    home.reader.types(PAGE, "make down")
    (home.server.path / "auth-string").unlink()
    up(home)
    assert home.server.auth_string() != old
    user, password = old.split(":", 1)
    refused = httpx.post(f"{home.api_url}/work_pools/count", json={}, auth=(user, password), trust_env=False)
    assert refused.status_code == httpx.codes.UNAUTHORIZED
    home.reader.types(PAGE, ". .nightshift/server/client.env")
    assert home.reader.shell("prefect work-pool ls").returncode == 0
    after_any_of_them(home)


def test_the_signing_key(home: Home) -> None:
    reader = home.reader
    before, reports = signers(home), whole(home)
    first = tomllib.loads(home.file.read_text())["signing"]["key"]
    second = kept(home, "second-key", reader.types("environments.md", "openssl rand -hex 32"))
    home.add(signing={"key": second, "previous_keys": [first]})
    # What the old key signed is good, and can be restored from.
    assert whole(home) == reports
    admin = {"host": "127.0.0.1", "port": home.postgres.port, "user": home.postgres.superuser}
    home.add(servers={"new": {**admin, "password": "env:READERS_ADMIN_PASSWORD"}})
    newest = "nightshift restore production app --backup newest-decoded --server new --target app"
    reader.types("restore.md", newest, stands_for={"--target app": f"--target before_{len(before)}"})
    assert home.rows(f"before_{len(before)}") == 500
    after_any_of_them(home)
    now = signers(home)
    assert now[:-1] == before and now[-1] not in before
    # Once nothing is kept that the old one signed it goes, not earlier.
    home.add(signing={"key": second})
    lost = reader.shell("nightshift evidence verify mine")
    assert lost.returncode == 1 and "does not know" in lost.stdout + lost.stderr
    home.add(signing={"key": second, "previous_keys": [first]})
    whole(home)


def kept(home: Home, name: str, secret: str) -> str:
    """Keep a secret in a file of the reader's alone, and return its reference."""
    file = home.reader.root / name
    file.touch(mode=0o600)
    file.write_text(secret)
    return f"file:{file}"


def test_a_signing_key_of_two_halves(home: Home) -> None:
    """In a folder of its own: all keys of an environment have one algorithm."""
    reader, before = home.reader, home.file.read_text()
    line = "openssl genpkey -algorithm ed25519"
    old, new = (kept(home, name, reader.types("environments.md", line)) for name in ("old.pem", "new.pem"))
    public = kept(home, "old-public.pem", reader.shell(f"openssl pkey -pubout -in {reader.root / 'old.pem'}").stdout)
    store = {**tomllib.loads(before)["store"], "prefix": "halves"}
    try:
        home.add(store=store, signing={"algorithm": "ed25519", "key": old})
        reader.types("quickstart.md", "nightshift backup mine")
        home.add(signing={"algorithm": "ed25519", "key": new, "previous_keys": [public]})
        # The public half is enough to prove what the old key signed, and to go on after it.
        reader.types("quickstart.md", "nightshift drill mine")
        after_any_of_them(home)
        assert "proven" in reader.types("quickstart.md", "nightshift catalog mine")
        whole(home)
    finally:
        home.file.write_text(before)


def test_the_keys_of_bucket_and_database(home: Home) -> None:
    reader = home.reader
    # The database's password, by a file: nothing is started anew.
    home.postgres.execute("postgres", "ALTER ROLE nightshift_backup PASSWORD 'another one'")
    (reader.root / "home/password").write_text("another one")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(home.postgres.conninfo("shop", user="nightshift_backup", password="kept-aside"))
    after_any_of_them(home)
    # The bucket's keys, by variables: down and up.
    reader.types(PAGE, "make down")
    reader.shell("export READERS_KEY_ID=a-second-pair READERS_KEY=a-second-secret")
    up(home)
    after_any_of_them(home)


def test_pruning_runs(home: Home) -> None:
    reader = home.reader
    newest, deleted, old, *_ = home.runs("nightly-backup")
    line = "prefect flow-run delete 0d5e6a5e-3c5c-4a55-9d5f-0f6d2f0e7f11"
    reader.types(PAGE, line, stands_for={"0d5e6a5e-3c5c-4a55-9d5f-0f6d2f0e7f11": deleted})
    assert home.runs("nightly-backup")[:2] == [newest, old]
    waiting = open_swap(home)
    reader.types(PAGE, "make down")
    # Ninety-one days later.
    moved = (datetime.now(UTC) - timedelta(days=91)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(home.server.database)) as database, database:
        ids = [(moved, one.replace("-", "")) for one in (old, waiting)]
        for column in ("end_time", "start_time", "expected_start_time", "created", "updated"):
            where = "" if column != "end_time" else " AND end_time IS NOT NULL"
            database.executemany(f"UPDATE flow_run SET {column} = ? WHERE replace(id, '-', '') = ?{where}", ids)  # noqa: S608 - ours
    assert left_of(home, old) > {"flow_run"}
    reader.types(PAGE, "export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs")
    reader.types(PAGE, "export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=7776000")
    up(home)
    wait_until(lambda: not left_of(home, old), "the old run is gone, with all that was its", seconds=180)
    assert home.runs("nightly-backup")[0] == newest
    assert home.ask("GET", f"/flow_runs/{waiting}")["state_type"] == "PAUSED"
    home.ask("POST", f"/flow_runs/{waiting}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    # And the file's room.
    reader.types(PAGE, "make down")
    before = home.server.database.stat().st_size
    assert reader.shell(f"cd {home.server.prefect_home} && sqlite3 prefect.db VACUUM; cd -").returncode == 0
    assert home.server.database.stat().st_size <= before
    reader.shell("unset PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD")
    up(home)
    assert home.runs("nightly-backup")[0] == newest


def open_swap(home: Home) -> str:
    """A run that waits for a person."""
    line = "nightshift restore production app --backup newest-decoded --swap"
    home.reader.types("restore.md", line, code=3)
    return home.runs("restore")[0]


def left_of(home: Home, run: str) -> set[str]:
    """The tables of the server's database that have anything of a run."""
    with closing(sqlite3.connect(home.server.database)) as database:
        names = {"flow_run": "id", "task_run": "flow_run_id", "log": "flow_run_id", "artifact": "flow_run_id"}
        query = "SELECT count(*) FROM {} WHERE replace({}, '-', '') = ?"
        own = run.replace("-", "")
        return {
            table for table, key in names.items() if database.execute(query.format(table, key), (own,)).fetchone()[0]
        }


def test_application_state(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, page = home.reader, "app-state.md"
    monkeypatch.setenv("KUBECONFIG", reader.variables["KUBECONFIG"])
    home.add(app_state={"namespaces": ["shop"]})
    home.kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "velero"}})
    with playing_velero(home.kubernetes):
        reader.types(page, "nightshift app-state-backup production")
        said = reader.types(page, "nightshift app-state-backup production --drill")
    assert "objects restored beside and compared" in said
    backups = home.kubernetes.select("velero.io/v1", "backups", "velero", {})
    # Running it twice does no harm: each run makes one.
    assert len(backups) == 2
    assert ("v1", "namespaces", "", "nightshift-app-state-drill") not in home.kubernetes.objects
    home.drop("app_state")
