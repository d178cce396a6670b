"""`nightshift demo-release` on the real node: each release ends as it should, and nothing is left there, not even after Ctrl-C."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from deployments.local.data_folder import CHECKOUT
from tasks.kubernetes_client import KubernetesClient
from tests.fix_cluster import LAB, lab_program
from tests.fix_platform import start_nightshift
from tests.fix_reader import Reader, this_shell
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1000)]


def demo(tmp_path: Path) -> "subprocess.Popen[str]":
    """Start it, with a platform of its own."""
    lab_program("apps/hello/build.sh")
    return start_nightshift("demo-release", NIGHTSHIFT_DATA=str(tmp_path))


def left_of(cluster: KubernetesClient, output: str) -> list[str]:
    """The namespaces of a demonstration that are still there, and its images."""
    (mark,) = re.findall(r"deploying the first version to nightshift-demo-([0-9a-f]+)", output)
    names = [one["metadata"]["name"] for one in cluster.list("/api/v1/namespaces") if mark in one["metadata"]["name"]]
    (tag,) = set(re.findall(r"(nightshift-demo-[0-9a-f]{6})-first", output))
    asked = ["bash", "-c", '. "$1/lib.sh"; ctri images ls -q', "bash", LAB]
    images = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert images
    return [*names, *(one for one in images if tag in one)]


def nothing_is_left(cluster: KubernetesClient, output: str) -> None:
    """Wait until a busy node has ended the Pods of what was removed."""
    wait_until(lambda: not left_of(cluster, output), "the demonstration's namespaces and images are gone", seconds=180)


def test_a_good_a_bad_and_a_killed_release_end_as_they_should(cluster: KubernetesClient, tmp_path: Path) -> None:
    """As README has a person type it."""
    lab_program("apps/hello/build.sh")
    (tmp_path / "nightshift").symlink_to(CHECKOUT)
    reader = Reader(tmp_path, {**this_shell(), "NIGHTSHIFT_DATA": str(tmp_path)})
    done = reader.ends("README.md", "make demo-release", seconds=750)
    output, errors = done.stdout, done.stderr
    for line in (
        "1 of 3: a good version",
        "2 of 3: a bad version",
        "it ended with exit code 3",
        "3 of 3: a good version (the first again), and its process is killed",
        "was killed by SIGKILL in the step: fill hello-green",
        "the cluster left in the middle",
        "retire hello-green",
        "what came of them",
        "stopped; nothing is left running",
    ):
        assert line in output, output
    assert re.search(
        r"r-[0-9a-f]{12} released, r-[0-9a-f]{12} rolled back, r-[0-9a-f]{12} rolled back; lease: free", output
    )
    assert "✘ a " not in output
    assert errors == ""
    nothing_is_left(cluster, output)


def test_ctrl_c_in_the_middle_of_a_release_leaves_nothing(cluster: KubernetesClient, tmp_path: Path) -> None:
    process = demo(tmp_path)
    output = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if "prepare hello-blue" in line:
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        more, errors = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output + more + errors
    assert "ended by Ctrl-C; nothing is left running" in errors
    nothing_is_left(cluster, output + more)
