"""`nightshift watches`: how the watches stand that go on, by the bucket alone, what is next, and exit codes that a script can go by."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from core.keys import watch_folder
from deployments.command.watches import watches_command
from tests.fix_metrics import Metered, write_environment
from tests.fix_object_store import FaultProxy

app = typer.Typer()
app.command("watches")(watches_command)
RELEASE = "r-00000000000a"


@pytest.fixture
def watched(metered: Metered, tmp_path: Path, s3_faults: FaultProxy) -> Metered:
    """The same with a table [watch]."""
    release = {"namespace": "shop", "control_namespace": "nightshift", "repository": "registry.test/hello"}
    more = {"release": {**release, "workloads": [{"name": "hello"}]}, "watch": {}, "timezone": "Europe/Berlin"}
    write_environment(tmp_path, "local", metered.keeping.store.bucket, s3_faults.endpoint, **more)
    return metered


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["local", *arguments], env={"COLUMNS": "200"})


def first(result: Result) -> dict[str, object]:
    (found,) = json.loads(result.stdout)["watches"]
    return dict(found)


def test_without_a_watch_it_says_so(watched: Metered) -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (0, "local: no watch goes on, and no sign-off is open\n")


def test_a_watch_that_goes_on_is_told_with_its_verdict_so_far_and_what_is_next(watched: Metered) -> None:
    watched.watching(RELEASE, 5, looked=0.05)
    result = run()
    assert result.exit_code == 0, result.output
    assert "59 of 288" in result.stdout
    assert "goes on" in result.stdout
    assert f"{RELEASE}: so far insufficient: errors: 1 release-free days to compare with" in result.stdout
    assert "next: a look every five minutes; it is watched until" in result.stdout
    found = first(run("--json"))
    assert (found["states"], found["closed"], found["well"], found["blind_since"]) == ([], 59, True, None)


def test_one_that_is_worse_and_blind_is_told_with_the_way_back(watched: Metered) -> None:
    watched.watching(RELEASE, 6, looked=0.05, known=2, told=("degraded",))
    result = run()
    assert result.exit_code == 1
    assert "degraded, blind" in result.stdout
    assert "it is worse" in result.stdout
    assert f"next: nightshift rollback local --release {RELEASE}, or release a mend" in result.stdout
    assert first(run("--json"))["states"] == ["degraded", "blind"]


@pytest.mark.parametrize("looked", [None, 2.0])
def test_one_whose_looks_do_not_come_stands_still(watched: Metered, looked: float | None) -> None:
    watched.watching(RELEASE, 3, looked=looked)
    result = run()
    assert (result.exit_code, "stands still" in result.stdout) == (1, True), result.output
    assert "see that the Prefect server and worker run" in result.stdout


def test_one_that_is_stopped_says_why_it_ends(watched: Metered) -> None:
    watched.watching(RELEASE, 5, looked=0.05, told=("stopped",))
    result = run()
    assert (result.exit_code, "it is ended by its next look" in result.stdout) == (0, True)


def test_one_that_ended_and_nobody_signed_off_waits_for_a_person(watched: Metered) -> None:
    watched.watching(RELEASE, 26, looked=2)
    watched.watched(RELEASE, "healthy", 2)
    result = run()
    assert (result.exit_code, "healthy, not signed off" in result.stdout) == (3, True), result.output
    watched.watching(RELEASE, 26, looked=2, told=("signed-off",))
    assert run().exit_code == 0


def test_a_record_that_was_changed_is_named_and_hides_no_other(watched: Metered) -> None:
    watched.watching("r-00000000000b", 5, looked=0.05)
    folder = watched.watching(RELEASE, 5, looked=0.05)
    watched.keeping.store.put(f"{folder}tick-288-288.json", b"{}")
    result = run()
    assert result.exit_code == 1
    assert f"{RELEASE}: could not verify the watch's tick-288-288" in result.stdout
    assert "59 of 288" in result.stdout
    assert watch_folder("local", RELEASE) in result.stdout
