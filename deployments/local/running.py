"""Finding a platform that runs on this machine from another terminal: what it says about itself, and what a command needs to speak to it."""

import fcntl
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from deployments.local.data_folder import platform_folder

KINDS = ("up", "demo")
LOCAL = "local"


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


def find_running() -> RunningPlatform | None:
    """The platform that runs from this checkout (`up` before `demo`), or None. One that was killed and left its record behind does not count."""
    for kind in KINDS:
        folder = platform_folder(kind)
        if _held(folder / "lock"):
            try:
                return RunningPlatform.model_validate_json((folder / "platform.json").read_bytes())
            except (OSError, ValidationError):
                continue  # still starting, or another user's
    return None


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
