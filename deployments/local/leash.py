"""Runs a command and lets nothing of it remain: `python leash.py GRACE_SECONDS COMMAND …`.

A Prefect worker starts a process for each flow run, and such a process outlives a worker that is killed. Between the platform and the worker stands this
program: orphans below it become its children (PR_SET_CHILD_SUBREAPER, prctl(2)), and when the platform ends it, or dies, or the worker ends, it ends
every process below it. It ends with the command's exit code.
"""

import ctypes
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Given the grace in seconds and a command as arguments, run it to its end and end what it left behind."""
    grace_seconds, command = float(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def ask_to_end(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, ask_to_end)
    signal.signal(signal.SIGINT, ask_to_end)
    try:
        child.wait()
    except SystemExit:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_seconds)
    finally:
        _end_all_below()
    return child.wait()


def _end_all_below() -> None:
    # Again until none is left: a process may start another one while it is being ended.
    while below := psutil.Process().children(recursive=True):
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(below, timeout=5)


if __name__ == "__main__":
    sys.exit(main())
