"""The end of what `nightshift up` started: in an order in which nothing is lost, and nothing else is touched."""

from collections.abc import Sequence
from contextlib import suppress

import psutil

from core.errors import PermanentError
from deployments.command.terminal import console
from deployments.local.running import answers_socket
from deployments.local.server_folder import ServerFolder
from deployments.local.supervised import RECEIVER, SERVER, WORKER, Supervised, marked

_GRACE_SECONDS = 30


def stop(folder: ServerFolder, wait: int) -> None:
    """End receiver, worker and server; runs under way may still take so many seconds. Raise PermanentError when something does not end."""
    if answers_socket(folder.socket):
        supervised = Supervised(folder)
        supervised.stop(RECEIVER)
        # Nothing takes a new run from now on, and those that are under way go on.
        supervised.stop(WORKER)
        _end_runs(folder, wait)
        supervised.stop(SERVER)
        supervised.shut_down()
    elif marked(folder):
        # A killed supervisor left them: in the same order. The server stays until the runs have told it how they ended.
        end_processes([one for one in marked(folder, runs=False) if _takes_work(one)])
        _end_runs(folder, wait)
    else:
        console.print("nothing of it runs")
        return
    end_processes(marked(folder))
    if left := marked(folder):
        found = f"{', '.join(f'process {one.pid}' for one in left)} did not end, not even by SIGKILL"
        step = "Look what it waits for (a disk that does not answer?), then: make down"
        raise PermanentError("end what `up` started", str(folder.path), found, step)
    console.print("stopped; nothing of it is left running")


def _end_runs(folder: ServerFolder, seconds: int) -> None:
    """Wait for the runs under way, then end those that are left by SIGTERM: they tell the server, which is still there."""
    if found := marked(folder, runs=True):
        console.print(f"waiting up to {seconds} s for the runs under way ({len(found)} processes)")
        psutil.wait_procs(found, seconds)
    end_processes(marked(folder, runs=True))


def _takes_work(process: psutil.Process) -> bool:
    """Whether it is the worker or the receiver, by its command line."""
    with suppress(psutil.Error):
        return not {"worker", "webhook"}.isdisjoint(process.cmdline())
    return False


def end_processes(processes: Sequence[psutil.Process]) -> None:
    """End processes by SIGTERM, past half a minute by SIGKILL, and say which. A worker by SIGKILL at once: asked to end, it would kill its runs."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            console.print(f"ending process {process.pid}: {' '.join(words)[:120]}", soft_wrap=True)
            if "worker" in words:
                process.kill()
            else:
                process.terminate()
    _, alive = psutil.wait_procs(processes, _GRACE_SECONDS)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, _GRACE_SECONDS)
