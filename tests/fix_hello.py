"""Images of a small web application that the node of a disposable cluster can start: two versions, made with the lab's own build.sh beside the checkout."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fix_cluster import image_turn, lab_program

_ATTEMPTS = 3


@dataclass(frozen=True)
class HelloImages:
    """Two versions with /health, /ready and /metrics on port 8080, and a third that nobody made."""

    first: str
    second: str
    missing: str


@pytest.fixture(scope="session")
def hello_images() -> HelloImages:
    """The images, made once a session."""
    program = lab_program("apps/hello/build.sh")
    with image_turn():
        first, second = (_made(program, f"nightshift-test-{number}") for number in (1, 2))
    return HelloImages(first, second, "localhost/hello:nightshift-test-missing")


def _made(program: Path, tag: str) -> str:
    """The name of an image that was made; tried again, as others may be making theirs at the same time."""
    for _ in range(_ATTEMPTS):
        made = subprocess.run([program, tag], capture_output=True, text=True, check=False, timeout=300)
        if made.returncode == 0:
            return f"localhost/hello:{tag}"
    pytest.fail(f"{program} {tag}: {made.stderr}")
