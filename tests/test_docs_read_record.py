"""The last of test_docs_read*.py, wherever it stands in the list of files (conftest): whether all that docs_record says was read was read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs_pages import Command, split_line
from tests.docs_record import READ, form_of
from tests.fix_reader_home import Home

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]


def test_what_the_record_says_was_run(home: Home, request: pytest.FixtureRequest) -> None:
    """The last one: every form of docs_record.READ was typed by a test above, and no other."""
    readers = {file.name for file in Path(__file__).parent.glob("test_docs_read*.py")}
    if not readers <= {item.path.name for item in request.session.items}:
        pytest.skip("only some of the pages were read")
    typed = {form_of(Command(page, tuple(words))) for page, line, _ in home.reader.ran for words in split_line(line)}
    # Debian has them, not every machine does: the tests of those were left out, and say so.
    lacked = {
        form for form in READ if form.startswith(("aws ", "systemctl ")) and shutil.which(form.split()[0]) is None
    }
    assert typed == READ - lacked
