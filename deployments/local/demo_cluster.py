"""The Kubernetes cluster that the releases of the demo are shown on: what KUBECONFIG names, else kube-lab beside the checkout, started for as long as it is needed.

And three images of one application: two good ones and a bad one. In kube-lab they are made; anywhere else nothing is assumed about what the nodes can pull.
"""

import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError, TemporaryError
from deployments.local.data_folder import CHECKOUT
from deployments.local.supervisor import Tell, signals_wait
from tasks.kubeconfig import find_connection

LAB = CHECKOUT.parent / "shared" / "kube-lab"
IMAGES_VARIABLE = "NIGHTSHIFT_DEMO_IMAGES"
_ATTEMPTED = "show releases"
_CLUSTER_NEEDED = (
    "It needs a Kubernetes API and nodes that run Pods: make a disposable cluster (kind create cluster, minikube start or k3d cluster create) and set KUBECONFIG "
    f"to its file; or lay kube-lab beside the checkout ({LAB})"
)
_IMAGES_NEEDED = (
    f"Set {IMAGES_VARIABLE}=GOOD1,GOOD2,BAD to three images of one repository, each by digest (NAME@sha256:…), that its nodes can pull: GOOD1 and GOOD2 answer "
    "200 to GET /health and /ready on port 8080, BAD does not or ends at once"
)
# The first time kube-lab is downloaded and unpacked.
_UP_SECONDS, _DOWN_SECONDS, _BUILD_SECONDS = 600.0, 120.0, 300.0
# Each new version needs a while until it is ready, so that there is a middle in which it can be killed.
VERSIONS: Mapping[str, tuple[str, ...]] = {
    "first": ("READY_DELAY=1",),
    "second": ("READY_DELAY=4",),
    "bad": ("CRASH_AFTER=0.2",),
}
# The lab's own words for where images lie; it has no command that removes one.
_REMOVE = """. "$1/lib.sh"; tag=$2; shift 2; ctri images rm "localhost/hello:$tag" "$@" >/dev/null 2>&1
rm -f "$TESTIMG/hello_$tag.tar" "$DATA/containerd/.imported-hello_$tag.tar\""""


@dataclass(frozen=True)
class DemoImages:
    """Images by digest, of one repository."""

    first: str
    second: str
    bad: str

    @property
    def repository(self) -> str:
        """Their repository, without tag and digest."""
        return self.first.partition("@")[0]

    def label(self, image: str) -> str:
        """What a person calls an image."""
        known = {self.first: "first version", self.second: "second version", self.bad: "bad version"}
        return known.get(image, image.rpartition("@")[2][:19])


@contextmanager
def demo_cluster(
    tell: Tell,
    *,
    variables: MutableMapping[str, str] = os.environ,
    lab: Path | None = None,
    versions: Mapping[str, tuple[str, ...]] = VERSIONS,
) -> Iterator[DemoImages]:
    """Make sure that KUBECONFIG names a cluster, and yield the images for it. What was started and made for it is stopped and removed.

    lab: kube-lab's folder; None: the one beside the checkout. versions: name → settings of the lab's application, where images are made.

    Raise ConfigurationError, saying how to get one, when there is no cluster or no image.
    """
    lab = lab or LAB
    with _cluster(tell, variables, lab) as is_lab:
        given = variables.get(IMAGES_VARIABLE, "")
        if given:
            yield read_images(given)
        elif is_lab:
            with _lab_images(tell, lab, versions) as images:
                yield images
        else:
            found = f"{variables['KUBECONFIG']} is not kube-lab's, where images are made"
            raise ConfigurationError(_ATTEMPTED, IMAGES_VARIABLE, found, _IMAGES_NEEDED)


def lab_home(variables: Mapping[str, str]) -> Path:
    """Where kube-lab keeps its cluster, its kubeconfig and its programs."""
    return Path(variables.get("KUBE_LAB_HOME") or "/var/tmp/kube-lab")  # noqa: S108 - where the lab itself keeps it


def read_images(given: str) -> DemoImages:
    """Given GOOD1,GOOD2,BAD, return the images. Raise ConfigurationError when they are not three by digest, of one repository."""
    images = [one.strip() for one in given.split(",")]
    by_digest = all("@sha256:" in one for one in images)
    if len(set(images)) != 3 or not by_digest or len({one.partition("@")[0] for one in images}) != 1:
        raise ConfigurationError(_ATTEMPTED, IMAGES_VARIABLE, f"{given!r} is something else", _IMAGES_NEEDED)
    return DemoImages(*images)


@contextmanager
def _cluster(tell: Tell, variables: MutableMapping[str, str], lab: Path) -> Iterator[bool]:
    """KUBECONFIG set; yield whether it is kube-lab's."""
    own = lab_home(variables) / "admin.kubeconfig"
    if files := variables.get("KUBECONFIG"):
        # The worker runs in another folder.
        variables["KUBECONFIG"] = os.pathsep.join(
            str(Path(one).expanduser().resolve()) for one in files.split(os.pathsep) if one
        )
        yield lab.is_dir() and _same_server(variables, own)
        return
    if not (lab / "up.sh").exists():
        raise ConfigurationError(_ATTEMPTED, "this machine", "KUBECONFIG is not set", _CLUSTER_NEEDED)
    # Asked before anything is started: a lab that somebody else uses is not stopped, not even one that is not well.
    answers, told = _run([lab / "status.sh"], 60.0)
    was_up = re.search(r"^(kube-apiserver|node) +running", told, re.MULTILINE) is not None
    try:
        if not answers:
            tell("starting kube-lab (the first time it takes a minute)")
            well, told = _run([lab / "up.sh"], _UP_SECONDS)
            if not well:
                raise ConfigurationError(_ATTEMPTED, str(lab / "up.sh"), _last_line(told), _CLUSTER_NEEDED)
        variables["KUBECONFIG"] = str(own)
        yield True
    finally:
        if not was_up:
            with signals_wait():
                tell("stopping kube-lab")
                well, told = _run([lab / "down.sh"], _DOWN_SECONDS)
                if not well:
                    tell(f"kube-lab was not stopped: {_last_line(told)}")


def _same_server(variables: Mapping[str, str], own: Path) -> bool:
    try:
        lab = find_connection(None, {"KUBECONFIG": str(own)})
        return find_connection(None, variables).server == lab.server
    except (ConfigurationError, TemporaryError):
        return False


@contextmanager
def _lab_images(tell: Tell, lab: Path, versions: Mapping[str, tuple[str, ...]]) -> Iterator[DemoImages]:
    """Images of the lab's small application, made for this once."""
    mark, made = secrets.token_hex(3), dict[str, str]()
    tags = {name: f"nightshift-demo-{mark}-{name}" for name in versions}
    try:
        tell(f"making images of kube-lab's application: {', '.join(tags.values())}")
        for name, options in versions.items():
            made[name] = _built(lab, tags[name], options)
        yield DemoImages(**made)
    finally:
        with signals_wait():
            for name, tag in tags.items():
                well, told = _run(["bash", "-c", _REMOVE, "bash", lab, tag, *filter(None, [made.get(name)])], 60.0)
                if not well:
                    tell(f"image {tag} was not removed: {_last_line(told)}")


def _built(lab: Path, tag: str, options: tuple[str, ...]) -> str:
    program = lab / "apps" / "hello" / "build.sh"
    well, told = _run([program, tag, *options], _BUILD_SECONDS)
    by_digest = next((word for word in told.split() if "@sha256:" in word), None)
    if not well or by_digest is None:
        raise ConfigurationError(_ATTEMPTED, str(program), _last_line(told), _IMAGES_NEEDED)
    return by_digest


def _run(command: list[str | Path], seconds: float) -> tuple[bool, str]:
    """Run a program of the lab to its end, in a session of its own, so that Ctrl-C reaches us alone; whether it ended well, and what it said."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            told, _ = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return False, f"it did not end within {seconds:.0f} s"
            raise
    return process.returncode == 0, told


def _last_line(told: str) -> str:
    return next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "it failed without a word")
