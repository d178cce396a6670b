"""The server that a drill restores into, as the environment chooses it: embedded, one of its servers, or a Pod. Torn down in any case."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from core.environment import Environment
from core.manifest import Manifest
from tasks.drill_pod import sweep_pods
from tasks.scratch_embedded import embedded_scratch
from tasks.scratch_folder import sweep_folders
from tasks.scratch_pod import pod_scratch
from tasks.scratch_record import Scratch
from tasks.scratch_server import server_scratch

__all__ = ["Scratch", "open_scratch", "sweep_scratch"]


@contextmanager
def open_scratch(
    environment: Environment, manifest: Manifest, *, run_id: str, work_parent: Path | None
) -> Iterator[Scratch]:
    """Given the environment and the backup to restore, yield the scratch server that `drill.scratch` asks for; what was made for it is removed in any case.

    Args:
        run_id: the drill's id, by which its leftovers are told from others'.
        work_parent: where an embedded server's folder is made; None: the system's temporary folder.

    Raise PermanentError when it cannot be had or must not be used, TemporaryError when another try may succeed.
    """
    if environment.drill.scratch == "server":
        opened = server_scratch(environment, manifest)
    elif environment.drill.scratch == "pod":
        opened = pod_scratch(environment, manifest, run_id=run_id)
    else:
        opened = embedded_scratch(environment, manifest, run_id=run_id, work_parent=work_parent)
    with opened as scratch:
        yield scratch


def sweep_scratch(
    environment: Environment, *, work_parent: Path | None = None, now: datetime | None = None
) -> tuple[str, ...]:
    """Remove what killed drills of this environment left, never another's and never a living one's, and return what was removed, a sentence each.

    Folders are looked for in `work_parent` (None: the system's temporary folder), Pods when `drill.scratch` is `pod`. Raise TemporaryError when the cluster
    does not answer. Databases left on a server are the restore's business (tasks.restore_target.sweep_drills).
    """
    removed = sweep_folders(work_parent, environment.name)
    if environment.drill.scratch == "pod":
        removed += sweep_pods(environment, now=now)
    return removed
