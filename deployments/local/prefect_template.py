"""A migrated, otherwise empty database of the Prefect server, kept from one start to the next: migrating a new one takes half of the server's start."""

import os
import shutil
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from deployments.local.data_folder import data_root

_NAME = "prefect.db"


def _template() -> Path:
    return data_root() / f"prefect-{version('prefect')}.db"


def use_template(prefect_home: Path) -> bool:
    """Given a new PREFECT_HOME, put the kept database there. Return whether there was one."""
    template = _template()
    if not template.exists():
        return False
    shutil.copyfile(template, prefect_home / _NAME)
    (prefect_home / _NAME).chmod(0o600)
    return True


def keep_template(prefect_home: Path) -> None:
    """Given the PREFECT_HOME of a server that has just come up and holds nothing yet, keep a copy of its database for this version of Prefect."""
    template = _template()
    template.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = template.with_suffix(f".{os.getpid()}")
    unfinished.touch(mode=0o600)
    with closing(sqlite3.connect(prefect_home / _NAME)) as source, closing(sqlite3.connect(unfinished)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    unfinished.replace(template)
