"""Finding a platform that runs on this machine from another terminal: what it says about itself, and what a command needs to speak to it."""

import fcntl
import json
import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from deployments.local.data_folder import platform_folder

# `try` and `demo` are the environment `local`; the machine's own server (`up`) is for all others.
LOCAL = "local"
SERVER = "server"
TRIALS = ("trial", "demo")


class RunningPlatform(BaseModel):
    """What platform.json holds: where it answers, how to sign in, and the variables of the environment `local` (secrets among them; file mode 0600)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process_id: int
    ui_url: str
    api_url: str
    auth_string: str
    variables: dict[str, str]


def write_record(path: Path, platform: RunningPlatform) -> None:
    """Write the record, readable by its owner alone."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(json.dumps(platform.model_dump(), indent=1))


def find_running(environment: str = LOCAL) -> RunningPlatform | None:
    """Given an environment's name, return the platform that runs from this checkout and is meant for it, or None.

    `local` is a trial's; any other one has the machine's own server, else a trial's.
    One that was killed and left its record behind does not count.
    """
    for kind in TRIALS if environment == LOCAL else (SERVER, *TRIALS):
        folder = platform_folder(kind)
        if answers_socket(folder / "supervisor.sock") if kind == SERVER else _held(folder / "lock"):
            try:
                return RunningPlatform.model_validate_json((folder / "platform.json").read_bytes())
            except (OSError, ValidationError):
                continue  # still starting, or another user's
    return None


def answers_socket(path: Path) -> bool:
    """Whether somebody listens at a Unix socket: the file alone outlives whom it was of."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def adopt_local_variables() -> RunningPlatform | None:
    """Put the running platform's variables of `local` into this process where they are not set, so that any command finds its database and bucket."""
    platform = find_running()
    for name, value in (platform.variables if platform else {}).items():
        os.environ.setdefault(name, value)
    return platform


def _held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
