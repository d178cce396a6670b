"""What a role lacks to look at a part of a restored copy, and what would give it, in SQL.

The copy is dropped, and the next one is made anew of the dump: a grant on a table of this copy would go with it. What is proposed holds for the role.
"""

from collections.abc import Iterable

from core.digest_sql import quoted
from core.manifest import Record

_NAMED_AT_MOST = 3


class Access(Record):
    """How a role stands to a table. `hidden`: row security would keep rows from it."""

    owner: str
    schema_usage: bool
    select: bool
    hidden: bool


def table_remedy(role: str, access: Access) -> str:
    """Given a role that could not read a table and how it stands to it, return what it lacks and what to grant."""
    lacks = [word for word, has in (("USAGE on its schema", access.schema_usage), ("SELECT", access.select)) if not has]
    steps = [f"GRANT pg_read_all_data TO {quoted(role)}, or GRANT {quoted(access.owner)} TO {quoted(role)}"] * bool(
        lacks
    )
    if access.hidden:
        lacks.append("BYPASSRLS (row security is on)")
        steps.append(f"ALTER ROLE {quoted(role)} BYPASSRLS")
    if not lacks:
        return f"look at it as its owner {access.owner}, or as a superuser"
    return f"{role} lacks {' and '.join(lacks)}: {'; '.join(steps)}"


def large_objects_remedy(role: str, owners: Iterable[str]) -> str:
    """Given a role that could not read all large objects and the owners that it cannot act for, return what it lacks and what to grant."""
    others = sorted(owners)
    shown = ", ".join(quoted(owner) for owner in others[:_NAMED_AT_MOST]) + (
        ", …" if len(others) > _NAMED_AT_MOST else ""
    )
    return f"{role} lacks SELECT on it: GRANT {shown} TO {quoted(role)}" if others else f"{role} lacks SELECT on it"


def sequence_remedy(role: str) -> str:
    """Given a role that may not read a sequence, return what it lacks and what to grant."""
    return f"{role} lacks SELECT, or USAGE on its schema: GRANT pg_read_all_data TO {quoted(role)}"
