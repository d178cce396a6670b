"""PostgreSQL's lists of privileges (aclitem[]) as statements that do not depend on the major, on the items' order, or on whether a default was written out.

An item that holds everything is told as ALL. What a later major added (MAINTAIN on tables, 17) comes along with a restore from before or not, by pg_dump's major and by
what was granted beside it: of a copy from before it is left aside. A list that is what acldefault() gives, written out or not, says nothing.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from core.manifest import Record

# AclItem letters (src/include/utils/acl.h, manual "Privileges").
_WORDS = {
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "T": "TEMPORARY",
    "c": "CONNECT",
    "s": "SET",
    "A": "ALTER SYSTEM",
}
_NAME = r"\"(?:[^\"]|\"\")*\""
_ITEM = re.compile(
    rf"(?P<grantee>{_NAME}|[^\"=]*)=(?P<letters>(?:[A-Za-z]\*?)*)/(?P<grantor>{_NAME}|[^\"]+)", re.DOTALL
)
_LETTER = re.compile(r"[A-Za-z]\*?")
OWNER = "its owner"
NOTHING = "no privileges at all"


class AclItem(Record):
    """What one role (empty: PUBLIC) was granted by another. `letters` are those of src/include/utils/acl.h; a star says with grant option."""

    grantee: str
    grantor: str
    letters: frozenset[str]


class Everything(NamedTuple):
    """All letters that the server knows for an object (none: there is no ALL), and those that were not known where the database was dumped: left aside."""

    letters: frozenset[str]
    unknown: frozenset[str] = frozenset()

    def held(self, letters: Collection[str]) -> bool:
        """Whether these letters are all that there are."""
        return bool(self.letters) and set(letters) == self.letters - self.unknown

    def known(self, items: Iterable[AclItem]) -> frozenset[AclItem]:
        """The items with the letters that were known; without those that had no other."""
        cut = ((item, frozenset(letter for letter in item.letters if letter[0] not in self.unknown)) for item in items)
        return frozenset(item.model_copy(update={"letters": letters}) for item, letters in cut if letters)


def parse_items(acl: Iterable[str]) -> frozenset[AclItem]:
    """Given aclitems as text, return what they say; whether a name is quoted depends on the minor version and means nothing. Raise ValueError for another form."""
    return frozenset(_parse(item) for item in acl)


def _parse(item: str) -> AclItem:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"not a privilege: {item!r}")
    return AclItem(
        grantee=_unquoted(match["grantee"]),
        grantor=_unquoted(match["grantor"]),
        letters=frozenset(_LETTER.findall(match["letters"])),
    )


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def privilege_statements(acl: Iterable[str], default: Iterable[str], everything: Everything) -> frozenset[str]:
    """Given a list of privileges, what acldefault() gives for it and all letters known for such objects, return what the list says: of the default, nothing."""
    items, usual = everything.known(parse_items(acl)), everything.known(parse_items(default))
    if items == usual:
        return frozenset()
    return frozenset(_told(item, everything) for item in items) or frozenset({NOTHING})


def changed_privileges(
    acl: Iterable[str], initial: Iterable[str], everything: Everything, owner: str
) -> frozenset[str]:
    """Given a list of privileges of an object of an extension or of the system, and those that it was made with, return what was granted and taken away since.

    Such an object belongs to whoever made it here, so its owner's name is left out.
    """
    items = {_of_any_owner(item, owner) for item in everything.known(parse_items(acl))}
    made_with = {_of_any_owner(item, owner) for item in everything.known(parse_items(initial))}
    granted = {f"granted: {_told(item, everything)}" for item in items - made_with}
    return frozenset(granted | {f"revoked: {_told(item, everything)}" for item in made_with - items})


def _of_any_owner(item: AclItem, owner: str) -> AclItem:
    names = {"grantee": item.grantee, "grantor": item.grantor}
    return item.model_copy(update={key: OWNER for key, name in names.items() if name == owner})


def _told(item: AclItem, everything: Everything) -> str:
    grantee = {"": "PUBLIC", "PUBLIC": '"PUBLIC"'}.get(item.grantee, item.grantee)
    plain = {letter for letter in item.letters if not letter.endswith("*")}
    if everything.held(item.letters):
        what = "ALL"
    elif not plain and everything.held({letter[0] for letter in item.letters}):
        what = "ALL with grant option"
    else:
        what = ", ".join(sorted(_word(letter) for letter in item.letters)) or "nothing"
    return f"{what} to {grantee} by {item.grantor}"


def _word(letter: str) -> str:
    word = _WORDS.get(letter[0], letter[0])
    return f"{word} with grant option" if letter.endswith("*") else word
