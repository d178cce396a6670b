"""The sample's SQL files: what each says about itself in its first comment lines.

-- needs: version 17        run on this major and newer ones only
-- needs: extension citext  what a build may lack; it says so itself when the file is run (SQLSTATE 0A000, or 58P01 for a missing file)
-- feature: enum            what the file brings, one line each: this is where the list of features comes from
"""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROLES = FOLDER / "roles.sql"

_LINE = re.compile(r"^-- (feature|needs): (.+)$", re.MULTILINE)
_VERSION = re.compile(r"version (\d+)")


@dataclass(frozen=True)
class Script:
    """One file. `needs` is empty when every server from 14 on can run it; `version` is 0 unless it needs a major."""

    name: str
    body: bytes
    features: tuple[str, ...]
    needs: str
    version: int

    @property
    def bound_to_build(self) -> bool:
        """Whether another build of the same major may lack what this file needs."""
        return bool(self.needs) and not self.version


def read_scripts() -> tuple[Script, ...]:
    """Return the files of `sql/` in the order in which they are run."""
    return tuple(_read(path) for path in sorted((FOLDER / "sql").glob("*.sql")))


def _read(path: Path) -> Script:
    body = path.read_bytes()
    lines: list[tuple[str, str]] = _LINE.findall(body.decode())
    needs = " and ".join(text for kind, text in lines if kind == "needs")
    version = _VERSION.fullmatch(needs)
    features = tuple(text for kind, text in lines if kind == "feature")
    return Script(path.stem, body, features, needs, int(version[1]) if version else 0)
