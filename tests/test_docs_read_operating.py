"""docs/operating.md, *From boot on*: as it stands there, on a machine that is a folder."""

from __future__ import annotations

import shutil

import pytest

from tests.fix_reader_home import Home

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]


def test_operating_from_boot_on(home: Home) -> None:
    reader, page = home.reader, "operating.md"
    machine = reader.root / "machine"
    (machine / "etc/systemd/system").mkdir(parents=True)
    for name in ("passwd", "group", "shadow", "gshadow"):
        (machine / "etc" / name).touch()
    here = {"useradd": f"/usr/sbin/useradd --prefix {machine}", "/etc/systemd": f"{machine}/etc/systemd",
            "systemctl enable --now": f"systemctl --root={machine} enable"}  # fmt: skip
    reader.types(page, "useradd --system --home-dir /var/lib/nightshift nightshift", stands_for=here)
    assert "nightshift:" in (machine / "etc/passwd").read_text()
    reader.types(page, "cp deployments/systemd/nightshift.service /etc/systemd/system/", stands_for=here)
    if shutil.which("systemctl") is None:
        pytest.skip("no systemctl")
    reader.types(page, "systemctl enable --now nightshift", stands_for=here)
    assert (machine / "etc/systemd/system/multi-user.target.wants/nightshift.service").is_symlink()
    # Of what the unit names, the checkout is elsewhere.
    unit = machine / "nightshift.service"
    unit.write_text(
        (machine / "etc/systemd/system/nightshift.service").read_text().replace("/opt/nightshift", str(reader.checkout))
    )
    verified = reader.shell(f"systemd-analyze verify --man=no {unit}")
    assert verified.returncode == 0 and str(unit) not in verified.stderr, verified.stderr
