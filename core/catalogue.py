"""What lies in a database's folder of the bucket, told from a listing alone: which backups, in which state, how large, and what is not ours.

State, by which objects exist: `incomplete` (no manifest: no backup), `uploaded` (manifest), `decoded` (read back from S3 and decoded to its end),
`proven` (a drill restored it and everything matched). `damaged` no listing tells: its
mark is read (tasks.trust). A state that something leans on is verified by its signature elsewhere (tasks.catalogue).

Kept small on purpose, about 200 bytes a backup: the names of a backup's objects are the same ones night after night, so they are held once.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from pydantic import AwareDatetime

from core.backup_id import is_backup_id, snapshot_time_of
from core.keys import DECODED, MANIFEST, PROVEN
from core.manifest import Manifest, Record

State = Literal["incomplete", "uploaded", "decoded", "proven", "damaged"]
USABLE: frozenset[State] = frozenset({"decoded", "proven"})

# Segments as core.segments names them, of a stream (`dump/00000.zst`) or of each file of the directory format (`dump/4242.dat/00000.zst`).
_OWN_SUFFIX = re.compile(r"(dump|globals)/([^/]+/)?\d{5,6}\.zst|manifest\.json|state/(?!owner\.)[a-z0-9-]+\.json")
DATA_FOLDERS = ("dump/", "globals/")
_OWNER = "owner.json"
_EXAMPLES = 5


class Owner(Record):
    """The object that says whose a database's folder is."""

    format: Literal["nightshift-owner/1"] = "nightshift-owner/1"
    environment: str
    database: str
    created: AwareDatetime


class Listed(Protocol):
    """An object as a listing tells of it: full key, bytes, and when it was last written (UTC)."""

    @property
    def key(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def modified(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One backup's folder. `suffixes` are its objects' keys relative to the folder, ascending; `newest_modified_epoch` is in whole seconds.

    `data_bytes` is the size of dump and globals alone, None where it is not known.
    """

    backup_id: str
    state: State
    size_bytes: int
    newest_modified_epoch: int
    suffixes: tuple[str, ...]
    data_bytes: int | None = None

    @property
    def manifest_removed(self) -> bool:
        """Whether it was read back once, so had a manifest, and has none now: no remains of an unfinished backup."""
        return self.state == "incomplete" and any(suffix.startswith("state/") for suffix in self.suffixes)

    @property
    def snapshot_time(self) -> datetime:
        """When the snapshot was taken (UTC), as the id says."""
        return snapshot_time_of(self.backup_id)

    @property
    def newest_modified(self) -> datetime:
        """When the newest of its objects was written (UTC), by S3's clock."""
        return datetime.fromtimestamp(self.newest_modified_epoch, UTC)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A database's folder: entries ascending by id, and how many objects in it are not of nightshift's layout (with the first few keys)."""

    entries: tuple[CatalogueEntry, ...]
    foreign: int = 0
    foreign_examples: tuple[str, ...] = ()
    owned: bool = False

    @property
    def backups(self) -> tuple[CatalogueEntry, ...]:
        """The entries that are backups: those with a manifest."""
        return tuple(entry for entry in self.entries if entry.state != "incomplete")

    @property
    def incomplete(self) -> tuple[CatalogueEntry, ...]:
        """What is left of unfinished backups, or belongs to one that is being made."""
        return tuple(entry for entry in self.entries if entry.state == "incomplete")

    @property
    def recovery_point(self) -> CatalogueEntry | None:
        """The newest backup that was decoded (a proven one was, too)."""
        return next((entry for entry in reversed(self.entries) if entry.state in USABLE), None)

    @property
    def newest_proven(self) -> CatalogueEntry | None:
        """The newest backup that a drill restored."""
        return next((entry for entry in reversed(self.entries) if entry.state == "proven"), None)


def split_own_key(key: str, folder: str) -> tuple[str, str] | None:
    """Given a key and a database's folder (with its slash), return backup id and suffix, or None when the key is not of nightshift's layout there."""
    if not key.startswith(folder):
        return None
    backup_id, _, suffix = key[len(folder) :].partition("/")
    return (backup_id, suffix) if _OWN_SUFFIX.fullmatch(suffix) and is_backup_id(backup_id) else None


def data_problem(entry: CatalogueEntry, manifest: Manifest) -> str:
    """Given a backup as listed and its verified manifest, say what of its data is not there as it was written; "" when all is there in its size."""
    parts = (*manifest.archive.parts, manifest.globals)
    written = {segment.key: segment.stored_bytes for part in parts for segment in part.segments}
    if missing := sorted(written.keys() - set(entry.suffixes)):
        return f"{len(missing)} of its {len(written)} data objects are missing, the first is {missing[0]}"
    extra = any(key.startswith(DATA_FOLDERS) and key not in written for key in entry.suffixes)
    total = sum(written.values())
    # Objects that somebody put beside ours do no harm; then only less than was written can be told from the sum.
    if entry.data_bytes is not None and (entry.data_bytes < total or (entry.data_bytes > total and not extra)):
        return f"its data has {entry.data_bytes} bytes in the bucket, {total} were written"
    return ""


def state_of(suffixes: Iterable[str]) -> State:
    """Given the keys of a backup's objects relative to its folder, return the state that they tell."""
    present = frozenset(suffixes)
    if MANIFEST not in present:
        return "incomplete"
    if PROVEN in present:
        return "proven"
    return "decoded" if DECODED in present else "uploaded"


@dataclass(slots=True)
class _Folder:
    backup_id: str = ""
    size_bytes: int = 0
    data_bytes: int = 0
    newest: float = 0.0
    suffixes: list[str] = field(default_factory=list)


class _Builder:
    """Reads a listing once, object by object, and holds the names that recur only once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.foreign = 0
        self.examples: list[str] = []
        self.owned = False
        self._names: dict[str, str] = {}
        self._tuples: dict[tuple[str, ...], tuple[str, ...]] = {}

    def entries(self, objects: Iterable[Listed]) -> Iterator[CatalogueEntry]:
        current = _Folder()
        for listed in objects:
            if listed.key == self.folder + _OWNER:
                self.owned = True
                continue
            # Parsing the id once a folder, not once an object, is what keeps a listing of millions of keys quick.
            inside = f"{self.folder}{current.backup_id}/"
            if current.backup_id and listed.key.startswith(inside) and _OWN_SUFFIX.fullmatch(listed.key[len(inside) :]):
                self._add(current, listed.key[len(inside) :], listed)
                continue
            own = split_own_key(listed.key, self.folder)
            if own is None:
                self._count_foreign(listed.key)
                continue
            if current.backup_id:
                yield self._entry(current)
            if own[0] <= current.backup_id:
                raise ValueError(f"the listing is not in order: {own[0]} comes after {current.backup_id}")
            current = _Folder(own[0])
            self._add(current, own[1], listed)
        if current.backup_id:
            yield self._entry(current)

    def _add(self, current: _Folder, suffix: str, listed: Listed) -> None:
        current.suffixes.append(self._names.setdefault(suffix, suffix))
        current.size_bytes += listed.size_bytes
        if suffix.startswith(DATA_FOLDERS):
            current.data_bytes += listed.size_bytes
        current.newest = max(current.newest, listed.modified.timestamp())

    def _entry(self, current: _Folder) -> CatalogueEntry:
        suffixes = tuple(current.suffixes)
        suffixes = self._tuples.setdefault(suffixes, suffixes)
        state = state_of(suffixes)
        return CatalogueEntry(
            current.backup_id, state, current.size_bytes, int(current.newest), suffixes, current.data_bytes
        )

    def _count_foreign(self, key: str) -> None:
        self.foreign += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(key)


def catalogue_of(objects: Iterable[Listed], folder: str) -> Catalogue:
    """Given a listing of a database's folder (ascending by key, as S3 lists) and the folder's key, return its catalogue.

    Raise ValueError when the listing is not in order: S3 promises it, and a backup read in two halves would look incomplete.
    """
    builder = _Builder(folder)
    entries = tuple(builder.entries(objects))
    return Catalogue(entries, builder.foreign, tuple(builder.examples), builder.owned)
