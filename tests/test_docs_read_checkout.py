"""What the pages have a person type who begins, or who works on nightshift: help, keys, lint, tests, benchmarks."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.fix_reader_home import Home
from tests.leave_out import leave_out

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]


@pytest.mark.parametrize(
    ("page", "line", "packages"),
    [
        ("quickstart.md", "apt-get install make git python3.11-venv", {}),
        ("README.md", "apt-get install make python3.11-venv", {}),
        ("quickstart.md", "apt-get install postgresql-client-N", {"postgresql-client-N": "postgresql-client-15"}),
    ],
)
def test_what_a_fresh_debian_lacks(home: Home, page: str, line: str, packages: dict[str, str]) -> None:
    """What is there already stays as it is."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        leave_out("not root on a Debian")
    no_newer = {"apt-get install": "apt-get install --no-upgrade"}
    home.reader.types(page, line, answers="y\n", stands_for={**no_newer, **packages})


def test_help_and_keys(home: Home) -> None:
    reader = home.reader
    assert "Every day" in reader.types("README.md", "nightshift --help")
    assert len(reader.types("environments.md", "openssl rand -hex 32").strip()) == 64
    assert "BEGIN PRIVATE KEY" in reader.types("environments.md", "openssl genpkey -algorithm ed25519")


def test_who_is_told(home: Home) -> None:
    reader, page = home.reader, "quickstart.md"
    block = (
        "from prefect.blocks.notifications import SlackWebhook; SlackWebhook(url='http://127.0.0.1:9/').save('oncall')"
    )
    reader.types(page, ". .nightshift/server/client.env")
    made = reader.shell(f'python -c "{block}"')
    assert made.returncode == 0, made.stderr
    assert "They tell slack-webhook/oncall." in reader.types(
        page, "nightshift automations --notify slack-webhook/oncall"
    )
    assert "Nobody is told" in reader.shell("nightshift automations --notify none").stdout


def test_the_page_of_every_setting(home: Home) -> None:
    """It is as it is made."""
    reader = home.reader.opens("settings")
    reader.types("environments.md", "python -m deployments.environment_reference")
    assert reader.shell("git status --porcelain docs").stdout == ""


def test_lint(home: Home) -> None:
    home.reader.opens("lint").types("README.md", "make lint", seconds=580)


# Few of them in place of all, or only their names. Not in the tests' own names: `-k` would find those.
TESTS = {
    "make test": "-k test_docs_links",
    "make test-cluster": "--collect-only",
}


@pytest.mark.parametrize("line", TESTS)
def test_the_tests(home: Home, line: str) -> None:
    terminal = home.reader.opens(line.replace(" ", "-"), PYTEST_ADDOPTS=TESTS[line])
    said = terminal.types("README.md", line, seconds=580)
    assert " tests collected" in said or " passed" in said, said


@pytest.mark.parametrize(
    ("line", "small"),
    [
        (".venv/bin/python -m benchmarks.backup --mib 1024 --pairs 5", {"1024": "8", "5": "1"}),
        (".venv/bin/python -m benchmarks.retention --backups 100000", {"100000": "10000"}),
        (".venv/bin/python -m benchmarks.restore --mib 1024 --pairs 5", {"1024": "8", "5": "1"}),
        (".venv/bin/python -m benchmarks.judgement --days 4000", {"4000": "100 --naive-days 20"}),
        (".venv/bin/python -m benchmarks.watch --ticks 7", {"7": "1"}),
        (".venv/bin/python -m benchmarks.webhook --seconds 30", {"30": "2"}),
        (
            ".venv/bin/python -m benchmarks.server",
            {"benchmarks.server": "benchmarks.server --runs 3 --steps 2 --seconds 1"},
        ),
        (".venv/bin/python -m benchmarks.fleet", {"benchmarks.fleet": "benchmarks.fleet --databases 2 --mib 1"}),
    ],
)
def test_a_benchmark_in_small(home: Home, line: str, small: dict[str, str]) -> None:
    """It comes to its end and prints its figures; so small, and beside other tests, they may miss their bars."""
    typed = {line: f"{line}; [ $? -le 1 ]", **small}
    said = home.reader.opens("benchmarks").types("performance.md", line, stands_for=typed, seconds=580)
    [figures] = [one for one in said.splitlines() if one.startswith('{"benchmark"')]
    assert json.loads(figures)["ratios"]
