"""The check of the spool, on real folders."""

from pathlib import Path

import pytest

from core.environment_database import Database
from tasks.preflight_spool import check_spool


def database(jobs: int, folder: Path, reserve_mib: int = 16) -> Database:
    return Database(host="h", name="n", user="u", jobs=jobs, spool_directory=str(folder), spool_reserve_mib=reserve_mib)


def test_one_job_needs_no_spool(tmp_path: Path) -> None:
    assert list(check_spool("app", database(1, tmp_path / "missing"))) == []


def test_a_spool_with_room_passes_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    [check] = check_spool("app", database(4, tmp_path))
    assert (check.name, check.state) == ("app: spool", "passed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_spool_that_cannot_be_written_fails_before_the_dump(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind == "file":
        folder.touch()
    [check] = check_spool("app", database(4, folder))
    assert check.state == "failed"
    assert str(folder) in check.found
    assert "spool_directory of [databases.app]" in check.next_step


def test_a_disk_with_less_than_the_reserve_fails(tmp_path: Path) -> None:
    [check] = check_spool("app", database(4, tmp_path, reserve_mib=2**40))
    assert check.state == "failed"
    assert "spool_reserve_mib" in check.next_step
