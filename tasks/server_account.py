"""The OS user that a PostgreSQL of ours runs as: it refuses to be root."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError

_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An OS user, by the numbers that the kernel knows."""

    name: str
    user_id: int
    group_id: int


def server_account() -> Account | None:
    """The user to run PostgreSQL as: None (ourselves) unless we are root, then `postgres`, else `nobody`. Raise ConfigurationError when neither exists."""
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "start PostgreSQL",
        "this machine",
        "we are root, PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody",
        "Run as another user",
    )


def give(path: Path, account: Account | None, *, mode: int = 0o700) -> None:
    """Make a folder or file the account's own and closed to others. With None it stays ours."""
    path.chmod(mode)
    if account is not None:
        os.chown(path, account.user_id, account.group_id)


def can_run(program: Path, account: Account | None) -> bool:
    """Whether the account can run `program --version`; a checkout under /root is closed to everybody but root."""
    try:
        done = subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            check=False,
            cwd="/",
            env={"PATH": os.defpath},
            timeout=60,
            user=account.user_id if account else None,
            group=account.group_id if account else None,
            extra_groups=[] if account else None,
        )
    except PermissionError:
        return False
    return done.returncode == 0


def copy_for(tree: Path, destination: Path, account: Account | None) -> None:
    """Copy a folder of programs to destination, readable by the account."""
    shutil.copytree(tree, destination, symlinks=True)
    for folder, _, files in os.walk(destination):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            if account is not None:
                os.chown(path, account.user_id, account.group_id, follow_symlinks=False)
