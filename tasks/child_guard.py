"""Runs a command that must not outlive its parent. A script for `python -I -S`, not a module: it knows nothing of nightshift.

    child_guard.py PARENT_PID exec|keep COMMAND [ARGUMENT…]

exec: ask the kernel for SIGKILL when the parent ends (prctl(2), PR_SET_PDEATHSIG: kept across execve), then become the command.
keep: for a command that forks workers, as `pg_dump --jobs` does: the kernel's request is not inherited by a fork. So this process stays, runs the
      command in a process group of its own, and kills the whole group when the parent ends (it is sent SIGTERM then), when told to (SIGTERM) and when
      the command itself has ended. SIGUSR1 stops the group, SIGUSR2 lets it go on. The command's exit code or signal becomes its own.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_STARTED = 127
SIGNALS = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}


def end_with(parent: int, signal_number: int) -> None:
    """Be sent a signal when the parent ends; end at once when it has ended already."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        os._exit(NOT_STARTED)


def become(command: list[str]) -> None:
    """Replace this process by the command; never returns."""
    # Python ignores these two, and what is ignored stays so across execve.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execv(command[0], command)  # noqa: S606 - an argument list, and no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_STARTED)


def keep(parent: int, command: list[str]) -> None:
    """Run the command in a process group of its own and end as it ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    end_with(parent, signal.SIGTERM)
    own = os.getpid()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        end_with(own, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        become(command)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    try:  # noqa: SIM105 - contextlib would make each start slower
        os.setpgid(child, child)
    except PermissionError:
        pass  # it did so itself, and has become the command
    status = watch(child)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(own, number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def watch(child: int) -> int:
    """Wait for the command, doing what signals say; return its wait status when its whole group has been killed."""
    while True:
        received = signal.sigwait(SIGNALS)
        if received == signal.SIGUSR1:
            signal_group(child, signal.SIGSTOP)
        elif received == signal.SIGUSR2:
            signal_group(child, signal.SIGCONT)
        elif received == signal.SIGTERM:
            signal_group(child, signal.SIGKILL)
        else:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended == child:
                signal_group(child, signal.SIGKILL)
                return status


def signal_group(child: int, number: int) -> None:
    """Send a signal to the command's group, if there is one still."""
    try:  # noqa: SIM105 - contextlib would make each start slower
        os.killpg(child, number)
    except ProcessLookupError:
        pass


def main() -> None:
    """See the module's docstring."""
    parent, mode, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if mode == "keep":
        keep(parent, command)
    end_with(parent, signal.SIGKILL)
    become(command)


if __name__ == "__main__":
    main()
