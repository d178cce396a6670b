"""Owners, privileges, states and comments of all objects that a dump brings back, read from the catalogues within one snapshot and told in words (core.object_facts).

All queries assume core.digest_sql.PINNED_SETTINGS; every role may read these catalogues. Subscriptions are left aside: pg_dump tells them to superusers alone.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from core.inventory import ExpectedEntry
from core.manifest import ObjectFacts
from core.object_facts import CHANGED_KIND, FORM, LISTED_AT_MOST, About, GroupKey, ObjectsSaid, collect_groups
from core.privileges import Everything, changed_privileges, parse_items, privilege_statements
from tasks.detail_queries import DETAILS
from tasks.object_queries import (
    CHANGED_QUERY,
    COLUMN_PRIVILEGES,
    COMMENTS,
    DEFAULT_PRIVILEGES,
    EVERYTHING,
    INVALID_INDEXES,
    LARGE_OBJECTS,
    MANY_LARGE_OBJECTS,
    NOT_ENFORCED,
    NOT_VALIDATED,
    OWNED,
    OWNER_QUERY,
    PARTS,
    PUBLISHED_SCHEMAS,
    STATES,
    Owned,
)
from tasks.postgres import Connection

_PRIVILEGES: About = "owner and privileges"
# Bytes as they are, whatever the encoding: nothing is converted that could fail.
_HASH = r"left(encode(sha256(convert_to(\1, getdatabaseencoding())), 'hex'), 16)"
_MAINTAIN_SINCE = 170000
_OWN = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%(exclude)s)"
Identity = tuple[int, int]


def read_object_facts(
    connection: Connection,
    exclude: Sequence[str],
    entries: Iterable[ExpectedEntry],
    *,
    large_objects: int,
    dumped_from: int = 0,
) -> ObjectFacts:
    """Given a session in its snapshot, the schemas left out, what the archive must list and the number of large objects, return what is said of them all.

    `dumped_from` is the version number of the server that a copy's database was dumped from (0: this one). Raise psycopg.Error.
    """
    reader = _Reader(connection, exclude, entries, dumped_from or connection.info.server_version)
    reader.read_owners()
    reader.read_columns_privileges()
    reader.read_default_privileges()
    reader.read_changed_privileges()
    reader.read_large_objects(grouped=large_objects > LISTED_AT_MOST)
    reader.read_states()
    reader.read_comments()
    reader.read_details()
    not_validated, not_enforced, invalid = map(reader.names, (NOT_VALIDATED, NOT_ENFORCED, INVALID_INDEXES))
    return ObjectFacts(
        form=FORM,
        groups=collect_groups(reader.objects.said),
        not_validated=not_validated,
        not_enforced=not_enforced,
        invalid_indexes=invalid,
        details=collect_groups(reader.details.said),
    )


class _Reader:
    """Reads one database, query by query."""

    def __init__(
        self, connection: Connection, exclude: Sequence[str], entries: Iterable[ExpectedEntry], dumped_from: int
    ) -> None:
        self._connection, self._exclude = connection, exclude
        self.objects, self.details = ObjectsSaid(), ObjectsSaid()
        self._names: dict[Identity, tuple[str, str]] = {
            (entry.catalogue_oid, entry.oid): (entry.kind, entry.name) for entry in entries if entry.catalogue_oid
        }
        oids = connection.execute(
            "SELECT 'pg_class'::regclass::oid, 'pg_namespace'::regclass::oid, 'pg_largeobject'::regclass::oid"
        ).fetchone()
        self._class, self._namespace, self._large_object = oids or (0, 0, 0)
        # The one schema that is there before a restore begins: it is not listed, its owner and its privileges are.
        for (oid,) in connection.execute("SELECT oid FROM pg_namespace WHERE nspname = 'public'"):
            if "public" not in exclude:
                self._names[self._namespace, oid] = ("schema", "public")
        unknown = frozenset() if dumped_from >= _MAINTAIN_SINCE else frozenset({"m"})
        self._everything = {
            letter: Everything(_letters(acl), unknown) for letter, acl in connection.execute(EVERYTHING)
        }

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(re.sub(r"\{hash ([^{}]+)\}", _HASH, query).encode()).fetchall()

    def names(self, query: str) -> tuple[str, ...]:
        """The names that a query of the dumped schemas gives."""
        parameters = {"exclude": list(self._exclude)}
        return tuple(row[0] for row in self._connection.execute(query.replace("{own}", _OWN).encode(), parameters))

    def _say(self, about: About, identity: Identity, schema_name: str, *statements: str) -> None:
        if named := self._names.get(identity):
            self.objects.say(GroupKey(about, named[0], schema_name), named[1], *statements)

    def read_owners(self) -> None:
        """Who owns each object, and the privileges that are not the usual ones."""
        query = " UNION ALL ".join(map(_owner_query, OWNED))
        for catalogue, oid, schema_name, owner, letter, acl, default in self._rows(query):
            statements = {f"owner {owner}"}
            if acl is not None:
                statements |= privilege_statements(acl, default, self._everything[letter])
            self._say(_PRIVILEGES, (catalogue, oid), schema_name, *statements)

    def read_columns_privileges(self) -> None:
        """Privileges on columns, told with their table."""
        for relation, column, acl, schema_name in self._rows(COLUMN_PRIVILEGES):
            for statement in privilege_statements(acl, (), Everything(frozenset())) if acl else ():
                self._say(_PRIVILEGES, (self._class, relation), schema_name, f"column {column}: {statement}")

    def read_default_privileges(self) -> None:
        """What new objects are to get; an object each of its own (`for role x in schema y on tables`)."""
        for catalogue, oid, schema_name, kind, acl in self._rows(DEFAULT_PRIVILEGES):
            everything = self._everything["s" if kind == "S" else kind]
            # Compared with nothing: in a schema these are added, elsewhere they stand for the usual ones.
            statements = privilege_statements(acl, ("PUBLIC=/nobody",), everything)
            self._say(_PRIVILEGES, (catalogue, oid), schema_name, *statements)

    def read_changed_privileges(self) -> None:
        """What was granted and revoked on objects of extensions and of the system, which a dump does not make but whose privileges it sets."""
        for kind in OWNED:
            if not kind.acl:
                continue
            for type_, schema_name, name, owner, letter, acl, initial in self._rows(_changed_query(kind)):
                statements = changed_privileges(acl, initial, self._everything[letter], owner)
                key = GroupKey(_PRIVILEGES, f"{CHANGED_KIND} {type_}", schema_name)
                # Without statements too: what was granted elsewhere to another may be the owner's own here.
                self.objects.say(key, name, f"owner {owner}", *statements)

    def read_large_objects(self, *, grouped: bool) -> None:
        """Large objects by their oids; `grouped`: those with the same owner and privileges together, as a number and a sum."""
        key = GroupKey(_PRIVILEGES, "large object", "")
        sums: dict[str, tuple[int, int]] = {}
        for name, owner, acl, default, number, total in self._rows(MANY_LARGE_OBJECTS if grouped else LARGE_OBJECTS):
            statements = [f"owner {owner}"]
            if acl is not None:
                statements += sorted(privilege_statements(acl, default, self._everything["L"]))
            if name is not None:
                self.objects.say(key, name, *statements)
                continue
            before = sums.get("; ".join(statements), (0, 0))
            sums["; ".join(statements)] = (before[0] + number, before[1] + int(total))
        for name, (number, total) in sums.items():
            self.objects.say(key, f"those with {name}", f"{number} of them, sum {total}")

    def read_states(self) -> None:
        """What is said of objects beside who may use them."""
        queries: tuple[LiteralString, ...] = STATES
        if self._connection.info.server_version >= 150000:
            queries = (*queries, PUBLISHED_SCHEMAS)
        for query in queries:
            for catalogue, oid, schema_name, statement in self._rows(query):
                if statement is not None:
                    self._say("state", (catalogue, oid), schema_name, statement)

    def read_details(self) -> None:
        """What a dump brings back besides, in groups of its own: backups from before it was recorded do not have them."""
        for query in DETAILS:
            for catalogue, oid, schema_name, statement in self._rows(query):
                if statement and (named := self._names.get((catalogue, oid))):
                    self.details.say(GroupKey("details", named[0], schema_name), named[1], statement)

    def read_comments(self) -> None:
        """Comments, by their hash; those on parts of a relation or a type are told with it."""
        parts = {(row[0], row[1]): (row[2], (row[3], row[4])) for row in self._rows(PARTS)}
        for catalogue, oid, column, digest in self._rows(COMMENTS):
            part, identity = parts.get((catalogue, oid), ("", (catalogue, oid)))
            words = " ".join(word for word in (part, f"column {column}:" if column else "", "comment", digest) if word)
            self._say("comments", identity, "", words)


def _letters(acl: Sequence[str]) -> frozenset[str]:
    """The letters of an owner, who has everything."""
    return frozenset().union(*(item.letters for item in parse_items(acl) if item.grantee))


def _owner_query(kind: Owned) -> str:
    default = f'CASE WHEN {kind.acl} IS NOT NULL THEN acldefault(({kind.letter})::"char", {kind.owner})::text[] END'
    return OWNER_QUERY.format(
        catalogue=kind.catalogue,
        owner=kind.owner,
        namespace=kind.namespace,
        letter=kind.letter or "''",
        acl=f"{kind.acl}::text[]" if kind.acl else "NULL::text[]",
        default=default if kind.acl else "NULL::text[]",
        condition=kind.condition,
    )


def _changed_query(kind: Owned) -> str:
    in_schema = kind.namespace != "NULL::oid"
    return CHANGED_QUERY.format(
        catalogue=kind.catalogue,
        owner=kind.owner,
        namespace=kind.namespace,
        letter=kind.letter,
        acl=kind.acl,
        of_initdb="n.nspname = 'pg_catalog'"
        if in_schema
        else "o.nspname = 'pg_catalog'"
        if kind.catalogue == "pg_namespace"
        else "true",
    )
