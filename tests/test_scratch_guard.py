"""The guard: what runs behind it sees no secret, no network, no other process; it ends with its parent, whatever it left running."""

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from core.errors import PermanentError
from tasks.scratch_isolation import NEEDED, GuardedProgram, Isolation, Plan
from tasks.server_account import give, server_account
from tests.fix_platform import CHECKOUT
from tests.fix_scratch import WORDS, Bait
from tests.leave_out import leave_out
from tests.waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another OS user")


@pytest.fixture
def plan() -> Iterator[Plan]:
    """A folder to run in, as an embedded server would have it."""
    folder = Path("/var/tmp") / f"nightshift-test-guard-{os.getpid()}"
    (folder / "root").mkdir(parents=True)
    (folder / "own").mkdir()
    give(folder / "own", server_account())
    yield Plan(own=(folder / "own",), root=folder / "root", account=server_account())
    shutil.rmtree(folder)


def loot(plan: Plan, script: str) -> tuple[str, Isolation]:
    """What a script that runs behind the guard could print, and the isolation it ran in."""
    with GuardedProgram(["/bin/sh", "-c", f"({script}) >loot 2>&1"], plan) as program:
        program.run_to_end(60)
        isolation = program.isolation
    return (plan.own[0] / "loot").read_text(), isolation


def test_the_bait_is_there_for_who_is_not_kept_in(bait: Bait) -> None:
    # Else the tests below would pass for the wrong reason.
    done = subprocess.run(["/bin/sh", "-c", bait.script], capture_output=True, text=True, check=True, timeout=60)
    assert all(word in done.stdout for word in WORDS)


def test_no_secret_and_no_network_is_within_reach(plan: Plan, bait: Bait) -> None:
    found, isolation = loot(plan, bait.script)
    assert not [word for word in WORDS if word in found]
    assert set(NEEDED) <= set(isolation.obtained), isolation.missing
    assert isolation.lacks == ()
    # And no other process: its keeper, its shell and what the shell runs.
    processes = next(line for line in found.splitlines() if line.startswith("processes:")).split()[1:]
    assert 2 <= len(processes) <= 4
    assert all(int(Path(process).name) < 50 for process in processes)


def test_the_machines_other_folders_are_not_there(plan: Plan) -> None:
    found, _ = loot(plan, "ls /; ls /etc; ls /var; ls -d /root /home /run; true")
    listed = found.split()
    assert {"usr", "passwd"} <= set(listed)
    assert not {"root", "home", "run", "sys", "shadow", "ssl", "lib/postgresql", "/root", "/home", "/run"} & set(listed)


def test_nothing_but_its_own_folder_can_be_written_to(plan: Plan) -> None:
    found, _ = loot(
        plan,
        "for f in /usr /etc /proc/sys/kernel / ; do touch $f/x && echo wrote $f; done; touch here && echo wrote here",
    )
    assert [line for line in found.splitlines() if line.startswith("wrote")] == ["wrote here"]


def test_it_cannot_become_somebody_else(plan: Plan) -> None:
    found, _ = loot(plan, "grep -E '^(NoNewPrivs|CapEff|CapPrm|Uid)' /proc/self/status; ulimit -c")
    lines = dict(line.split(":", 1) for line in found.splitlines() if ":" in line)
    assert lines["NoNewPrivs"].strip() == "1"
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0
    assert "0" not in lines["Uid"].split()
    assert found.splitlines()[-1] == "0"


def test_the_environment_holds_two_variables(plan: Plan) -> None:
    found, _ = loot(plan, "env")
    assert {line.split("=")[0] for line in found.splitlines()} <= {"PATH", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"}


def test_a_daemon_that_it_left_ends_with_it(plan: Plan) -> None:
    marker = "4711.25"
    with GuardedProgram(["/bin/sh", "-c", f"setsid sleep {marker} & sleep 0.2"], plan) as program:
        program.run_to_end(30)
    assert running_sleeps(marker) == []


def test_it_is_stopped_with_the_block(plan: Plan) -> None:
    marker = "4712.25"
    with GuardedProgram(["/bin/sleep", marker], plan):
        wait_until(lambda: running_sleeps(marker), "it runs")
    assert running_sleeps(marker) == []


def test_what_does_not_want_to_stop_is_killed_in_the_end(plan: Plan) -> None:
    marker = "4713.25"
    with GuardedProgram(["/bin/sh", "-c", f"trap '' TERM; sleep {marker}; sleep {marker}"], plan) as program:
        wait_until(lambda: running_sleeps(marker), "it runs")
        program.stop(seconds=0.5)
        wait_until(lambda: not running_sleeps(marker), "it is gone")
        assert running_sleeps(marker) == []


KILLED = (
    "import sys, time; from pathlib import Path; from tasks.scratch_isolation import GuardedProgram, Plan\n"
    "from tasks.server_account import server_account\n"
    "folder = Path(sys.argv[1])\n"
    "program = GuardedProgram(['/bin/sh', '-c', 'setsid sleep ' + sys.argv[2] + ' & sleep ' + sys.argv[2]],\n"
    "                         Plan(own=(folder / 'own',), root=folder / 'root', account=server_account()))\n"
    "print('runs', flush=True); time.sleep(60)\n"
)


def test_it_ends_with_a_worker_that_is_killed(plan: Plan) -> None:
    marker = "4714.25"
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(plan.root.parent), marker], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    with worker.stdout:
        assert worker.stdout.readline() == "runs\n"
        wait_until(lambda: len(running_sleeps(marker)) == 2, "both run")
        worker.kill()
        worker.wait()
    wait_until(lambda: not running_sleeps(marker), "it is gone")


def test_a_program_that_is_not_there_is_named(plan: Plan) -> None:
    with (
        GuardedProgram(["/usr/bin/not-there"], plan) as program,
        pytest.raises(PermanentError, match="not-there: No such file"),
    ):
        program.run_to_end(30)


def test_what_was_not_obtained_is_told_in_plain_words() -> None:
    isolation = Isolation(("privileges",), dict.fromkeys(NEEDED, "user namespace: Operation not permitted"))
    assert len(isolation.lacks) == 3
    assert any("the network is within reach" in note for note in isolation.notes)
    assert any("the worker's own OS user" in note for note in isolation.notes)
    assert not any("no network" in sentence for sentence in isolation.sentences)


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not here")
def test_an_ordinary_user_is_kept_in_as_well(bait: Bait) -> None:
    nobody = pwd.getpwnam("nobody")
    folder = Path("/var/tmp") / f"nightshift-test-nobody-{os.getpid()}"
    folder.mkdir()
    try:
        for path in (folder / "own", folder / "root", folder):
            path.mkdir(exist_ok=True)
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text("word-of-the-users-own-file")
        os.chown(secret, nobody.pw_uid, nobody.pw_gid)
        document = {
            "own": [str(folder / "own")],
            "root": str(folder / "root"),
            "show": ["/usr", "/bin", "/lib", "/lib64"],
        }
        done = as_nobody(folder, document, f"({bait.script} cat {secret}; id -u) >{folder}/own/loot 2>&1; pwd")
        report = json.loads(done.stdout.splitlines()[0])
        assert set(NEEDED) <= set(report["obtained"]), report
        found = (folder / "own" / "loot").read_text()
        assert not [word for word in (*WORDS, "word-of-the-users-own-file") if word in found]
        assert found.splitlines()[-1] == str(nobody.pw_uid)
    finally:
        shutil.rmtree(folder)


def as_nobody(folder: Path, document: dict[str, object], script: str) -> subprocess.CompletedProcess[str]:
    """Run the guard itself as `nobody`, with the system's own Python: ours may lie where only root can go."""
    python = shutil.which("python3", path="/usr/bin") or leave_out("the system has no Python of its own")
    guard = folder / "guard.py"
    shutil.copy(CHECKOUT / "tasks" / "scratch_guard.py", guard)
    guard.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    plan = json.dumps({**document, "user": None, "group": None, "stop": int(signal.SIGTERM)})
    code = f"import os, subprocess, sys; sys.exit(subprocess.run([{python!r}, '-I', '-S', {str(guard)!r}, str(os.getpid()), *sys.argv[1:]]).returncode)"
    return subprocess.run(
        [
            "setpriv",
            "--reuid=nobody",
            f"--regid={pwd.getpwnam('nobody').pw_gid}",
            "--clear-groups",
            python,
            "-c",
            code,
            plan,
            "/bin/sh",
            "-c",
            script,
        ],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def running_sleeps(marker: str) -> list[int]:
    """The processes that sleep for just this long."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            # Read once: of a process that ends between two reads the second is empty.
            words = process.cmdline()
            if words and Path(words[0]).name == "sleep" and marker in words:
                found.append(process.pid)
    return found
