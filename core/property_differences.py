"""What of a database itself, beside its contents, an application would notice if another took its place: owner, locale, privileges, limits, settings.

Privileges are pg_database.datacl's items (PostgreSQL manual, "Privileges": `grantee=privileges/grantor`). Two lists are equal when each role may do the same;
order, and who granted it, do not matter.
"""

import re
from collections.abc import Iterator, Sequence

from core.manifest import DatabaseProperties, DatabaseSetting, Record

PUBLIC = "PUBLIC"
NOTHING = "none"
# The privileges that a database has (acldefault, src/backend/utils/adt/acl.c): PUBLIC has CONNECT and TEMPORARY until that is revoked.
_PRIVILEGES = {"C": "CREATE", "T": "TEMPORARY", "c": "CONNECT"}
_DEFAULT_PUBLIC, _DEFAULT_OWNER = "Tc", "CTc"
_ITEM = re.compile(r'(?P<grantee>"(?:[^"]|"")*"|[^"=]*)=(?P<privileges>(?:[A-Za-z]\*?)*)/', re.DOTALL)
# What stops a swap, as (topic, field). Tablespace, comment and the collation's version do not change what an application may do or gets.
_STOPPING = (
    ("owner", "owner"),
    ("encoding", "encoding"),
    ("collate", "collate"),
    ("ctype", "ctype"),
    ("locale provider", "provider"),
    ("locale", "locale"),
    ("ICU rules", "icu_rules"),
    ("connection limit", "connection_limit"),
)
_TOLD = (("tablespace", "tablespace"), ("collation version", "collation_version"), ("comment", "comment"))


class PropertyDifference(Record):
    """A property in which the copy differs from the live database. `topic` is what an operator accepts it by; `origin` says which side left the backup's value."""

    topic: str
    live: str
    copied: str
    stops: bool
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.topic}: {self.live} in the live database, {self.copied} in the copy{self.origin and f' ({self.origin})'}"


def property_differences(
    live: DatabaseProperties, copied: DatabaseProperties, recorded: DatabaseProperties | None
) -> tuple[PropertyDifference, ...]:
    """Given the properties of the live database and of the copy, and those that the backup recorded (None when there is none), return what differs between the
    first two, those that stop a swap first. The backup's are used only to say where a difference comes from."""
    ours, theirs = dict(_values(live)), dict(_values(copied))
    backup = None if recorded is None else dict(_values(recorded))
    told = {topic for topic, _ in _TOLD}
    topics = [*ours, *(topic for topic in theirs if topic not in ours)]
    found = [
        PropertyDifference(
            topic=topic,
            live=ours.get(topic, NOTHING),
            copied=theirs.get(topic, NOTHING),
            stops=topic not in told,
            origin=_origin(topic, ours, theirs, backup),
        )
        for topic in topics
        if ours.get(topic, NOTHING) != theirs.get(topic, NOTHING)
    ]
    return tuple(sorted(found, key=lambda difference: not difference.stops))


def _origin(topic: str, live: dict[str, str], copied: dict[str, str], backup: dict[str, str] | None) -> str:
    if backup is None:
        return ""
    recorded = backup.get(topic, NOTHING)
    if copied.get(topic, NOTHING) == recorded:
        return "changed in the live database after the backup"
    if live.get(topic, NOTHING) == recorded:
        return "not as in the backup, which agrees with the live database"
    return f"the backup has {recorded}"


def _values(properties: DatabaseProperties) -> Iterator[tuple[str, str]]:
    for topic, field in (*_STOPPING, *_TOLD):
        value = getattr(properties, field)
        yield topic, NOTHING if value is None else str(value)
    for grantee, privileges in database_privileges(properties.acl, properties.owner).items():
        yield f"privileges of {grantee}", ", ".join(privileges)
    for setting in properties.settings:
        yield _setting_topic(setting), setting.value


def _setting_topic(setting: DatabaseSetting) -> str:
    return f"setting {setting.name} of role {setting.role}" if setting.role else f"setting {setting.name}"


def database_privileges(acl: Sequence[str] | None, owner: str) -> dict[str, tuple[str, ...]]:
    """Given pg_database.datacl as text items (None: the default) and the owner, return what each role may do, in words, PUBLIC as `PUBLIC`; who may do nothing is
    left out. Raise ValueError for an item that is not one of a database's."""
    items = [f"={_DEFAULT_PUBLIC}/", f"{_written(owner)}={_DEFAULT_OWNER}/"] if acl is None else acl
    held: dict[str, dict[str, bool]] = {}
    for item in items:
        grantee, privileges = _parse(item)
        of_grantee = held.setdefault(grantee, {})
        for letter, starred in re.findall(r"([A-Za-z])(\*?)", privileges):
            if letter not in _PRIVILEGES:
                raise ValueError(f"{item!r} holds {letter!r}, which is no privilege of a database")
            # Several grantors may have given the same; the grant option of one is enough.
            of_grantee[letter] = of_grantee.get(letter, False) or bool(starred)
    return {
        grantee: tuple(
            _PRIVILEGES[letter] + (" WITH GRANT OPTION" if privileges[letter] else "")
            for letter in sorted(privileges, key=list(_PRIVILEGES).index)
        )
        for grantee, privileges in sorted(held.items())
        if privileges
    }


def _parse(item: str) -> tuple[str, str]:
    match = _ITEM.match(item)
    if match is None:
        raise ValueError(f"{item!r} is not an item of an access control list")
    grantee = match["grantee"]
    if grantee.startswith('"'):
        grantee = grantee[1:-1].replace('""', '"')
        # A role may be called PUBLIC in capitals; the pseudo-role is the empty name.
    return (f'"{grantee}"' if grantee == PUBLIC else grantee or PUBLIC), match["privileges"]


def _written(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'
