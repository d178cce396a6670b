"""A disposable Kubernetes cluster, by KUBECONFIG, and an image with PostgreSQL's server programs that its node can start.

The image: NIGHTSHIFT_TEST_SCRATCH_IMAGE when it is set (any that the cluster can pull), else one that is made with the lab's own image.sh, when the checkout
lies beside it.
"""

import fcntl
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.postgres_binaries import installed_servers, wheel_libraries
from tests.fix_platform import CHECKOUT
from tests.waiting import wait_until

IMAGE_VARIABLE = "NIGHTSHIFT_TEST_SCRATCH_IMAGE"
IMAGE = "nightshift-test-postgres:1"
NAMESPACES = "/api/v1/namespaces"
LAB = CHECKOUT.parent / "shared" / "kube-lab"


@pytest.fixture
def cluster() -> Iterator[KubernetesClient]:
    """A client of the cluster."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    with KubernetesClient.open(None) as client:
        yield client


def lab_program(part: str) -> Path:
    """A program of the lab beside the checkout, by its path there. Without a lab the test is skipped; where there is one, what it lacks fails the test."""
    if not LAB.is_dir():
        pytest.skip(f"no {LAB}")
    assert (LAB / part).exists(), f"the lab has no {part}"
    return LAB / part


@contextmanager
def image_turn() -> Iterator[None]:
    """One test process after the other: two that make the lab's image of the same name at once take its file from each other."""
    with (Path(tempfile.gettempdir()) / "nightshift-test-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Removals(ExitStack):
    """Removes at its end what was made by it, the last first, however far the test came; what is gone by then is gone."""

    def __init__(self, client: KubernetesClient) -> None:
        super().__init__()
        self.client = client

    def create(self, collection: str, document: dict[str, Any]) -> dict[str, Any]:
        """Create an object, and return it."""
        made = self.client.create(collection, document)
        self.callback(self._remove, f"{collection}/{made['metadata']['name']}", made["metadata"]["uid"])
        return made

    def namespace(self, name: str = "") -> str:
        """Create a namespace, and return its name."""
        name = name or f"nightshift-test-{secrets.token_hex(4)}"
        self.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        accounts = f"{NAMESPACES}/{name}/serviceaccounts"
        # Its controller comes a moment later, and no Pod is taken before.
        wait_until(
            lambda: "default" in {one["metadata"]["name"] for one in self.client.list(accounts)},
            f"the account of {name} is there",
        )
        return name

    def _remove(self, path: str, uid: str) -> None:
        with suppress(MissingError):
            self.client.delete(path, uid=uid)


@pytest.fixture
def drill_namespace(cluster: KubernetesClient) -> Iterator[str]:
    """A namespace of the test's own."""
    with Removals(cluster) as removals:
        yield removals.namespace()


@pytest.fixture
def lab_controllers(cluster: KubernetesClient, tmp_path: Path) -> Iterator[None]:
    """The lab's own controllers, which write the states of Velero's kinds, routes and external secrets. Ends the process itself."""
    program = lab_program("controllers.py")
    log = tmp_path / "controllers.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, program], stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "ready" in log.read_text(), "the controllers are ready")
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def postgres_image() -> str:
    """The name of an image with initdb and postgres of some major."""
    configured = os.environ.get(IMAGE_VARIABLE)
    if configured:
        return configured
    image_maker = lab_program("image.sh")
    # Debian's programs have what the wheel's lack, contrib above all.
    programs = installed_servers()[0]
    tree = programs.folder.parent
    folders = [tree, *([Path("/usr/share/postgresql") / tree.name] if "pginstall" not in tree.name else [])]
    libraries = wheel_libraries(programs.folder)
    added = [f"{folder}:{folder}" for folder in (*folders, *([libraries] if libraries else [])) if folder.is_dir()]
    # By /usr: /lib is a link in the base image, which a folder of that name would hide.
    added += [
        f"{library.resolve()}:{str(library).replace('/lib/', '/usr/lib/', 1) if library.is_relative_to('/lib') else library}"
        for library in sorted(needed_libraries(programs.folder, "postgres", "initdb"))
        if not library.is_relative_to(tree)
    ]
    options = [item for one in added for item in ("--add", one)]
    path = f"{programs.folder}:/usr/local/bin:/usr/bin:/bin"
    with image_turn():
        made = subprocess.run(
            [image_maker, IMAGE, "--from", "python", *options, "--env", f"PATH={path}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert made.returncode == 0, made.stderr
    return f"localhost/{IMAGE}"


def needed_libraries(folder: Path, *programs: str) -> set[Path]:
    """The libraries that programs of a folder load, but for the C library's own, which every image has."""
    found: set[Path] = set()
    for program in programs:
        listed = subprocess.run(["ldd", folder / program], capture_output=True, text=True, check=True).stdout
        found |= {Path(match) for match in re.findall(r"=> (/\S+)", listed)}
    own = re.compile(r"/(libc|libm|libpthread|libdl|librt|ld-linux[^/]*)\.so")
    return {path for path in found if not own.search(str(path))}


def objects_of(cluster: KubernetesClient, namespace: str) -> list[dict[str, Any]]:
    """The Pods, Secrets (but tokens) and NetworkPolicies of a namespace."""
    paths = (
        f"/api/v1/namespaces/{namespace}/pods",
        f"/api/v1/namespaces/{namespace}/secrets",
        f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    )
    found = [item for path in paths for item in cluster.list(path)]
    return [item for item in found if item.get("type") != "kubernetes.io/service-account-token"]
