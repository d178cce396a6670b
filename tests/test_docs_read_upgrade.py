"""docs/operating.md, *Upgrade* and *Back up Prefect's own database*, as a reader types them: to a new version, back to the one before, and a conflict."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.command.new_environment import deployment_entry
from tests.fix_reader import commit, git
from tests.fix_reader_home import Home

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]
PAGE, QUICK = "operating.md", "quickstart.md"
PULL = "git pull --rebase --autostash"


def test_an_upgrade_and_the_way_back(home: Home) -> None:
    reader = home.reader
    waiting, runs, schedules = open_swap(home), home.runs("nightly-backup"), scheduled(home)
    assert schedules
    first = installed(home)
    # The new version changes prefect.yaml too.
    comes_out(home, "9.9.9", ("\nname: nightshift\n", "\nname: nightshift  # 9.9.9\n"))

    reader.types(PAGE, "make down")
    reader.types(PAGE, PULL)
    reader.types(PAGE, "make install", seconds=580)
    up(home)
    kept = max(home.server.backups.iterdir())
    reader.types(PAGE, ". .nightshift/server/client.env")
    reader.types(PAGE, "prefect --no-prompt deploy --name '*/production'", seconds=300)
    reader.types(PAGE, "nightshift automations")
    assert keeps_what_init_added(home) and "# 9.9.9" in prefect_yaml(home)
    assert (home.runs("nightly-backup"), scheduled(home)) == (runs, schedules)
    # One more copy, beside the running server.
    copy = Path(reader.ends(PAGE, ".venv/bin/python -m deployments.local.prefect_database").stdout.strip())
    assert copy.parent == home.server.backups and copy.stat().st_size > 0 and copy != kept
    # What waited is answered in the new version.
    home.resumes(waiting, {"database_name": "shop", "approver": "Ada", "reason": "INC-7"})
    reader.types(QUICK, "nightshift backup mine")
    assert (installed(home), newest_backups_version(home)) == ("9.9.9", "9.9.9")

    reader.types(PAGE, "make down")
    example = "prefect-3.8.8-2026-11-27T02-00-00-000000Z.db"
    line = f"cp .nightshift/server/backups/{example} .nightshift/server/prefect/prefect.db"
    reader.types(PAGE, line, stands_for={example: kept.name})
    reader.types(PAGE, "rm -f .nightshift/server/prefect/prefect.db-wal .nightshift/server/prefect/prefect.db-shm")
    reader.types(PAGE, "git checkout --merge ORIG_HEAD")
    reader.types(PAGE, "make install", seconds=580)
    up(home)
    # As it was: the run since is not in it, and what was answered since waits again.
    assert (home.runs("nightly-backup"), scheduled(home)) == (runs, schedules)
    assert home.ask("GET", f"/flow_runs/{waiting}")["state_type"] == "PAUSED"
    assert keeps_what_init_added(home) and "# 9.9.9" not in prefect_yaml(home)
    reader.types(PAGE, "nightshift status")
    reader.types(QUICK, "nightshift backup mine")
    assert (installed(home), newest_backups_version(home)) == (first, first)
    home.ask("POST", f"/flow_runs/{waiting}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    reader.types(PAGE, "git checkout --merge main")
    assert keeps_what_init_added(home) and "# 9.9.9" in prefect_yaml(home)


def test_a_new_version_that_has_something_at_the_same_place(home: Home) -> None:
    """At the end of prefect.yaml, where `nightshift init` adds too, with lines that are the same as its: both are kept, whole."""
    reader = home.reader
    text = (reader.root / "source/prefect.yaml").read_text()
    last = text[text.rindex("\n  - <<: ") :]
    comes_out(home, "9.9.10", (last, f"{last}\n{deployment_entry('dr-drill', 'new', 'Europe/Berlin')}"))
    before = entries(home)
    assert "Applying autostash resulted in conflicts" in reader.types(PAGE, PULL)
    reader.types(PAGE, "git checkout --conflict=diff3 prefect.yaml")
    file = reader.checkout / "prefect.yaml"
    lines = file.read_text().splitlines(keepends=True)
    marks = [one for one in lines if one.startswith(("<<<<<<<", "|||||||", "=======", ">>>>>>>"))]
    assert len(marks) == 4
    assert lines.index(marks[1]) + 1 == lines.index(marks[2])
    file.write_text("".join(one for one in lines if one not in marks))
    reader.types(PAGE, "git add prefect.yaml")
    reader.types(PAGE, "git stash drop")
    assert reader.shell("git stash list").stdout == ""
    [new] = [one for one in entries(home) if one not in before]
    assert (new["name"], [one["cron"] for one in new["schedules"]]) == ("new", ["0 4 * * *"])
    assert [one for one in entries(home) if one != new] == before
    # The next one finds nothing in its way.
    comes_out(home, "9.9.11", ("\npull: []\n", "\npull: []  # 9.9.11\n"))
    assert "conflict" not in reader.types(PAGE, PULL)
    assert "# 9.9.11" in prefect_yaml(home) and entries(home) == [*before[:-2], new, *before[-2:]]
    # Here and now, not by the next test's first `make`.
    reader.types(PAGE, "make install", seconds=580)
    assert installed(home) == "9.9.11"


def up(home: Home) -> None:
    home.reader.types(PAGE, "make up", stands_for=home.reader.up)


def open_swap(home: Home) -> str:
    """A run that waits for a person."""
    admin = {"host": "127.0.0.1", "port": home.postgres.port, "user": home.postgres.superuser}
    home.add(servers={"new": {**admin, "password": "env:READERS_ADMIN_PASSWORD"}})
    line = "nightshift restore production app --backup newest-decoded --swap"
    home.reader.types("restore.md", line, code=3)
    return home.runs("restore")[0]


def comes_out(home: Home, version: str, change: tuple[str, str]) -> None:
    """A new version is published, with a change of its prefect.yaml."""
    source = home.reader.root / "source"
    before = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    number = (f'version = "{before}"', f'version = "{version}"')
    for name, (old, new) in {"pyproject.toml": number, "prefect.yaml": change}.items():
        text = (source / name).read_text()
        assert text.count(old) == 1, name
        (source / name).write_text(text.replace(old, new))
    commit(source, version)
    git(source, "push", "--quiet", "origin", "main")


def prefect_yaml(home: Home) -> str:
    return (home.reader.checkout / "prefect.yaml").read_text()


def entries(home: Home) -> list[dict[str, Any]]:
    """Every deployment of the reader's prefect.yaml."""
    found: list[dict[str, Any]] = yaml.safe_load(prefect_yaml(home))["deployments"]
    return found


def keeps_what_init_added(home: Home) -> bool:
    """Whether each of the environment's deployments is there once."""
    return [one["name"] for one in entries(home)].count("mine") == 2


def scheduled(home: Home) -> list[tuple[str, bool]]:
    """The schedules of the backup, as the server has them."""
    found = home.ask("GET", "/deployments/name/nightly-backup/mine")["schedules"]
    return [(one["schedule"]["cron"], one["active"]) for one in found]


def installed(home: Home) -> str:
    """Which version is installed."""
    asked = "python -c 'import importlib.metadata as m; print(m.version(\"nightshift\"))'"
    return home.reader.shell(asked).stdout.strip()


def newest_backups_version(home: Home) -> Any:
    """The version that made the newest backup, by its manifest."""
    manifests = {key: body for key, body in home.objects().items() if key.endswith("/manifest.json")}
    newest = max(manifests, key=lambda key: key.split("/")[-2])
    return json.loads(manifests[newest])["document"]["tools"]["nightshift"]
