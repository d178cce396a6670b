"""What the Dockerfile makes, made without docker for the lab's node: the packages of requirements-image.lock, nightshift, and Debian's PostgreSQL and tini.

The name of an image that the cluster can pull may be given by NIGHTSHIFT_TEST_IMAGE instead.
"""

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, version
from io import BytesIO
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from tasks.postgres_binaries import installed_servers
from tests.fix_cluster import image_turn, lab_program, needed_libraries
from tests.fix_platform import CHECKOUT
from tests.leave_out import leave_out

IMAGE_VARIABLE = "NIGHTSHIFT_TEST_IMAGE"
IMAGE = "nightshift-test:1"
LOCK = CHECKOUT / "requirements-image.lock"
# As the Dockerfile has them: tests/test_image_files.py compares.
USER = 10001
HOME = "opt/nightshift"
PYTHON = f"/{HOME}/.venv/bin/python"
VARIABLES = {
    "PATH": f"/{HOME}/.venv/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": "/home/nightshift",
    "PREFECT_HOME": "/tmp/prefect",
    "PREFECT_SERVER_UI_STATIC_DIRECTORY": "/tmp/prefect/ui",
    "NIGHTSHIFT_DATA": "/var/lib/nightshift",
    "NIGHTSHIFT_ENVIRONMENTS": "/etc/nightshift/environments",
    "PYTHONUNBUFFERED": "1",
    "DO_NOT_TRACK": "1",
}
ACCOUNTS = f"root:x:0:0:root:/root:/bin/sh\nnightshift:x:{USER}:{USER}::/home/nightshift:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
TINI = Path("/usr/bin/tini")


# Debian's, as in the image, whose base the lab makes of the packages of this machine's Debian. The tests may run on another patch of the same minor.
SYSTEM_PYTHON = "/usr/bin/python3"


def locked_packages(python: str) -> dict[str, str]:
    """Given a version of Python, return what the lock installs for it on this system: each package's name, and its line of a file of requirements."""
    minor = ".".join(python.split(".")[:2])
    environment = {**default_environment(), "python_full_version": python, "python_version": minor}
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\w)", LOCK.read_text().replace("\\\n", " ")):
        pinned, *hashes = entry.split(" --hash=")
        if "==" in pinned:
            one = Requirement(pinned.strip())
            if one.marker is None or one.marker.evaluate(environment):
                found[one.name] = " --hash=".join([f"{one.name}{one.specifier}", *map(str.strip, hashes)])
    return found


def installed_packages(python: str, folder: Path) -> Iterator[Distribution]:
    """The same packages, installed: those of the tests' own Python, and into a folder what it does without."""
    lacking: list[str] = []
    for name, line in locked_packages(python).items():
        try:
            yield distribution(name)
        except PackageNotFoundError:
            lacking.append(line)
    if lacking:
        (folder / "requirements.txt").write_text("\n".join(lacking) + "\n")
        options = ["--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options]
        where = ["--target", folder / "packages", "--requirement", folder / "requirements.txt"]
        done = subprocess.run([*command, *where], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        yield from distributions(path=[str(folder / "packages")])


def version_of(python: str) -> str:
    """The version of an interpreter."""
    asked = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def nightshift_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image's name."""
    configured = os.environ.get(IMAGE_VARIABLE)
    if configured:
        return configured
    maker = lab_program("image.sh")
    if not TINI.exists():
        leave_out("tini is not installed")
    folder = tmp_path_factory.mktemp("image")
    layer = folder / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        _add_python(archive, folder)
        _add_postgres(archive)
        archive.add(TINI, "usr/bin/tini", filter=_of_root)
        _write(archive, "etc/passwd", ACCOUNTS)
        _write(archive, "etc/group", f"root:x:0:\nnightshift:x:{USER}:\nnogroup:x:65534:\n")
    variables = [item for name, value in VARIABLES.items() for item in ("--env", f"{name}={value}")]
    options = ["--layer", layer, *variables, "--user", f"{USER}:{USER}", "--workdir", VARIABLES["HOME"]]
    with image_turn():
        made = subprocess.run(
            [maker, IMAGE, "--from", "python", *options], capture_output=True, text=True, check=False, timeout=300
        )
    layer.unlink()
    assert made.returncode == 0, made.stderr
    return f"localhost/{IMAGE}"


def _add_python(archive: tarfile.TarFile, folder: Path) -> None:
    """The virtual environment, of Debian's Python, and the code as in a checkout. Bytecode comes along: its sources keep their times."""
    python = version_of(SYSTEM_PYTHON)
    assert python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}."), f"Debian's Python is {python}"
    packages = f"{HOME}/.venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for package in installed_packages(python, folder):
        for file in package.files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():
                archive.add(source, f"{packages}/{file}", filter=_of_root)
                compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
                if source.suffix == ".py" and compiled.exists():
                    inside = f"{packages}/{Path(str(file)).parent}/__pycache__/{compiled.name}"
                    archive.add(compiled, inside, filter=_of_root)
    _write(archive, f"{packages}/nightshift.pth", f"/{HOME}\n")
    metadata = distribution("nightshift").read_text("METADATA") or ""
    _write(archive, f"{packages}/nightshift-{version('nightshift')}.dist-info/METADATA", metadata)
    _write(archive, f"{HOME}/.venv/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    link = tarfile.TarInfo(PYTHON.lstrip("/"))
    link.type, link.linkname = tarfile.SYMTYPE, SYSTEM_PYTHON
    archive.addfile(link)
    for program, module in {"prefect": "prefect.cli", "nightshift": "deployments.command.main"}.items():
        function = "app" if program == "prefect" else "main"
        text = f"#!{PYTHON}\nfrom {module} import {function}\n{function}()\n"
        _write(archive, f"{HOME}/.venv/bin/{program}", text, 0o755)
    # As it stands before a first run: empty, and the user's.
    for home in ("home/nightshift", "var/lib/nightshift"):
        member = tarfile.TarInfo(home)
        member.type, member.mode, member.uid, member.gid = tarfile.DIRTYPE, 0o700, USER, USER
        archive.addfile(member)
    for name in ("core", "tasks", "flows", "deployments", "prefect.yaml", "pyproject.toml"):
        archive.add(CHECKOUT / name, f"{HOME}/{name}", filter=_of_root)


def _add_postgres(archive: tarfile.TarFile) -> None:
    """Debian's PostgreSQL, client and server, and what its programs load."""
    programs = installed_servers()[0]
    tree = programs.folder.parent
    if not tree.is_relative_to("/usr/lib/postgresql"):
        leave_out("Debian's PostgreSQL is not installed")
    for folder in (tree, Path("/usr/share/postgresql") / tree.name):
        archive.add(folder, str(folder).lstrip("/"), filter=_of_root)
    for library in sorted(needed_libraries(programs.folder, "postgres", "initdb", "pg_dump", "pg_restore", "psql")):
        # By /usr: /lib is a link in the base image, which a folder of that name would hide.
        inside = re.sub("^/lib/", "/usr/lib/", str(library)).lstrip("/")
        archive.add(library.resolve(), inside, filter=_of_root)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= 0o444 | (0o111 if member.isdir() or member.mode & 0o100 else 0)
    return member


def _write(archive: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    content = text.encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, BytesIO(content))
