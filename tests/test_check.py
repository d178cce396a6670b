"""`nightshift check`: every part is tried, each told in one line, nothing is told of a secret, and no dead host holds it up."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import typer
from typer.testing import CliRunner, Result

from core.catalogue import Catalogue, CatalogueEntry, State
from core.checks import Check
from core.environment import Objectives
from core.errors import ConfigurationError
from core.objectives import check_objectives
from core.redaction import register_secret
from core.signature import SigningKey
from deployments.command.check import check_command, line_of
from deployments.command.probes import Probe, references_of, run_probes
from tasks.environments import load_environment
from tests.fix_object_store import S3Server, environment_for
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


# --- the command


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
    assert took < 14, result.output


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


# --- its parts


def test_probes_are_shown_in_their_order_and_one_that_never_ends_is_left_behind() -> None:
    def slow() -> list[Check]:
        time.sleep(0.2)
        return [Check(name="slow", state="passed", found="at last")]

    def never() -> list[Check]:
        time.sleep(30)
        return []

    def wrong() -> list[Check]:
        raise ConfigurationError("look", "there", "nothing", "Look elsewhere")

    began = time.monotonic()
    every = [Probe("slow", slow, 5), Probe("never", never, 0.5), Probe("wrong", wrong, 5), Probe("quick", list, 5)]
    found = list(run_probes(every))
    assert time.monotonic() - began < 5
    assert [checks[0].name if checks else "" for checks in found] == ["slow", "never", "wrong", ""]
    assert found[1][0].found == "no answer within 0 s"
    assert found[2] == [Check(name="wrong", state="failed", found="there: nothing", next_step="Look elsewhere")]


def test_an_error_that_nobody_foresaw_fails_its_check_alone() -> None:
    register_secret("a-registered-secret")

    def broken() -> list[Check]:
        raise ZeroDivisionError("no a-registered-secret here")

    [[first], [second]] = run_probes([Probe("broken", broken, 5), Probe("well", lambda: [WELL], 5)])
    assert first.state == "failed"
    assert first.found.startswith("ZeroDivisionError: no ***** here (")
    assert "test_check.py:" in first.found
    assert second == WELL


WELL = Check(name="well", state="passed", found="fine")


def test_each_reference_is_looked_at_once() -> None:
    environment = environment_for("bucket-name", "http://127.0.0.1:1")
    assert references_of(environment) == [
        ("store.access_key_id", "env:NIGHTSHIFT_TEST_S3_KEY"),
        ("store.secret_access_key", "env:NIGHTSHIFT_TEST_S3_SECRET"),
        ("signing.key", "env:NIGHTSHIFT_TEST_SIGNING_KEY"),
    ]


@pytest.mark.parametrize("name", ["local", "staging", "production"])
def test_the_checkouts_environments_have_a_reference_for_each_secret(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NIGHTSHIFT_ENVIRONMENTS", raising=False)
    paths = [path for path, _ in references_of(load_environment(name))]
    assert {"signing.key", "databases.app.password"} <= set(paths)


def test_a_line_says_what_to_do_only_when_something_is_to_be_done() -> None:
    failed = Check(name="bucket", state="failed", found="gone", next_step="Make it")
    assert line_of(failed).plain in {"✘ bucket  gone → Make it", "failed bucket  gone -> Make it"}
    assert "Make it" not in line_of(failed.model_copy(update={"state": "passed"})).plain


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def catalogue_with(state: State, hours: float) -> Catalogue:
    when = NOW - timedelta(hours=hours)
    return Catalogue((CatalogueEntry(f"{when:%Y%m%dT%H%M%SZ}-00000000", state, 1, 0, ()),))


@pytest.mark.parametrize(
    ("state", "hours", "recovery_point", "proof"),
    [
        ("incomplete", 1, "warning", "warning"),
        ("uploaded", 1, "warning", "warning"),
        ("decoded", 26, "passed", "warning"),
        ("decoded", 26.1, "warning", "warning"),
        ("proven", 50, "warning", "passed"),
        ("proven", 1, "passed", "passed"),
        ("proven", 51, "warning", "warning"),
        ("proven", -1, "warning", "warning"),
    ],
)
def test_both_ages_are_held_against_their_own_objective(
    state: State, hours: float, recovery_point: str, proof: str
) -> None:
    checks = check_objectives("mine", "app", catalogue_with(state, hours), Objectives(), NOW)
    assert [check.state for check in checks] == [recovery_point, proof]
