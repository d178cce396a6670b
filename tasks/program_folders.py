"""Where PostgreSQL's programs lie on this machine, and which of several installations fits a server or a dump: the smallest major that is at least as new."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from core.errors import PermanentError

BIN_VARIABLE = "NIGHTSHIFT_POSTGRES_BIN"
DEBIAN = Path("/usr/lib/postgresql")


class Installed(Protocol):
    """One folder of programs of one major; `version` is what they say of themselves, such as 16.14."""

    @property
    def folder(self) -> Path:
        """The bin folder."""

    @property
    def major(self) -> int:
        """The major version."""

    @property
    def version(self) -> str:
        """The whole version."""


Programs = TypeVar("Programs", bound=Installed)


def named_folders() -> Iterator[Path]:
    """The folders of NIGHTSHIFT_POSTGRES_BIN (separated as in PATH), then Debian's; whether they hold anything is to be seen."""
    for text in os.environ.get(BIN_VARIABLE, "").split(os.pathsep):
        if text:
            yield Path(text)
    yield from sorted(DEBIAN.glob("*/bin"))


def one_a_major(found: Iterable[Programs]) -> tuple[Programs, ...]:
    """Given installations in the order looked at, return the first of each major."""
    by_major: dict[int, Programs] = {}
    for programs in found:
        by_major.setdefault(programs.major, programs)
    return tuple(by_major.values())


def smallest_fitting(
    installed: Sequence[Programs], major: int, *, attempted: str, on: str, what: str, next_step: str
) -> Programs:
    """Return the smallest installed major that is at least `major`. Raise PermanentError, saying what is installed, when no `what` is."""
    if fitting := [programs for programs in installed if programs.major >= major]:
        return min(fitting, key=lambda programs: programs.major)
    there = ", ".join(f"{programs.version} in {programs.folder}" for programs in installed) or "none"
    raise PermanentError(
        attempted, on, f"no {what} of major {major} or newer is installed here; found: {there}", next_step
    )
