"""Leaving out a test for want of something that this machine lacks: never quietly where it could be had."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from tests.fix_platform import CHECKOUT

_CAP_SYS_ADMIN = 21


def leave_out(why: str) -> NoReturn:
    """Given what is missing, leave the test out; but fail it where `make test-services` installs such things: as root on a Debian (tests/services/install.sh)."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        pytest.fail(
            f"{why}: as root on a Debian nothing is left out; {CHECKOUT}/tests/services/install.sh installs it, and says why when it cannot"
        )
    pytest.skip(why)


def leave_out_mount(why: str) -> NoReturn:
    """Leave a test out that was not let mount a disk; but fail it where this process may (capabilities(7): CAP_SYS_ADMIN)."""
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    if effective >> _CAP_SYS_ADMIN & 1:
        pytest.fail(f"{why}, though this process may mount")
    pytest.skip(why)
