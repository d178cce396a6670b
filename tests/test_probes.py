"""What `nightshift check` is made of: probes side by side, references, lines, and both objectives."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from core.catalogue import Catalogue, CatalogueEntry, State
from core.checks import Check
from core.environment import Objectives
from core.errors import ConfigurationError
from core.objectives import check_objectives
from core.redaction import register_secret
from deployments.command.check import line_of
from deployments.command.probes import Probe, references_of, run_probes
from deployments.command.server_probes import look_at_server
from tasks.environments import load_environment
from tests.fix_object_store import environment_for
from tests.fix_raw_server import RawServer, http


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
    assert "test_probes.py:" in first.found
    assert second == WELL


@pytest.fixture(autouse=True)
def _no_platform_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(tmp_path))


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


MINE = environment_for("bucket-name", "http://127.0.0.1:1").model_copy(update={"name": "mine"})


@pytest.mark.parametrize(
    ("answer", "state", "told", "next_step"),
    [
        ("401 Unauthorized", "failed", "the server answered 401", "export PREFECT_API_AUTH_STRING=USER:PASSWORD"),
        ("403 Forbidden", "failed", "the server answered 403", "export PREFECT_API_AUTH_STRING=USER:PASSWORD"),
        ("404 Not Found", "failed", "the server answered 404", ""),
        ("500 Internal Server Error", "warning", "the server answered 500", "Try again"),
    ],
)
def test_a_prefect_server_that_refuses_us_is_no_mere_warning(
    raw_server: RawServer, answer: str, state: str, told: str, next_step: str
) -> None:
    raw_server.answers = lambda _asked: http("{}", status=answer)
    password = "a-wrong-password-0123"
    settings = {PREFECT_API_URL: f"{raw_server.address}/api", PREFECT_API_AUTH_STRING: f"nightshift:{password}"}
    with temporary_settings(settings):
        [[found]] = run_probes([Probe("server", lambda: look_at_server(MINE), 20)])
    assert (found.name, found.state) == ("Prefect server", state), found
    assert found.found.startswith(f"{raw_server.address}/api: {told}")
    assert next_step in found.next_step
    assert password not in found.model_dump_json()


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable"])
def test_a_prefect_server_that_tells_its_version_and_nothing_else_is_not_well(
    raw_server: RawServer, status: str
) -> None:
    raw_server.answers = lambda asked: http('"3.8.8"') if b"/admin/version" in asked else http("{}", status=status)
    with temporary_settings({PREFECT_API_URL: f"{raw_server.address}/api"}):
        [[found]] = run_probes([Probe("server", lambda: look_at_server(MINE))])
    assert (found.name, found.state) == ("Prefect server", "warning"), found
    assert found.found.startswith(f"{raw_server.address}/api: the server answered {status[:3]}")


def test_a_prefect_server_that_is_not_there_or_not_named_is_a_warning(raw_server: RawServer) -> None:
    raw_server.close()
    for settings in ({PREFECT_API_URL: f"{raw_server.address}/api"}, {PREFECT_API_URL: None}):
        with temporary_settings(settings):
            [[found]] = run_probes([Probe("server", lambda: look_at_server(MINE), 20)])
        assert (found.state, bool(found.next_step)) == ("warning", True), found
