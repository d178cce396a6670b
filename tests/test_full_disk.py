"""Disks that fill up in the middle of a restore or a drill: one line that says which and what to do, and nothing is left."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from deployments.command.disk_probes import disk_probes
from deployments.command.probes import run_probes
from tasks.restore_backup import restore_backup
from tests.fix_nightly import Night
from tests.fix_object_store import environment_for
from tests.leave_out import leave_out_mount

# Each some tens of seconds: make test-services.
pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("prefect"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk"),
]
# About 29 MiB as a dump, and 33 MiB as a table.
BIG = "CREATE TABLE big AS SELECT n, md5(n::text) || md5((n * 7)::text) AS noise FROM generate_series(1, 400000) AS n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A factory: given a size in MiB, return the folder on which a disk of that size is mounted until the test's end."""
    mounted: list[Path] = []

    def mount(mib: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir(mode=0o755)
        command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0755", "tmpfs", folder]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            leave_out_mount("disks cannot be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize(
    ("mib", "run", "said"),
    [
        (16, "restore", "the disk was full before all"),
        (8, "drill", "could not run initdb"),
        (48, "drill", "the disk was full before all"),
        (96, "drill", "No space left on device"),
    ],
)
def test_a_disk_that_fills_up_is_named_and_nothing_is_left(  # noqa: PLR0917 - fixtures
    night: Night, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, mib: int, run: str, said: str
) -> None:
    # Others fill the disk too: what was free before is not free any more.
    wrapped = cast("Any", restore_backup).__wrapped__
    monkeypatch.setitem(wrapped.__kwdefaults__, "free", lambda _folder: 1 << 40)
    night.server.execute(night.names["first"], BIG)
    assert night.run(databases=["first"]).is_completed()
    disk = small_disk(mib)
    night.settings["restore"] = {"spool_reserve_mib": 16, "spool_directory": str(disk)}
    state = (
        night.restore(backup="newest-decoded", target="copy_of_first")
        if run == "restore"
        else night.drill(databases=["first"])
    )
    message = str(state.message)
    assert state.is_failed(), message
    assert said in message
    assert "\n" not in message
    assert list(disk.iterdir()) == []
    with night.server.connect() as session:
        left = session.execute(
            "SELECT datname FROM pg_database WHERE datname ~ '^(nightshift_|copy_of_first)'"
        ).fetchall()
    assert left == []


@pytest.mark.parametrize(("mib", "state"), [(8, "failed"), (96, "warning")])
def test_check_tells_of_a_small_disk_before_anything_is_restored(
    small_disk: Callable[[int], Path], mib: int, state: str
) -> None:
    disk = small_disk(mib)
    environment = environment_for("bucket-name", "http://127.0.0.1:1")
    restore = environment.restore.model_copy(update={"spool_directory": str(disk)})
    [[check], *_] = run_probes(disk_probes(environment.model_copy(update={"restore": restore})))
    assert check.state == state, check
    assert check.found.startswith(f"{disk}: {mib}.0 MiB free")
    assert list(disk.iterdir()) == []
