"""Child processes: what they are given, how they end, and that they end with us."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from core.errors import PermanentError
from core.redaction import register_secret
from tasks.children import PIPE, Child, children_of_this_run, stop_all_children

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "ONLY": "this"}
SHELL = "/bin/sh"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def output_of(child: Child) -> str:
    text = b"".join(iter(lambda: child.stdout.read(65536), b""))
    child.wait(10)
    return text.decode()


def test_a_child_inherits_no_variable_and_no_open_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with (
        (tmp_path / "open").open("w") as file,
        Child([SHELL, "-c", "env; ls /proc/self/fd; pwd"], environment=ENVIRONMENT, stdout=PIPE) as child,
    ):
        os.set_inheritable(file.fileno(), True)
        lines = output_of(child).split()
    variables = {line.split("=")[0] for line in lines if "=" in line}
    assert variables <= {"PATH", "ONLY", "PWD", "_", "SHLVL", "OLDPWD", "LC_CTYPE"}
    assert "ONLY=this" in lines
    assert {line for line in lines if line.isdigit()} <= {"0", "1", "2", "3"}


def test_a_broken_pipe_ends_a_child_as_it_would_in_a_shell() -> None:
    with Child([SHELL, "-c", "exec cat /dev/zero"], environment=ENVIRONMENT, stdout=PIPE) as child:
        child.stdout.read(10)
        child.stdout.close()
        assert child.wait(10) == -signal.SIGPIPE


def test_success_has_no_failure_and_failure_tells_code_and_stderr() -> None:
    with Child([SHELL, "-c", "exit 0"], environment=ENVIRONMENT) as child:
        child.wait(10)
        assert child.failure() is None
    with Child([SHELL, "-c", "echo no such table >&2; exit 3"], environment=ENVIRONMENT) as child:
        assert child.wait(10) == 3
        assert child.failure() == "sh ended with exit code 3: no such table"


def test_of_a_long_stderr_the_end_is_kept_without_secrets() -> None:
    register_secret("hunter2-hunter2")
    script = (
        "i=0; while [ $i -lt 3000 ]; do echo line $i of many >&2; i=$((i+1)); done; echo pw=hunter2-hunter2 >&2; exit 1"
    )
    with Child([SHELL, "-c", script], environment=ENVIRONMENT) as child:
        child.wait(20)
        assert len(child.stderr_tail) <= 16 * 1024
        assert child.stderr_tail.endswith("line 2999 of many\npw=*****\n")


def test_a_secret_that_the_cut_goes_through_is_not_told_in_part() -> None:
    secret = "".join(f"<{number}>" for number in range(30))
    register_secret(secret)
    # Masked, what was kept shrinks to less than a message: its beginning, half a secret, would come into it.
    for between in ("", "\\n"):
        script = f"i=0; while [ $i -lt 400 ]; do printf '{secret}{between}' >&2; i=$((i+1)); done; exit 1"
        with Child([SHELL, "-c", script], environment=ENVIRONMENT) as child:
            child.wait(20)
            assert "<29>" not in child.stderr_tail.replace("*****", "")


def test_a_killed_child_is_named_with_its_signal() -> None:
    with Child(["/bin/sleep", "60"], environment=ENVIRONMENT) as child:
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        assert child.failure() == "sleep was killed by SIGKILL"


def test_a_program_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(PermanentError, match="/no/such/program"):
        Child(["/no/such/program"], environment=ENVIRONMENT)


def test_leaving_the_block_ends_the_child() -> None:
    with pytest.raises(ValueError, match="ours"), Child(["/bin/sleep", "60"], environment=ENVIRONMENT) as child:
        raise ValueError("ours")
    assert not alive(child.pid)
    assert child.failure() == "sleep was stopped"


@pytest.mark.parametrize("workers", [False, True])
def test_all_children_can_be_stopped_at_once(workers: bool) -> None:
    with (
        Child(["/bin/sleep", "60"], environment=ENVIRONMENT, workers=workers) as one,
        Child(["/bin/sleep", "60"], environment=ENVIRONMENT, workers=workers) as two,
    ):
        stop_all_children()
        for child in (one, two):
            child.wait(5)
            assert child.failure() == "sleep was stopped"


def test_an_exception_in_a_run_stops_its_children() -> None:
    child = Child(["/bin/sleep", "60"], environment=ENVIRONMENT)
    try:
        with pytest.raises(KeyboardInterrupt), children_of_this_run():
            raise KeyboardInterrupt
        assert child.wait(5) == -signal.SIGKILL
    finally:
        child.close()


def test_a_child_outlives_the_thread_that_asked_for_it() -> None:
    """PR_SET_PDEATHSIG is sent when the thread that forked ends; ours forks in one that does not."""
    made: list[Child] = []
    thread = threading.Thread(target=lambda: made.append(Child(["/bin/sleep", "60"], environment=ENVIRONMENT)))
    thread.start()
    thread.join()
    time.sleep(0.5)
    with made[0] as child:
        assert child.running


PARENT = """
import sys, time
sys.path.insert(0, {root!r})
from tasks.children import Child, PIPE
child = Child(["/bin/sh", "-c", {script!r}], environment={{}}, stdout=PIPE, workers={workers})
print(child.stdout.readline().decode(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("workers", [False, True])
def test_children_and_their_workers_die_within_a_second_of_their_parent(workers: bool) -> None:
    script = "sleep 60 & echo $$ $!; wait" if workers else "echo $$; exec sleep 60"
    text = PARENT.format(root=str(Path(__file__).parents[1]), script=script, workers=workers)
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", textwrap.dedent(text)], stdout=PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 1 + workers
        assert all(alive(pid) for pid in pids)
        parent.kill()
        parent.wait(10)
        assert all(gone_within(pid, 1.0) for pid in pids)


def test_a_child_and_its_workers_can_be_held_and_let_go() -> None:
    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

    def becomes(pid: int, wanted: str) -> bool:
        deadline = time.monotonic() + 5
        while state(pid) != wanted:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    with Child(
        [SHELL, "-c", "sleep 60 & echo $$ $!; wait"], environment=ENVIRONMENT, stdout=PIPE, workers=True
    ) as child:
        pids = [int(word) for word in child.stdout.readline().split()]
        child.pause()
        assert all(becomes(pid, "T") for pid in pids)
        child.resume()
        assert all(becomes(pid, "S") for pid in pids)
        child.pause()
    assert all(gone_within(pid, 1.0) for pid in pids)


def test_a_child_that_is_held_while_it_starts_is_held() -> None:
    with Child([SHELL, "-c", "echo started"], environment=ENVIRONMENT, stdout=PIPE, workers=True) as child:
        child.pause()
        child.resume()
        assert child.stdout.readline() == b"started\n"
        assert child.wait(10) == 0


def test_the_end_of_a_child_with_workers_is_told_as_its_own() -> None:
    with Child([SHELL, "-c", "echo bad >&2; exit 4"], environment=ENVIRONMENT, workers=True) as child:
        assert child.wait(10) == 4
        assert child.failure() == "sh ended with exit code 4: bad"
    with Child([SHELL, "-c", "kill -TERM $$"], environment=ENVIRONMENT, workers=True) as child:
        assert child.wait(10) == -signal.SIGTERM
    with Child([SHELL, "-c", "kill -KILL $$"], environment=ENVIRONMENT, workers=True) as child:
        assert child.wait(10) == -signal.SIGKILL
