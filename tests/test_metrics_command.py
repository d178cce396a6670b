"""`nightshift metrics`: what it tells of a bucket, of a broken one and a forged one, and the ways in which it tells it."""

import socket
import threading
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.keys import evidence_head_key, evidence_key, release_closed_key
from deployments.command.metrics import metrics_command
from tasks.environments import load_environment
from tasks.kept_reads import KeptReads
from tasks.metrics_registry import Refreshed, look_at_all
from tasks.own_metrics import read_environment
from tasks.sealed import sealed_bytes
from tests.fix_keeping import PROVEN, STRANGE_KEY, id_of, sample_table
from tests.fix_metrics import Metered, Told, drill_facts, names_of, told, value, write_environment
from tests.fix_object_store import FaultProxy, S3Server

app = typer.Typer()
app.command("metrics")(metrics_command)
APP = {"environment": "local", "database": "app"}
NIGHTLY = {"environment": "local", "flow": "nightly-backup"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def fill(metered: Metered) -> None:
    """A week as it should be."""
    for days in (1.2, 0.2):
        metered.keeping.add(id_of(days), "proven" if days > 1 else "decoded", tables=(sample_table("t", "full"),))
    metered.ran("nightly-backup", 28)
    metered.ran("dr-drill", 27, facts=drill_facts(fetch=1500, restore=30000))
    metered.ran("nightly-backup", 4, minutes=6)
    metered.closed("r-000000000001", "released", 40)
    metered.watched("r-000000000001", "healthy", 16)
    metered.closed("r-000000000002", "rolled back", 10)
    metered.closed("b-000000000003", "rolled back", 12, kind="rollback")


def test_what_the_bucket_says_is_printed(metered: Metered) -> None:
    fill(metered)
    result = run("local")
    assert result.exit_code == 0, result.output
    found = told(result.stdout)
    assert value(found, "up", environment="local") == 1
    assert value(found, "recovery_point_timestamp_seconds", **APP) == pytest.approx(
        metered.ago(4.8).timestamp(), abs=60
    )
    assert value(found, "proof_timestamp_seconds", **APP) == pytest.approx(metered.ago(28.8).timestamp(), abs=60)
    assert value(found, "recovery_point_objective_seconds", **APP) == 26 * 3600
    assert value(found, "proof_objective_seconds", **APP) == 50 * 3600
    assert value(found, "backup_stored_bytes", **APP) == 8
    assert value(found, "backup_plain_bytes", **APP) == 32
    assert value(found, "backup_rows", **APP) == 0
    assert value(found, "backup_duration_seconds", **APP) == 180
    assert [value(found, "backups", **APP, state=one) for one in ("uploaded", "decoded", "proven")] == [0, 1, 1]
    assert value(found, "evidence_reports", environment="local") == 3
    assert value(found, "flow_last_run_timestamp_seconds", **NIGHTLY) == metered.ago(4).timestamp()
    assert value(found, "flow_last_run_duration_seconds", **NIGHTLY) == 360
    assert value(found, "flow_last_run_verdict", **NIGHTLY, verdict="passed") == 1
    assert value(found, "flow_last_run_verdict", **NIGHTLY, verdict="failed") == 0
    success = value(found, "flow_last_success_timestamp_seconds", **NIGHTLY, database="app")
    assert success == metered.ago(3.9).timestamp()
    assert value(found, "drill_recovery_seconds", **APP, phase="restore") == 30
    assert value(found, "drill_outcome", **APP, outcome="proven") == 1
    release = {"environment": "local", "kind": "release"}
    assert value(found, "recent_releases", **release, outcome="released") == 1
    assert value(found, "recent_releases", **release, outcome="rolled back") == 1
    assert value(found, "recent_releases", **release, outcome="held") == 0
    assert value(found, "release_last_outcome", **release, outcome="rolled back") == 1
    assert value(found, "release_last_duration_seconds", **release) == 20 * 60
    assert value(found, "releases_open", environment="local") == 0
    assert value(found, "recent_watches", environment="local", verdict="healthy") == 1
    assert value(found, "watch_last_verdict", environment="local", verdict="healthy") == 1
    assert {value(found, "distrusted_objects", environment="local", kind=one) for one in ("backup", "evidence")} == {0}
    # Neither a host nor a bucket nor a secret.
    for word in ("db.internal.example", metered.keeping.store.bucket, "127.0.0.1", "testing", "long enough"):
        assert word not in result.stdout


def open_of(found: Told) -> list[float | None]:
    """How many watches go on, and how many are in which state."""
    states = ("degraded", "suspect", "blind", "stands still")
    troubled = [value(found, "watches_open_troubled", environment="local", state=one) for one in states]
    return [value(found, "watches_open", environment="local"), *troubled]


def test_a_watch_that_goes_on_is_told_before_its_end(metered: Metered) -> None:
    fill(metered)
    none = told(run("local").stdout)
    assert open_of(none) == [0, 0, 0, 0, 0]
    assert value(none, "watch_open_timestamp_seconds", environment="local") is None
    metered.watching("r-00000000000a", 5, looked=0.05)
    well = told(run("local").stdout)
    assert open_of(well) == [1, 0, 0, 0, 0]
    assert value(well, "watch_open_looked_timestamp_seconds", environment="local") == metered.ago(0.05).timestamp()
    assert value(well, "watch_open_blind_timestamp_seconds", environment="local") is None
    metered.watching("r-00000000000b", 6, looked=0.05, known=2, told=("degraded",))
    metered.watching("r-00000000000c", 9, looked=3, told=("unreached-010",))
    found = told(run("local").stdout)
    assert open_of(found) == [3, 1, 1, 1, 1]
    assert value(found, "watch_open_timestamp_seconds", environment="local") == metered.ago(9).timestamp()
    assert value(found, "watch_open_looked_timestamp_seconds", environment="local") == metered.ago(3).timestamp()
    assert value(found, "watch_open_blind_timestamp_seconds", environment="local") == metered.ago(2).timestamp()
    metered.watched("r-00000000000b", "degraded", 0)
    assert open_of(told(run("local").stdout)) == [2, 0, 1, 0, 1]


def test_of_a_watch_whose_last_look_is_forged_nothing_is_told_but_that(metered: Metered) -> None:
    folder = metered.watching("r-00000000000a", 5)
    metered.keeping.store.put(f"{folder}tick-288-288.json", b"{}")
    found = told(run("local").stdout)
    assert open_of(found) == [0, 0, 0, 0, 0]
    assert value(found, "distrusted_objects", environment="local", kind="watch") == 1


def test_before_the_first_backup_the_objectives_are_told_and_no_age(metered: Metered) -> None:
    result = run("local")
    assert result.exit_code == 0, result.output
    found = told(result.stdout)
    assert value(found, "up", environment="local") == 1
    assert value(found, "recovery_point_objective_seconds", **APP) == 26 * 3600
    assert value(found, "recovery_point_timestamp_seconds", **APP) is None
    assert value(found, "evidence_reports", environment="local") == 0
    assert value(found, "distrusted_objects", environment="local", kind="evidence") == 0
    assert not {one for one in names_of(found, "local") if "last_run" in one or "success" in one}


@pytest.mark.parametrize("status", [403, pytest.param(503, marks=pytest.mark.services)])
def test_a_bucket_that_cannot_be_read_is_down_and_nothing_else_is_told_of_it(
    metered: Metered, s3_faults: FaultProxy, s3_server: S3Server, tmp_path: Path, status: int
) -> None:
    fill(metered)
    # Whatever it was that failed, if only the last request: half of the truth is not told.
    s3_faults.refuse("GET", "%2Freleases%2F", times=100, status=status)
    write_environment(tmp_path, "other", metered.keeping.store.bucket, s3_server.endpoint)
    result = run("local", "other")
    assert result.exit_code == 1
    found = told(result.stdout)
    assert value(found, "up", environment="local") == 0
    assert names_of(found, "local") == {"nightshift_up"}
    assert value(found, "up", environment="other") == 1
    assert value(found, "recovery_point_objective_seconds", environment="other", database="app") == 26 * 3600
    assert len(result.stderr.strip().splitlines()) == 1
    assert "nightshift: local: could not" in result.stderr


def test_a_forged_report_is_no_success_and_is_counted(metered: Metered) -> None:
    fill(metered)
    newest = metered.ran("nightly-backup", 1)
    forged = newest.model_copy(update={"finished": metered.now})
    metered.keeping.store.put(evidence_key("local", newest.sequence), sealed_bytes(forged, STRANGE_KEY))
    found = told(run("local").stdout)
    assert value(found, "distrusted_objects", environment="local", kind="evidence") == 1
    success = value(found, "flow_last_success_timestamp_seconds", **NIGHTLY, database="app")
    assert success == metered.ago(3.9).timestamp()


@pytest.mark.services
def test_a_report_in_the_place_of_another_is_none(metered: Metered) -> None:
    fill(metered)
    good = metered.keeping.store.get(evidence_key("local", 1))
    metered.keeping.store.put(evidence_key("local", 3), good)
    found = told(run("local").stdout)
    assert value(found, "distrusted_objects", environment="local", kind="evidence") == 1
    assert value(found, "flow_last_run_timestamp_seconds", **NIGHTLY) == metered.ago(28).timestamp()


@pytest.mark.services
@pytest.mark.parametrize("key", [evidence_key("local", 3), evidence_key("local", 1), evidence_head_key("local")])
def test_what_was_removed_from_the_chain_is_counted(metered: Metered, key: str) -> None:
    fill(metered)
    metered.keeping.store.delete([key])
    assert value(told(run("local").stdout), "distrusted_objects", environment="local", kind="evidence") == 1


@pytest.mark.services
def test_a_head_that_is_forged_hides_no_report(metered: Metered) -> None:
    fill(metered)
    metered.keeping.store.put(evidence_head_key("local"), b"{}")
    found = told(run("local").stdout)
    assert value(found, "distrusted_objects", environment="local", kind="evidence") == 1
    assert value(found, "evidence_reports", environment="local") == 3
    assert value(found, "flow_last_run_timestamp_seconds", **NIGHTLY) == metered.ago(4).timestamp()


@pytest.mark.services
def test_a_forged_backup_is_no_recovery_point_and_a_forged_release_none(metered: Metered) -> None:
    fill(metered)
    planted = metered.keeping.add(id_of(0.01), "decoded", key=STRANGE_KEY)
    metered.keeping.store.put(metered.keeping.folder(planted) + PROVEN, b"{}")
    metered.keeping.store.put(release_closed_key("local", "r-000000000002"), b"{}")
    found = told(run("local").stdout)
    assert value(found, "recovery_point_timestamp_seconds", **APP) == pytest.approx(
        metered.ago(4.8).timestamp(), abs=60
    )
    assert value(found, "distrusted_objects", environment="local", kind="backup") == 1
    assert value(found, "distrusted_objects", environment="local", kind="release") == 1
    assert value(found, "release_last_outcome", environment="local", kind="release", outcome="released") == 1


def test_a_release_without_an_end_is_open_and_one_that_was_refused_is_not(metered: Metered) -> None:
    metered.planned("r-000000000001")
    metered.ran("release", 0, states={"r-000000000001": "failed"}, names={"r-000000000001": "take the lease"})
    assert value(told(run("local").stdout), "releases_open", environment="local") == 0
    metered.planned("r-000000000002")
    metered.ran("release", 0, states={"r-000000000002": "failed"}, names={"r-000000000002": "take over"})
    found = told(run("local").stdout)
    assert value(found, "releases_open", environment="local") == 1
    assert value(found, "release_open_timestamp_seconds", environment="local") == pytest.approx(
        metered.now.timestamp(), abs=120
    )
    metered.planned("r-000000000003")
    assert value(told(run("local").stdout), "releases_open", environment="local") == 2


@pytest.mark.services
def test_what_stays_the_same_is_not_read_twice(metered: Metered, s3_faults: FaultProxy) -> None:
    fill(metered)
    environment, kept, counts = load_environment("local"), KeptReads(), []
    for _ in range(2):
        s3_faults.requests.clear()
        found = read_environment(environment, kept, metered.now)
        counts.append(len(s3_faults.requests))
    # A LIST of the database, manifest and state of two backups; head, LIST, three reports; LIST, three ends, one watch; LIST of the watches.
    assert counts == [5 + 5 + 5 + 1, 5 + 2 + 1 + 1]
    assert len(found.runs) == 3
    metered.ran("nightly-backup", 1)
    metered.closed("r-000000000002", "released", 1)
    s3_faults.requests.clear()
    again = read_environment(environment, kept, metered.now)
    assert len(again.runs) == 4
    assert {one.outcome for one in again.closed if one.kind == "release"} == {"released"}


@pytest.mark.services
def test_only_the_newest_hundred_reports_are_read(
    metered: Metered, s3_faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.own_metrics.REPORTS_READ", 4)
    for hours in range(9, 2, -1):
        metered.ran("nightly-backup", hours)
    s3_faults.requests.clear()
    found = read_environment(load_environment("local"), KeptReads(), metered.now)
    assert (found.head, [run.sequence for run in found.runs]) == (7, [4, 5, 6, 7])
    assert found.distrusted["evidence"] == 0
    assert s3_faults.count("GET", "/evidence/") == 4
    metered.keeping.store.delete([evidence_key("local", 4)])
    assert read_environment(load_environment("local"), KeptReads(), metered.now).distrusted["evidence"] == 1


@pytest.mark.services
def test_scrapes_at_once_and_within_a_minute_read_the_bucket_once(metered: Metered, s3_faults: FaultProxy) -> None:
    fill(metered)
    kept = KeptReads()
    refreshed = Refreshed("local", lambda: read_environment(load_environment("local"), kept, metered.now))
    together, seen = threading.Barrier(8), []

    def scrape() -> None:
        together.wait()
        seen.append(look_at_all([refreshed], 30)[0])

    s3_faults.requests.clear()
    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    look_at_all([refreshed], 30)
    assert len(seen) == 8
    assert len({id(one) for one in seen}) == 1
    assert s3_faults.count("GET", "list-type") == 4


def test_an_environment_that_is_not_there_is_told_before_anything_is_read(
    metered: Metered, s3_faults: FaultProxy
) -> None:
    s3_faults.requests.clear()
    result = run("local", "nowhere")
    assert isinstance(result.exception, ConfigurationError)
    assert s3_faults.requests == []


def test_a_textfile_is_written_in_one_step_or_stays_as_it_was(metered: Metered, tmp_path: Path) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    file = folder / "nightshift.prom"
    assert run("local", "--textfile", str(file)).exit_code == 0
    before = file.read_text()
    assert value(told(before), "up", environment="local") == 1
    assert [one.name for one in folder.iterdir()] == ["nightshift.prom"]
    result = run("local", "--textfile", str(folder / "nightshift.txt"))
    assert "node_exporter reads files whose names end in .prom" in str(result.exception)
    assert isinstance(run("local", "--textfile", str(tmp_path / "gone" / "a.prom")).exception, ConfigurationError)
    assert file.read_text() == before


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:70000", "127.0.0.1:", "http://127.0.0.1:9464", "a b:1"])
def test_an_address_that_is_none_is_refused(metered: Metered, address: str) -> None:
    result = run("local", "--listen", address)
    assert isinstance(result.exception, ConfigurationError)
    assert "HOST:PORT" in str(result.exception)


def test_a_port_that_is_taken_is_told(metered: Metered) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("local", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert isinstance(result.exception, PermanentError)
    assert "Address already in use. Give --listen another address" in str(result.exception)


@pytest.mark.parametrize(
    ("gateway", "kind", "words"),
    [
        ("http://somebody:secret@127.0.0.1:9091", ConfigurationError, "holds no user, password or query"),
        ("127.0.0.1:9091", ConfigurationError, "begins with http"),
        ("http://127.0.0.1:9", TemporaryError, "Connection refused"),
    ],
)
def test_a_gateway_that_cannot_be_pushed_to_is_told(
    metered: Metered, gateway: str, kind: type[NightshiftError], words: str
) -> None:
    result = run("local", "--push", gateway)
    assert isinstance(result.exception, kind)
    assert words in str(result.exception)
    assert "secret" not in str(result.exception)


def test_one_way_at_a_time(metered: Metered) -> None:
    result = run("local", "--listen", "127.0.0.1:0", "--push", "http://127.0.0.1:9091")
    assert "exclude each other" in str(result.exception)
