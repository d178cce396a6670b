"""docs/operating.md, *From boot on*: as it stands there, on a machine that is a folder; then the server of one machine at other places."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fix_reader_home import Home
from tests.leave_out import leave_out

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]


@pytest.fixture
def machine(home: Home) -> Path:
    """A folder that stands for a machine, for programs of Debian that can work on one."""
    folder = home.reader.root / "machine"
    (folder / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group", "shadow", "gshadow"):
        (folder / "etc" / name).touch()
    return folder


def here(machine: Path) -> dict[str, str]:
    """What stands for the machine itself."""
    return {"useradd": f"/usr/sbin/useradd --prefix {machine}", "/etc/systemd": f"{machine}/etc/systemd",
            "systemctl enable --now": f"systemctl --root={machine} enable"}  # fmt: skip


def test_the_user_and_the_unit_of_a_machine(home: Home, machine: Path) -> None:
    line = "useradd --system --home-dir /var/lib/nightshift nightshift"
    home.reader.types("operating.md", line, stands_for=here(machine))
    assert "nightshift:" in (machine / "etc/passwd").read_text()
    line = "cp deployments/systemd/nightshift.service /etc/systemd/system/"
    home.reader.types("operating.md", line, stands_for=here(machine))
    assert (machine / "etc/systemd/system/nightshift.service").is_file()


def test_the_unit_is_enabled_from_boot_on_and_right(home: Home, machine: Path) -> None:
    if shutil.which("systemctl") is None:
        leave_out("no systemctl")
    reader = home.reader
    reader.types("operating.md", "systemctl enable --now nightshift", stands_for=here(machine))
    assert (machine / "etc/systemd/system/multi-user.target.wants/nightshift.service").is_symlink()
    # Of what the unit names, the checkout is elsewhere.
    unit = machine / "nightshift.service"
    unit.write_text(
        (machine / "etc/systemd/system/nightshift.service").read_text().replace("/opt/nightshift", str(reader.checkout))
    )
    verified = reader.shell(f"systemd-analyze verify --man=no {unit}")
    assert verified.returncode == 0 and str(unit) not in verified.stderr, verified.stderr
