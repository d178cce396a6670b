"""What `pg_dumpall --globals-only` says, as records: roles, their attributes, memberships and settings. It is read, never run.

The forms are those of dumpRoles, dumpRoleMembership, dumpUserConfig, dumpRoleGUCPrivs and dumpTablespaces (src/bin/pg_dump/pg_dumpall.c, 14 to 18). A statement
that is not one of them is named in `not_understood` and nothing of it is used; text that cannot be cut into statements is refused as a whole.
"""

import re

from pydantic import Field

from core.manifest import Record
from core.sql_tokens import Cursor, Token, shown, statements

_ENCODING = re.compile(rb"^SET client_encoding = '([A-Za-z0-9_]+)';", re.MULTILINE)
# pg_dumpall writes in the encoding of the database that it was connected to (manual: "Character Set Support", names on the left).
_CODECS = {
    "UTF8": "utf-8",
    "SQL_ASCII": "ascii",
    "LATIN1": "iso8859-1",
    "LATIN2": "iso8859-2",
    "LATIN5": "iso8859-9",
    "LATIN9": "iso8859-15",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "KOI8R": "koi8-r",
}
_ATTRIBUTES = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")
# Settings of the session that writes; they say nothing about roles.
_SESSION_SETTINGS = frozenset({"default_transaction_read_only", "client_encoding", "escape_string_warning"})


class GlobalRole(Record):
    """A role. `password` is the hash as stored, None without; it is not printed. `valid_until` is the server's own text for the time."""

    name: str
    superuser: bool = False
    inherit: bool = True
    createrole: bool = False
    createdb: bool = False
    login: bool = False
    replication: bool = False
    bypassrls: bool = False
    connection_limit: int = -1
    password: str | None = Field(default=None, repr=False)
    valid_until: str | None = None
    comment: str | None = None


class Membership(Record):
    """`member` belongs to `role`. `inherit` and `set` are None where the dump does not say (before 16: the member's own INHERIT, and yes)."""

    role: str
    member: str
    admin: bool = False
    inherit: bool | None = None
    set: bool | None = None
    granted_by: str | None = None


class RoleSetting(Record):
    """ALTER ROLE … SET: the values are one, or several for a setting that is a list of names."""

    role: str
    name: str
    values: tuple[str, ...]


class Globals(Record):
    """A cluster's roles. `left_out` names what is known and never restored (tablespaces, privileges on parameters, security labels)."""

    roles: tuple[GlobalRole, ...]
    memberships: tuple[Membership, ...]
    settings: tuple[RoleSetting, ...]
    tablespaces: tuple[str, ...]
    left_out: tuple[str, ...]
    not_understood: tuple[str, ...]

    def role(self, name: str) -> GlobalRole | None:
        """The role of this name, None when there is none."""
        return next((role for role in self.roles if role.name == name), None)


def decode_globals(dumped: bytes) -> str:
    """Given pg_dumpall's output as bytes, return it as text, by the encoding that it names. Raise ValueError when it does not hold to it, or it is not known."""
    match = _ENCODING.search(dumped)
    encoding = match[1].decode() if match else "SQL_ASCII"
    codec = _CODECS.get(encoding, "ascii")
    try:
        return dumped.decode(codec)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is said to be in {encoding}, and byte {error.start} is not ({codec})") from None


def parse_globals(text: str) -> Globals:
    """Given the text of `pg_dumpall --globals-only`, return what it says. Raise ValueError when it cannot be cut into statements with certainty."""
    reader = _Reader()
    for statement in statements(text):
        reader.read(statement)
    return Globals(
        roles=tuple(reader.roles.values()),
        memberships=tuple(dict.fromkeys(reader.memberships)),
        settings=tuple(reader.settings),
        tablespaces=tuple(reader.tablespaces),
        left_out=tuple(reader.left_out),
        not_understood=tuple(reader.not_understood),
    )


class _Reader:
    """Collects what the statements say."""

    def __init__(self) -> None:
        self.roles: dict[str, GlobalRole] = {}
        self.memberships: list[Membership] = []
        self.settings: list[RoleSetting] = []
        self.tablespaces: list[str] = []
        self.left_out: list[str] = []
        self.not_understood: list[str] = []

    def read(self, statement: tuple[Token, ...]) -> None:
        """Take one statement."""
        _refuse_other_strings(Cursor(statement))
        for form in (self._session, self._create, self._alter, self._comment, self._left_out, self._grant):
            try:
                if form(Cursor(statement), statement):
                    return
            except ValueError:
                break
        self.not_understood.append(shown(statement))

    def _session(self, cursor: Cursor, _statement: tuple[Token, ...]) -> bool:
        if cursor.take("RESET", "SESSION", "AUTHORIZATION") or cursor.take("SET", "SESSION", "AUTHORIZATION"):
            # Who grants privileges on tablespaces and parameters, which are left out.
            return True
        return cursor.take("SET") and cursor.name() in {*_SESSION_SETTINGS, "standard_conforming_strings"}

    def _create(self, cursor: Cursor, _statement: tuple[Token, ...]) -> bool:
        if cursor.take("CREATE", "TABLESPACE"):
            self.tablespaces.append(cursor.name())
            return True
        if not cursor.take("CREATE", "ROLE"):
            return False
        name = cursor.name()
        cursor.end()
        self.roles.setdefault(name, GlobalRole(name=name))
        return True

    def _alter(self, cursor: Cursor, _statement: tuple[Token, ...]) -> bool:
        if not cursor.take("ALTER", "ROLE"):
            return False
        name = cursor.name()
        if cursor.take("WITH"):
            changed = _attributes(cursor)
            self.roles[name] = self._known(name).model_copy(update=changed)
            return True
        cursor.expect("SET")
        setting = cursor.name()
        cursor.expect("TO")
        values = [cursor.string()]
        while cursor.take(","):
            values.append(cursor.string())
        cursor.end()
        self.settings.append(RoleSetting(role=self._known(name).name, name=setting, values=tuple(values)))
        return True

    def _comment(self, cursor: Cursor, _statement: tuple[Token, ...]) -> bool:
        if not cursor.take("COMMENT", "ON", "ROLE"):
            return False
        name = cursor.name()
        cursor.expect("IS")
        comment = cursor.string()
        cursor.end()
        self.roles[name] = self._known(name).model_copy(update={"comment": comment})
        return True

    def _left_out(self, cursor: Cursor, statement: tuple[Token, ...]) -> bool:
        tablespace = cursor.take("ALTER", "TABLESPACE") or cursor.take("COMMENT", "ON", "TABLESPACE")
        privilege = (cursor.take("GRANT") or cursor.take("REVOKE")) and any(token.says("ON") for token in statement)
        if tablespace or privilege or cursor.take("SECURITY", "LABEL"):
            self.left_out.append(shown(statement))
            return True
        return False

    def _grant(self, cursor: Cursor, _statement: tuple[Token, ...]) -> bool:
        if not cursor.take("GRANT"):
            return False
        role = cursor.name()
        cursor.expect("TO")
        member = cursor.name()
        options = _membership_options(cursor)
        granted_by = cursor.name() if cursor.take("GRANTED", "BY") else None
        cursor.end()
        self.memberships.append(Membership(role=role, member=member, granted_by=granted_by, **options))
        return True

    def _known(self, name: str) -> GlobalRole:
        if name not in self.roles:
            raise ValueError("a role that was not created before")
        return self.roles[name]


def _refuse_other_strings(cursor: Cursor) -> None:
    if cursor.take("SET") and cursor.take("STANDARD_CONFORMING_STRINGS", "=") and not cursor.take("ON"):
        raise ValueError("it is written with standard_conforming_strings off, where strings mean something else")


def _attributes(cursor: Cursor) -> dict[str, bool | int | str]:
    changed: dict[str, bool | int | str] = {}
    while not cursor.at_end:
        if cursor.take("CONNECTION", "LIMIT"):
            changed["connection_limit"] = cursor.number()
        elif cursor.take("PASSWORD"):
            changed["password"] = cursor.string()
        elif cursor.take("VALID", "UNTIL"):
            changed["valid_until"] = cursor.string()
        else:
            changed.update(_flag(cursor))
    return changed


def _flag(cursor: Cursor) -> dict[str, bool]:
    for attribute in _ATTRIBUTES:
        if cursor.take(attribute.upper()):
            return {attribute: True}
        if cursor.take(f"NO{attribute.upper()}"):
            return {attribute: False}
    raise ValueError("an attribute that is not known")


def _membership_options(cursor: Cursor) -> dict[str, bool]:
    options: dict[str, bool] = {}
    if not cursor.take("WITH"):
        return options
    while True:
        if cursor.take("ADMIN"):
            options["admin"] = cursor.take("OPTION") or _truth(cursor)
        elif cursor.take("INHERIT"):
            options["inherit"] = _truth(cursor)
        else:
            cursor.expect("SET")
            options["set"] = _truth(cursor)
        if not cursor.take(","):
            return options


def _truth(cursor: Cursor) -> bool:
    if cursor.take("TRUE"):
        return True
    cursor.expect("FALSE")
    return False
