"""Keeps untrusted code in: runs a command without network, without other processes and without the worker's files in sight, as far as the system lets it.

A script for `python -I -S`, not a module: it knows nothing of nightshift. Linux only.

    scratch_guard.py PARENT_PID PLAN COMMAND [ARGUMENT…]

PLAN is JSON: `own` are the folders that the command may write to (it starts in the first), `show` the paths that it may read besides, `root` an empty
folder that its file system is put together on, `user` and `group` the numbers of the OS user to become (null: stay who we are), `stop` the signal that
asks the command to end.

The first line of stdout is JSON: `obtained`, a list of what was, and `missing`, what was not and why. Keys: network, processes, files, memory, privileges, user.

Three processes: this one stays outside and hears when the parent ends (prctl(2), PR_SET_PDEATHSIG) or SIGTERM comes; the keeper is process 1 of the new
process namespace, so that with it everything in there ends (pid_namespaces(7)), daemons too; the command is the keeper's child.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE, DETACH = 32, 4096, 16384, 1 << 18, 2
# statvfs(3) and mount(2) spell these alike, but for relatime.
KEPT_FLAGS, STATVFS_RELATIME, MOUNT_RELATIME = (
    READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS | 1024 | 2048,
    4096,
    1 << 21,
)
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
NOT_STARTED = 127
STOP_SECONDS = 4.0
SIGNALS = {signal.SIGTERM, signal.SIGCHLD}
DEVICES = ("null", "zero", "full", "random", "urandom")

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of libc that returns 0 when all went well; raise OSError when it did not."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    call("mount", source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), data.encode())


def enter_namespaces(missing: dict[str, str]) -> set[str]:
    """Take each namespace that the system lets us have, and return their names; say in `missing` why not the others."""
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        # An ordinary user may make the others only inside a user namespace (user_namespaces(7)); there he stays who he is.
        try:
            call("unshare", NEW_USER)
            write("/proc/self/setgroups", "deny")
            write("/proc/self/uid_map", f"{user} {user} 1")
            write("/proc/self/gid_map", f"{group} {group} 1")
        except OSError as error:
            missing.update(
                dict.fromkeys(("network", "processes", "files", "memory"), f"user namespace: {error.strerror}")
            )
            return set()
    got = set()
    for name, flag in (
        ("files", NEW_MOUNTS),
        ("network", NEW_NETWORK),
        ("processes", NEW_PROCESSES),
        ("memory", NEW_IPC),
    ):
        try:
            call("unshare", flag)
            got.add(name)
        except OSError as error:
            missing[name] = str(error.strerror)
    return got


def write(path: str, text: str) -> None:
    """Write a file of /proc at one go, as the kernel wants it."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def build_root(plan: dict, got: set[str]) -> None:  # type: ignore[type-arg]
    """Put a file system together that shows what the plan names and nothing else, and make it ours; raise OSError with nothing changed for the command."""
    root = plan["root"]
    mount("none", "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", root, "tmpfs", NO_SETUID | NO_DEVICES, "mode=0755,size=16m")
    try:
        os.mkdir(f"{root}/tmp")  # noqa: PTH102, S108 - pathlib would make each start slower
        os.chmod(f"{root}/tmp", 0o1777)  # noqa: PTH101, S103, S108 - as every system has it
        os.mkdir(f"{root}/proc")  # noqa: PTH102
        # /proc of another process namespace would show the worker's environment: none is better.
        if "processes" in got:
            mount("proc", f"{root}/proc", "proc", NO_SETUID | NO_DEVICES | NO_PROGRAMS)
        os.makedirs(f"{root}/dev/shm")  # noqa: PTH103, S108
        mount("tmpfs", f"{root}/dev/shm", "tmpfs", NO_SETUID | NO_DEVICES | NO_PROGRAMS, "mode=1777")  # noqa: S108
        for name in DEVICES:
            show(f"/dev/{name}", root, NO_SETUID | NO_PROGRAMS)
        for path in plan["show"]:
            show(path, root, READ_ONLY | NO_SETUID | NO_DEVICES)
        for path in plan["own"]:
            show(path, root, NO_SETUID | NO_DEVICES)
        os.chdir(root)
        call("pivot_root", b".", b".")
    except OSError:
        libc.umount2(root.encode(), DETACH)
        raise
    # The old root lies over the new one now (pivot_root(2), NOTES).
    call("umount2", b".", DETACH)
    os.chdir("/")


def show(path: str, root: str, flags: int) -> None:
    """Make a path of the machine appear in the new root, with these mount flags; a link as a link; what is not there is left out."""
    target = root + path
    if os.path.islink(path):  # noqa: PTH114
        os.symlink(os.readlink(path), target)  # noqa: PTH115, PTH211
        return
    if os.path.isdir(path):  # noqa: PTH112
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    elif os.path.exists(path):  # noqa: PTH110
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    else:
        return
    mount(path, target, None, BIND | RECURSIVE)
    # Flags that the machine's own mount has cannot be taken away in a user namespace (mount_namespaces(7)).
    status = os.statvfs(target).f_flag
    kept = status & KEPT_FLAGS | (MOUNT_RELATIME if status & STATVFS_RELATIME else 0)
    mount("none", target, None, REMOUNT | BIND | kept | flags)


def die_with_parent(signal_number: int, still_there: Callable[[], bool]) -> None:
    """Be sent a signal when the parent ends; end at once when it has ended already."""
    call("prctl", PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if not still_there():
        os._exit(NOT_STARTED)


def become(plan: dict, command: list[str]) -> None:  # type: ignore[type-arg]
    """Give away all rights and be replaced by the command; never returns."""
    try:
        # A core file would hold rows of the dump.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if plan["user"] is not None:
            os.setgroups([])
            os.setresgid(plan["group"], plan["group"], plan["group"])
            os.setresuid(plan["user"], plan["user"], plan["user"])
        # After the change of user, which takes this back (prctl(2)).
        keeper = os.getppid()
        call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(NOT_STARTED)
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.chdir(plan["own"][0])
        # Python ignores these two, and what is ignored stays so across execve.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.execv(command[0], command)  # noqa: S606 - an argument list, and no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(NOT_STARTED)


def silence(descriptor: int) -> None:
    """Point a standard stream to /dev/null."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def keep(plan: dict, command: list[str], got: set[str], missing: dict[str, str]) -> None:  # type: ignore[type-arg]
    """The keeper: shut the doors, report, run the command, reap whatever is left to it, and end as the command ended; never returns."""
    if "files" in got:
        try:
            build_root(plan, got)
        except OSError as error:
            got.discard("files")
            missing["files"] = str(error.strerror)
    if "processes" in got and "files" not in got:
        # The processes cannot be signalled, but the machine's /proc still shows them.
        got.discard("processes")
        missing["processes"] = f"no /proc of its own: {missing['files']}"
    if plan["user"] is not None:
        got.add("user")
    print(json.dumps({"obtained": sorted({*got, "privileges"}), "missing": missing}), flush=True)  # noqa: T201 - the report
    silence(1)
    child = os.fork()
    if child == 0:
        become(plan, command)
    watch(child, plan["stop"], STOP_SECONDS)


def watch(child: int, stop: int, seconds: float) -> None:
    """Pass SIGTERM on as `stop`, kill the child when it has not ended so many seconds later, and end as it ended; never returns."""
    told = False
    while True:
        received = signal.sigtimedwait(SIGNALS, seconds if told else 3600.0)
        if received is None:
            if told:
                os.kill(child, signal.SIGKILL)
        elif received.si_signo == signal.SIGTERM:
            os.kill(child, stop)
            told = True
        elif (status := reap(child)) is not None:
            os._exit(exit_code(status))


def reap(child: int) -> int | None:
    """Take the end of every process that has ended; return the wait status of `child` if it is among them."""
    found = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == child:
            found = status


def exit_code(status: int) -> int:
    """A wait status as a shell would say it: 128 and the signal's number for what a signal ended."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main() -> None:
    """See the module's docstring."""
    parent, plan, command = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    die_with_parent(signal.SIGTERM, lambda: os.getppid() == parent)
    missing: dict[str, str] = {}
    got = enter_namespaces(missing)
    # Closed by our end. In a new process namespace the keeper cannot see who its parent is.
    ours, keepers = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(keepers)
        die_with_parent(signal.SIGTERM, lambda: not select.select([ours], [], [], 0)[0])
        keep(plan, command, got, missing)
    silence(1)
    # Longer than the keeper waits, which else could not say how the command ended.
    watch(keeper, signal.SIGTERM, STOP_SECONDS + 1)


if __name__ == "__main__":
    main()
