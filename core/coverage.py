"""Coverage: what a dump should hold against what it lists, so that an object which nobody dumped is named on the night it was missed."""

import re
from collections.abc import Iterable, Iterator, Sequence

from core.archive_listing import Entry
from core.inventory import Expected, ExpectedEntry, ExpectedTag
from core.manifest import Coverage, Role

LARGE_OBJECT_CATALOGUE = 2613
# A quoted name may hold a line's end.
_CREATE_ROLE = re.compile(r"^CREATE ROLE (?P<name>\"(?:[^\"]|\"\")+\"|[^\s;\"]+);\s*$", re.MULTILINE)
_OID_RANGE = re.compile(r"(?P<first>\d+)(?:\.\.(?P<last>\d+))?")
_WHAT_TAGS_ARE = {"ACL": "privileges of", "COMMENT": "comment on"}


def compare_coverage(
    expected: Iterable[Expected], entries: Sequence[Entry], roles: Sequence[Role], globals_sql: str
) -> Coverage:
    """Given what the archive must list, what it lists, the roles concerned and the text of `pg_dumpall --globals-only`, return the comparison.

    Objects are matched by (catalogue oid, oid), data by its table's oid and word, privileges and comments by their words, roles by CREATE ROLE.
    """
    listing = _Listing(entries, [role.name for role in roles])
    defined = set(roles_defined(globals_sql))
    missing: list[str] = []
    number = 0
    for item in expected:
        number += 1
        if not listing.holds(item):
            missing.append(_name(item))
    lost_roles = [f"role {role.name}" for role in roles if not role.name.startswith("pg_") and role.name not in defined]
    number += sum(not role.name.startswith("pg_") for role in roles)
    missing += lost_roles
    return Coverage(expected=number, listed=number - len(missing), missing=tuple(missing))


def roles_defined(globals_sql: str) -> Iterator[str]:
    """Given the text of `pg_dumpall --globals-only`, give the names of the roles that it creates."""
    for match in _CREATE_ROLE.finditer(globals_sql):
        name = match["name"]
        yield name[1:-1].replace('""', '"') if name.startswith('"') else name


def _name(item: Expected) -> str:
    if isinstance(item, ExpectedEntry):
        return f"{item.kind} {item.name}"
    place = "" if item.schema_name == "-" else f" in schema {item.schema_name}"
    return f"{_WHAT_TAGS_ARE.get(item.kind, item.kind.lower())} {item.tag}{place}"


class _Listing:
    """An archive's entries, to be looked up."""

    def __init__(self, entries: Sequence[Entry], owners: Sequence[str]) -> None:
        self._with_oid = {(entry.catalogue_oid, entry.oid) for entry in entries if entry.catalogue_oid}
        self._by_kind = {(entry.kind.lower(), entry.oid) for entry in entries if not entry.catalogue_oid}
        self._words: set[tuple[str, str]] = set()
        spaced = [f" {_plain(owner)}" for owner in owners if " " in owner]
        for entry in entries:
            if not entry.catalogue_oid and not entry.oid:
                self._words.update((entry.kind, words) for words in _without_owner(_plain(entry.words), spaced))
        self._metadata = list(_ranges(entry for entry in entries if entry.kind in {"BLOB", "BLOB METADATA"}))
        self._privileges = list(_ranges(entry for entry in entries if entry.words.startswith("- LARGE OBJECTS ")))
        self._contents = list(_ranges(entry for entry in entries if entry.kind == "BLOBS"))

    def holds(self, item: Expected) -> bool:
        if isinstance(item, ExpectedTag):
            return (item.kind, _plain(f"{item.schema_name} {item.tag}")) in self._words or self._in_a_group(item)
        if item.catalogue_oid == LARGE_OBJECT_CATALOGUE:
            return _within(item.oid, self._metadata) and _within(item.oid, self._contents)
        if item.catalogue_oid == 0:
            return (item.kind, item.oid) in self._by_kind
        return (item.catalogue_oid, item.oid) in self._with_oid

    def _in_a_group(self, item: ExpectedTag) -> bool:
        # From 17 on large objects with the same privileges share an entry.
        kind, _blank, oid = item.tag.rpartition(" ")
        return item.kind == "ACL" and kind == "LARGE OBJECT" and _within(int(oid), self._privileges)


def _plain(words: str) -> str:
    # Quotes depend on the keywords that client and server know; pg_restore prints line ends in names as blanks.
    return re.sub(r"[\r\n]", " ", words).replace('"', "")


def _without_owner(words: str, spaced_owners: Sequence[str]) -> Iterator[str]:
    yield words.rpartition(" ")[0]
    for owner in spaced_owners:
        if words.endswith(owner):
            yield words[: -len(owner)]


def _ranges(entries: Iterable[Entry]) -> Iterator[tuple[int, int]]:
    """The oids that entries of large objects are for. From 17 on one entry is for many (`50001..50003`), before that BLOBS is for all."""
    for entry in entries:
        tag = entry.words.removeprefix("- LARGE OBJECTS ").removeprefix("- ").split(" ", 1)[0]
        if match := _OID_RANGE.fullmatch(tag):
            yield int(match["first"]), int(match["last"] or match["first"])
        elif tag == "BLOBS":
            yield 0, 2**32 - 1


def _within(oid: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= oid <= last for first, last in ranges)
