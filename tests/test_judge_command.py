"""`nightshift judge`: a table in, a verdict with its path out, and an exit code that no script takes for a pass."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core.watch_counts import BUCKETS
from deployments.command.main import build_app
from tests.fix_counts import plain_day, with_bad
from tests.recorded_days import write_day

HEALTHY = plain_day()
WORSE = with_bad(plain_day(), 200, BUCKETS, 12)


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(build_app(["judge"]), ["judge", *arguments], input=given)


def test_a_healthy_day_ends_with_0_and_says_what_would_have_been_found(tmp_path: Path) -> None:
    result = run(str(write_day(tmp_path, errors=HEALTHY)))
    assert result.exit_code == 0, result.output
    assert result.output.startswith("healthy\n")
    assert "would have been found" in result.output


def test_a_worse_day_ends_with_1_and_says_when(tmp_path: Path) -> None:
    result = run(str(write_day(tmp_path, errors=WORSE, latency=HEALTHY)), "--path")
    assert result.exit_code == 1, result.output
    assert result.output.startswith("degraded\n")
    # Bucket 200 begins at 16:40.
    assert "26 17:" in result.output
    assert "E after each hour" in result.output


def test_what_is_neither_ends_with_3(tmp_path: Path) -> None:
    day = write_day(tmp_path, errors=plain_day(requests=1, bad=0))
    assert run(str(day)).exit_code == 3


def test_as_json_it_has_the_whole_path_and_no_number_that_json_lacks(tmp_path: Path) -> None:
    result = run(str(write_day(tmp_path, errors=WORSE, dead=plain_day(bad=0))), "--json")
    document = json.loads(result.output, parse_constant=pytest.fail)
    assert document["verdict"] == "degraded"
    by_name = {one["metric"]: one for one in document["metrics"]}
    assert len(by_name["errors"]["process"]) == BUCKETS
    assert by_name["errors"]["alarm"] > "2026-11-26 16:45"
    assert by_name["dead"]["detectable_factor"] is None


def test_the_table_may_come_from_standard_input(tmp_path: Path) -> None:
    text = write_day(tmp_path, errors=HEALTHY).read_text()
    assert run("-", given=text).exit_code == 0


@pytest.mark.parametrize("text", ["", "a,b\n", "\x00\xff"])
def test_what_is_no_table_is_refused_naming_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "day.csv"
    file.write_text(text, encoding="latin-1")
    result = run(str(file))
    assert result.exit_code == 1
    assert "could not read the recorded day" in str(result.exception)
    assert "day.csv" in str(result.exception)


def test_a_file_that_is_not_there_is_named() -> None:
    assert "none.csv" in str(run("none.csv").exception)
