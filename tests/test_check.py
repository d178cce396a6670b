"""`nightshift check`: every part is tried, each told in one line, nothing is told of a secret, and no dead host holds it up."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import typer
from typer.testing import CliRunner, Result

from core.keys import owner_key
from core.signature import SigningKey
from deployments.command.check import check_command
from tests.fix_keeping import id_of, keeping_at
from tests.fix_object_store import S3Server
from tests.fix_postgres import PostgresServer

KEY = "a signing key of more than thirty-two characters, for checks"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command, without a Prefect server unless a test sets one."""
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(tmp_path / "no-platform"))
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("NS_CHECK_KEY", KEY)
    app = typer.Typer()
    app.command()(check_command)
    return lambda *options: CliRunner().invoke(app, ["mine", *options])


@pytest.fixture
def no_prefect_server() -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Write the environment `mine`: a store and a database, with what a test changes of them."""

    def write_file(store: dict[str, Any], database: dict[str, Any], **more: Any) -> None:
        document = {"store": store, "signing": {"key": "env:NS_CHECK_KEY"}, "databases": {"app": database}} | more
        (tmp_path / "mine.toml").write_text(tomli_w.dumps(document))

    return write_file


def store_of(server: S3Server, bucket: str) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "endpoint_url": server.endpoint,
        "access_key_id": "env:NIGHTSHIFT_TEST_S3_KEY",
        "secret_access_key": "env:NIGHTSHIFT_TEST_S3_SECRET",
    }


def database_of(server: PostgresServer, name: str) -> dict[str, Any]:
    return server.database(name).model_dump(exclude_defaults=True)


@contextmanager
def deaf_listener() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_ready_environment_is_told_line_by_line(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    no_prefect_server: None,
    s3_server: S3Server,
    bucket: str,
    postgres_16: PostgresServer,
    fresh_database: Callable[..., str],
) -> None:
    name = fresh_database(postgres_16, "CREATE TABLE t (a int)")
    write(store_of(s3_server, bucket), database_of(postgres_16, name))
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for begin in (
        "✔ environment file",
        "✔ secret signing.key  env:NS_CHECK_KEY is there",
        "✔ secret databases.app.password",
        f"✔ signing key  hmac-sha256, key id {SigningKey('hmac-sha256', KEY).key_id}",
        f"✔ bucket  {bucket}: reached",
        "✔ writable",
        "✔ client programs  pg_dump ",
        f"✔ app: connection  database {name}",
        "! Prefect server",
        "! app: recovery point  no backup is decoded yet; the objective is 26 h → nightshift backup mine --database app",
        "! app: proof  no backup is proven yet",
    ):
        assert any(line.startswith(begin) for line in lines), (begin, result.output)
    assert "✘" not in result.output
    assert lines[-1].startswith("mine is ready")
    for secret in (KEY, postgres_16.password, "testing-secret"):
        assert secret not in result.output


def test_every_part_is_tried_although_others_fail(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    no_prefect_server: None,
    s3_server: S3Server,
    postgres_16: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NS_CHECK_KEY", "short")
    database = database_of(postgres_16, "no_such_database")
    dead = {**database, "host": "127.0.0.1", "port": 9}
    no_password = {**database, "name": "postgres", "password": "env:NS_CHECK_NOTHING"}
    write(
        store_of(s3_server, "no-such-bucket"),
        database,
        databases={"app": database, "dead": dead, "no-password": no_password},
    )
    result = run()
    assert result.exit_code == 1
    for told in (
        "✘ secret databases.no-password.password  env:NS_CHECK_NOTHING: this process has no such variable → Set NS_CHECK_NOTHING",
        "✘ signing key  signing.key = env:NS_CHECK_KEY: an hmac-sha256 key needs at least 32 characters",
        "✘ bucket  no-such-bucket: there is no such bucket → Create it",
        "✘ app: connection  connect: ",
        "✘ dead: connection  127.0.0.1:9: Connection refused → Look at databases.dead.host and port",
        "✘ no-password: connection",
        "! app: objectives  not known while the bucket cannot be read",
        "! Prefect server",
        "mine is not ready: 6 failed",
    ):
        assert told in result.output, (told, result.output)


def test_a_database_with_settings_of_its_own_is_looked_at_like_any_other(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    no_prefect_server: None,
    s3_server: S3Server,
    bucket: str,
    postgres_16: PostgresServer,
    fresh_database: Callable[..., str],
) -> None:
    name = fresh_database(postgres_16, "CREATE TABLE t (a int)")
    for setting in ("DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kathmandu'", "IntervalStyle = 'sql_standard'"):
        postgres_16.execute("postgres", f"ALTER DATABASE {name} SET {setting}")
    write(store_of(s3_server, bucket), database_of(postgres_16, name))
    result = run()
    assert result.exit_code == 0, result.output
    assert "✔ app: clock" in result.output


@pytest.mark.services
def test_a_server_that_is_deaf_holds_nothing_up(
    run: Callable[..., Result], write: Callable[..., None], no_prefect_server: None
) -> None:
    with deaf_listener() as s3_port, deaf_listener() as database_port:
        write(
            {
                "bucket": "backups",
                "endpoint_url": f"http://127.0.0.1:{s3_port}",
                "access_key_id": "env:NS_CHECK_KEY",
                "secret_access_key": "env:NS_CHECK_KEY",
            },
            {"host": "127.0.0.1", "port": database_port, "name": "app", "user": "me"},
        )
        began = time.monotonic()
        result = run()
        took = time.monotonic() - began
    assert result.exit_code == 1
    assert "✘ bucket  no answer within" in result.output
    assert "✘ app: connection" in result.output
    assert "! app: objectives  not known" in result.output
    assert took < 45, result.output


def test_a_wrong_file_ends_with_two_and_says_what_is_wrong(
    run: Callable[..., Result], write: Callable[..., None]
) -> None:
    write({"bucket": "backups", "regoin": "x"}, {"host": "db", "name": "app", "user": "me"})
    result = run()
    assert result.exit_code == 2
    assert "store.regoin: unknown key; did you mean region?" in result.stderr
    as_json = run("--json")
    assert as_json.exit_code == 2
    document = json.loads(as_json.stdout)
    assert document["ready"] is False
    assert document["checks"][0]["state"] == "failed"


def test_json_holds_every_check_and_nothing_else(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    no_prefect_server: None,
    s3_server: S3Server,
    bucket: str,
    postgres_16: PostgresServer,
) -> None:
    write(store_of(s3_server, bucket), database_of(postgres_16, "postgres"))
    result = run("--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["environment"] == "mine"
    assert document["ready"] is True
    names = [check["name"] for check in document["checks"]]
    assert names[0] == "environment file"
    assert {"bucket", "signing key", "app: connection", "Prefect server"} <= set(names)
    assert all(check["next_step"] for check in document["checks"] if check["state"] == "failed")


@pytest.mark.xdist_group("prefect")
def test_the_prefect_server_that_is_set_is_asked(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    prefect_server: str,
    s3_server: S3Server,
    bucket: str,
    postgres_16: PostgresServer,
) -> None:
    from prefect.blocks.system import Secret

    block: Any = Secret(value=postgres_16.password)
    block.save("check-password", overwrite=True, _sync=True)
    database = {**database_of(postgres_16, "postgres"), "password": "prefect-block:check-password"}
    write(store_of(s3_server, bucket), database)
    result = run()
    assert result.exit_code == 0, result.output
    assert f"✔ Prefect server  {prefect_server}" in result.output
    assert "✔ secret databases.app.password  prefect-block:check-password is there" in result.output
    assert "✔ app: connection" in result.output


def test_backups_with_gaps_or_that_another_key_signed_are_told_and_do_not_count(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    no_prefect_server: None,
    s3_server: S3Server,
    bucket: str,
    postgres_16: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeping = keeping_at(bucket, s3_server, name="mine")
    key = SigningKey("hmac-sha256", KEY)
    newest = [keeping.add(id_of(age), "proven", key=key) for age in (0.6, 0.5)][-1]
    write(store_of(s3_server, bucket), database_of(postgres_16, "postgres"))
    well = run()
    assert well.exit_code == 0, well.output
    assert f"✔ app: proof  the newest proven backup, {newest}, is 12 h old" in well.output
    # These are of the database `app`, and the file names another.
    assert (
        "! app: source  the backups of app so far are of the database app on 127.0.0.1:5432; app now is the database postgres on "
        in well.output
    )
    gapped = keeping.add(id_of(0.4), "decoded", key=key, lacks=("table public.lost",))
    gaps = run()
    assert gaps.exit_code == 1
    assert f"✘ app: backups  {gapped} does not count: its dump lacks table public.lost" in gaps.output
    assert f"✔ app: recovery point  the newest decoded backup, {newest}, is 12 h old" in gaps.output
    monkeypatch.setenv("NS_CHECK_KEY", "another signing key of more than thirty-two characters")
    result = run()
    assert result.exit_code == 1
    unknown = f"signed with a key that this environment does not know (key id {key.key_id})"
    failed = [line for line in result.output.splitlines() if line.startswith("✘")]
    assert len(failed) == 3
    assert all(line.startswith("✘ app: backups  could not verify the manifest") for line in failed)
    assert all(unknown in line and "signing.previous_keys" in line for line in failed)
    # What nobody could verify counts for neither age.
    assert "! app: recovery point  no backup is decoded yet" in result.output
    assert "! app: proof  no backup is proven yet" in result.output
    assert "mine is not ready: 3 failed" in result.output


@pytest.mark.services
def test_a_folder_that_the_next_backup_would_refuse_fails_the_check(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    no_prefect_server: None,
    s3_server: S3Server,
    bucket: str,
    postgres_16: PostgresServer,
) -> None:
    key = SigningKey("hmac-sha256", KEY)
    other = replace(keeping_at(bucket, s3_server, name="theirs", prefix="mine"), keys=(key,))
    other.claim()
    other.add(id_of(0.5), "proven", key=key)
    write(store_of(s3_server, bucket), database_of(postgres_16, "postgres"))
    result = run()
    assert result.exit_code == 1
    found = "it belongs to database 'app' of environment 'theirs' since"
    assert f"✘ app: folder  s3://{bucket}/mine/app/: {found}" in result.output
    assert "→ Give environment 'mine' another store.prefix or store.bucket" in result.output
    assert "remove that folder" not in result.output
    owner = owner_key("mine", "app")
    other.store.put(owner, other.store.get(owner).replace(b'"theirs"', b'"mine"'))
    assert f"✘ app: folder  s3://{bucket}/{owner}: " in run().output


@pytest.mark.services
def test_what_no_database_of_the_file_tells_of_is_a_warning(
    *,
    run: Callable[..., Result],
    write: Callable[..., None],
    no_prefect_server: None,
    s3_server: S3Server,
    bucket: str,
    postgres_16: PostgresServer,
) -> None:
    key = SigningKey("hmac-sha256", KEY)
    keeping = replace(keeping_at(bucket, s3_server, name="mine"), keys=(key,))
    pinned, wrong = keeping.add(id_of(0.5), "proven", key=key), id_of(3)
    big = replace(keeping, database="big")
    big.claim()
    big.put_data(id_of(9))
    write(store_of(s3_server, bucket), database_of(postgres_16, "postgres"), retention={"pins": [pinned, wrong]})
    result = run()
    assert result.exit_code == 0, result.output
    assert f"! left databases  backups of big are there (s3://{bucket}/mine/big/)" in result.output
    assert f"! pins  retention.pins: {wrong} is no backup of any database" in result.output
    assert f"pins: {pinned}" not in result.output
