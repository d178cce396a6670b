"""README's and the quick start's first commands, as a reader types them in a checkout where nothing is installed yet: the demo, and the platform until Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.fix_reader import Reader, a_reader
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """With a fresh checkout, for all of this file."""
    with a_reader() as found:
        yield found
        assert started_from(found) == []


def test_the_demo_installs_what_it_needs_and_leaves_nothing_running(reader: Reader) -> None:
    said = reader.types("README.md", "make demo", seconds=580)
    assert "installing into .venv" in said
    # A backup, a drill, a damaged copy refused, a restore.
    for promised in ("decoded", "proven", "damaged copy", "refused", "restored", "stopped; nothing is left running"):
        assert promised in said, promised
    assert started_from(reader) == []


def test_the_platform_that_is_left_running_until_ctrl_c(reader: Reader) -> None:
    with reader.goes_on("README.md", "make try", group=True) as platform:
        platform.until("Running until Ctrl-C", seconds=580)
        # What it says to type in another terminal.
        backup = reader.opens("another").shell("nightshift backup local")
        assert backup.returncode == 0 and "decoded" in backup.stdout, backup.stdout + backup.stderr
        assert started_from(reader)
    assert "stopped; nothing is left running" in platform.log.read_text()
    wait_until(lambda: started_from(reader) == [], "all of it has ended")


def started_from(reader: Reader) -> list[psutil.Process]:
    """The living processes of a program of the checkout, or with a file of it among their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(str(reader.checkout) in word for word in words) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
