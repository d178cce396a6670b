"""The statements that make a database as the source was, under another name: CREATE DATABASE, its privileges, settings, limits and comment.

As dumpDatabase and dumpDatabaseConfig write them (src/bin/pg_dump/pg_dump.c), which put the source's name into every statement and so cannot be replayed.
Quoting is core.sql_text's and core.digest_sql.quoted's. Tablespaces are not asked for: objects go to the database's default one.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from core.canonical import canonical_bytes
from core.digest_sql import quoted
from core.manifest import DatabaseProperties, DatabaseSetting, Record
from core.sql_text import literal, setting_value

TEMPORARY_NAME = re.compile(r"nightshift_[0-9a-f]{8}")
NAME_BYTES = 63
RESERVED_NAMES = frozenset({"template0", "template1", "postgres"})

# pg_dump's sessions get the source's settings before any data; these would change where pg_restore puts things, as whom, or whether it may write at all.
# pg_restore resets what ends statements by time with its first statements, which are under it already. Some change what a value or a definition comes back as
# (array_nulls, transform_null_equals), hide a damage, or end a long one.
_SET_AFTERWARDS = frozenset(
    {
        "array_nulls",
        "default_tablespace",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "event_triggers",
        "exit_on_error",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "ignore_checksum_failure",
        "lock_timeout",
        "restrict_nonsystem_relation_kind",
        "role",
        "row_security",
        "session_authorization",
        "session_replication_role",
        "statement_timeout",
        "temp_file_limit",
        "temp_tablespaces",
        "transaction_timeout",
        "transform_null_equals",
        "zero_damaged_pages",
    }
)
# AclItem letters (src/include/utils/acl.h) of a database.
_PRIVILEGES = {"C": "CREATE", "T": "TEMPORARY", "c": "CONNECT"}
_ACL_ITEM = re.compile(
    r"(?P<grantee>\"(?:[^\"]|\"\")*\"|[^\"=]*)=(?P<letters>[A-Za-z*]*)/(?P<grantor>\"(?:[^\"]|\"\")*\"|[^\"]+)"
)


class Marker(Record):
    """The comment of a database that is being made, as canonical JSON: whose it is and of what. `nightshift` says what for."""

    nightshift: Literal["restore", "drill"]
    environment: str
    restore_id: str
    backup_id: str
    begun: AwareDatetime

    @property
    def text(self) -> str:
        """The comment's text."""
        return canonical_bytes(self.model_dump(mode="json")).decode()


def read_marker(comment: str | None) -> Marker | None:
    """Given a database's comment, return the marker that it is, or None."""
    try:
        return Marker.model_validate(json.loads(comment or ""))
    except (ValueError, ValidationError):
        return None


def marker_of(
    purpose: Literal["restore", "drill"], environment: str, restore_id: str, backup_id: str, begun: datetime
) -> Marker:
    """Return the marker of a copy that is made now."""
    return Marker(nightshift=purpose, environment=environment, restore_id=restore_id, backup_id=backup_id, begun=begun)


def temporary_name(restore_id: str) -> str:
    """What a database is called while it is made. Raise ValueError when the id is not eight hexadecimal digits."""
    name = f"nightshift_{restore_id}"
    if not TEMPORARY_NAME.fullmatch(name):
        raise ValueError(f"a restore id is eight hexadecimal digits, not {restore_id!r}")
    return name


def name_problem(name: str) -> str | None:
    """Given the name asked for a new database, return why it cannot be had whatever the server holds, or None."""
    if not name or "\0" in name:
        return "a database needs a name"
    if len(name.encode()) > NAME_BYTES:
        return f"it has {len(name.encode())} bytes, PostgreSQL keeps {NAME_BYTES}"
    if name in RESERVED_NAMES:
        return "the server's own database is never replaced"
    if TEMPORARY_NAME.fullmatch(name):
        return "nightshift gives names of this form to databases that are not finished"
    return None


def create_database(name: str, properties: DatabaseProperties, *, server_major: int) -> str:
    """Given a name, the source's properties and the server's major, return CREATE DATABASE. Raise ValueError for a locale provider not known, or not to this major.

    The provider can be said from 15 on, ICU_RULES from 16, `builtin` from 17 (manual, CREATE DATABASE).
    """
    words = [f"CREATE DATABASE {quoted(name)} WITH TEMPLATE = template0 OWNER = {quoted(properties.owner)}"]
    words.append(f"ENCODING = {literal(properties.encoding)}")
    words += _locale(properties, server_major)
    return " ".join(words)


def _locale(properties: DatabaseProperties, server_major: int) -> Iterator[str]:
    needed = {"libc": 0, "icu": 15, "builtin": 17}.get(properties.provider)
    if needed is None:
        raise ValueError(f"the source's locale provider is {properties.provider!r}, which is not known here")
    if server_major < needed:
        raise ValueError(f"the locale provider {properties.provider} came with PostgreSQL {needed}")
    if server_major >= 15:
        yield f"LOCALE_PROVIDER = {properties.provider}"
    yield f"LC_COLLATE = {literal(properties.collate)} LC_CTYPE = {literal(properties.ctype)}"
    if properties.provider != "libc":
        word = "ICU_LOCALE" if properties.provider == "icu" else "BUILTIN_LOCALE"
        yield f"{word} = {literal(properties.locale or '')}"
    if properties.icu_rules is not None:
        if server_major < 16:
            raise ValueError("the source has ICU rules, which came with PostgreSQL 16")
        yield f"ICU_RULES = {literal(properties.icu_rules)}"


def comment_on_database(name: str, comment: str | None) -> str:
    """Return COMMENT ON DATABASE; None takes the comment away."""
    return f"COMMENT ON DATABASE {quoted(name)} IS {'NULL' if comment is None else literal(comment)}"


def split_settings(
    settings: tuple[DatabaseSetting, ...],
) -> tuple[tuple[DatabaseSetting, ...], tuple[DatabaseSetting, ...]]:
    """Given the source's settings, return those to be set before data is restored, since its functions may read them, and those to be set only afterwards."""
    before = tuple(setting for setting in settings if setting.name.lower() not in _SET_AFTERWARDS)
    return before, tuple(setting for setting in settings if setting not in before)


def set_in_database(name: str, setting: DatabaseSetting) -> str:
    """Given the database's name and one of the source's settings, return ALTER DATABASE … SET or ALTER ROLE … IN DATABASE … SET."""
    whose = f"ROLE {quoted(setting.role)} IN DATABASE {quoted(name)}" if setting.role else f"DATABASE {quoted(name)}"
    return f"ALTER {whose} SET {quoted(setting.name)} TO {setting_value(setting.name, setting.value)}"


def connection_limit(name: str, properties: DatabaseProperties) -> str | None:
    """Return ALTER DATABASE … CONNECTION LIMIT, or None where the source has none."""
    if properties.connection_limit == -1:
        return None
    return f"ALTER DATABASE {quoted(name)} CONNECTION LIMIT {properties.connection_limit}"


class Grant(Record):
    """Privileges on the database, as SQL names them. `grantee` is empty for PUBLIC."""

    grantee: str
    grantor: str
    privileges: tuple[str, ...]
    grantable: tuple[str, ...]


def parse_acl(acl: tuple[str, ...]) -> tuple[Grant, ...]:
    """Given pg_database.datacl's items as text, return what they grant (aclitemout, src/backend/utils/adt/acl.c). Raise ValueError for another form or letter."""
    return tuple(_parse_item(item) for item in acl)


def _parse_item(item: str) -> Grant:
    match = _ACL_ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"not a privilege as pg_database.datacl has them: {item!r}")
    plain: list[str] = []
    grantable: list[str] = []
    for letter, star in re.findall(r"([A-Za-z])(\*?)", match["letters"]):
        if letter not in _PRIVILEGES:
            raise ValueError(f"a database has no privilege {letter!r}: {item!r}")
        (grantable if star else plain).append(_PRIVILEGES[letter])
    return Grant(
        grantee=_unquoted(match["grantee"]),
        grantor=_unquoted(match["grantor"]),
        privileges=tuple(plain),
        grantable=tuple(grantable),
    )


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def grant_statements(name: str, properties: DatabaseProperties) -> tuple[str, ...]:
    """Given the database's name and the source's properties, return the statements that give it the source's privileges; none where they are PostgreSQL's own.

    All are granted by the owner: those that another role had granted keep their effect, not their grantor. Raise ValueError as `parse_acl`.
    """
    if properties.acl is None:
        return ()
    on = f"ON DATABASE {quoted(name)}"
    grants = [
        f"REVOKE ALL {on} FROM PUBLIC",
        f"REVOKE ALL {on} FROM {quoted(properties.owner)}",
    ]
    for grant in parse_acl(properties.acl):
        to = quoted(grant.grantee) if grant.grantee else "PUBLIC"
        if grant.privileges:
            grants.append(f"GRANT {', '.join(grant.privileges)} {on} TO {to}")
        if grant.grantable:
            grants.append(f"GRANT {', '.join(grant.grantable)} {on} TO {to} WITH GRANT OPTION")
    return tuple(grants)
