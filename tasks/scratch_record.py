"""What a drill is told of the server that it restores into."""

from dataclasses import dataclass
from typing import Literal

from core.environment_database import Database

Kind = Literal["embedded", "server", "pod"]


@dataclass(frozen=True)
class Scratch:
    """A PostgreSQL server that a drill may make databases on.

    `login` connects to its maintenance database. `settings` are those that nightshift gave it, `indicative` says that they make it quicker than a server in
    service would be, so that a recovery time measured here is only indicative. `isolation` says in plain words what untrusted code of a dump is kept from;
    `notes` what it could not be kept from, and what else a reader of the drill's report should know.
    """

    kind: Kind
    name: str
    login: Database
    settings: dict[str, str]
    indicative: bool
    isolation: tuple[str, ...]
    notes: tuple[str, ...]
