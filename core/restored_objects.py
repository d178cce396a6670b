"""What is said of a restored copy's objects against what the manifest recorded: owners, privileges, states and comments, exact on every major.

What a dump does not carry is no mismatch: whoever restored owns the objects of extensions, and keys whose triggers were switched off are enforced again.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from core.manifest import Manifest, ObjectFacts, ObjectGroup
from core.object_facts import CHANGED_KIND, FORM, GroupKey, Said, listed, plain_name
from core.restore_record import Restored
from core.restored_comparison import ComparisonFinding, Kind, Severity

# So many of one kind in one schema are named.
NAMED_AT_MOST = 20
_OWNER = "owner "
_USUAL = "the usual privileges"


class _Difference(NamedTuple):
    """What to tell of one object (without a name: of the group). `whole`: it is missing, or one too many. `another_owner`: so it cannot be the same."""

    key: GroupKey
    name: str
    text: str
    whole: bool = False
    another_owner: bool = False


def compare_objects(manifest: Manifest, restored: Restored, found: ObjectFacts) -> tuple[ComparisonFinding, ...]:
    """Given a manifest, what was restored of it and what is said of the copy's objects, return what differs, or that it cannot be told."""
    recorded = manifest.objects
    if recorded is None or recorded.form != FORM:
        why = "the backup was made before they were recorded"
        if recorded is not None:
            why = f"they were recorded in form {recorded.form}, this nightshift compares form {FORM}"
        text = (
            "owners and privileges of other objects than tables, states (triggers, row security, policies, publications, functions' attributes)"
            f" and comments were not compared but by number: {why}"
        )
        return (ComparisonFinding(kind="privileges", severity="note", text=text),)
    tables = frozenset(plain_name(table.qualified) for table in manifest.tables)
    differences = list(_differences(recorded.groups, found.groups, tables))
    if recorded.details is not None and found.details is not None:
        differences += _differences(recorded.details, found.details, tables)
    if restored.partial or restored.skipped:
        return _of_a_part(differences)
    return (*_told(_once(differences)), *_keys(recorded, found))


def _differences(
    recorded: Iterable[ObjectGroup], found: Iterable[ObjectGroup], tables: Collection[str]
) -> Iterator[_Difference]:
    before, after = listed(recorded), listed(found)
    groups = [
        {GroupKey(group.about, group.kind, group.schema_name): (group.sha256, group.count) for group in side}
        for side in (recorded, found)
    ]
    for key in sorted(before.keys() | after.keys()):
        (expected_hash, expected_count), (hash_, count) = (side.get(key, ("", 0)) for side in groups)
        if expected_hash == hash_:
            continue
        expected, present = before.get(key, {}), after.get(key, {})
        if expected is None or present is None:
            text = f"{_where(key)} differ in {key.about}: {count} are in the copy, {expected_count} were recorded, too many to be named"
            yield _Difference(key, "", text)
        elif key.kind.startswith(CHANGED_KIND):
            yield from _of_members(key, expected, present)
        else:
            yield from _between(key, expected, present, tables)


def _where(key: GroupKey) -> str:
    return f"objects of the kind {key.kind}" + (f" in schema {key.schema_name}" if key.schema_name else "")


def _between(key: GroupKey, expected: Said, present: Said, tables: Collection[str]) -> Iterator[_Difference]:
    owned = key.about == "owner and privileges"
    for name in sorted(expected.keys() | present.keys()):
        # Tables with rows, and their owners, are compared by themselves.
        table = owned and key.kind == "table" and name in tables
        called = f"{key.kind} {name}"
        before, after = set(expected.get(name, ())), set(present.get(name, ()))
        if owned:
            _say_usual(before, after)
        if owned and name not in present:
            if not table:
                yield _Difference(key, name, f"{called} is missing", whole=True)
        elif owned and name not in expected:
            # The schema that is there before a restore begins.
            if (key.kind, name) != ("schema", "public"):
                yield _Difference(key, name, f"{called} is in the copy and was not in the snapshot", whole=True)
        elif text := _text(before, after, but=_OWNER if table else None):
            yield _Difference(key, name, f"{called} {text}")


def _say_usual(before: set[str], after: set[str]) -> None:
    """A list of privileges that is the default says nothing of itself; beside one that says something it has a name."""
    own, other = (any(not one.startswith((_OWNER, "column ")) for one in side) for side in (before, after))
    if own != other:
        (after if own else before).add(_USUAL)


def _of_members(key: GroupKey, expected: Said, present: Said) -> Iterator[_Difference]:
    """Objects of extensions and of the system belong to whoever made them here; with another owner their privileges cannot be the same."""
    for name in sorted(expected.keys() | present.keys()):
        before, after = set(expected.get(name, ())), set(present.get(name, ()))
        owners = {statement for statement in before | after if statement.startswith(_OWNER)}
        if text := _text(before, after, but=_OWNER):
            if len(owners) > 1:
                text += "; it was made by another role here"
            yield _Difference(key, name, f"{key.kind} {name}: the copy {text}", another_owner=len(owners) > 1)


def _text(before: set[str], after: set[str], but: str | None = None) -> str:
    """What one has and the other has not, but statements that begin so; empty when there is nothing to tell."""
    lacks, has = (
        "; ".join(sorted(one for one in some if but is None or not one.startswith(but)))
        for some in (before - after, after - before)
    )
    told = [f"lacks “{lacks}”"] if lacks else []
    told += [f"has “{has}”, which was not recorded"] if has else []
    return " and ".join(told)


def _once(differences: Iterable[_Difference]) -> Iterator[_Difference]:
    """What is missing, or is one too many, is told once, not its state and its comments too."""
    differences = list(differences)
    whole = {(one.key.kind, one.name) for one in differences if one.whole}
    return (one for one in differences if one.whole or (one.key.kind, one.name) not in whole)


def _told(differences: Iterable[_Difference]) -> Iterator[ComparisonFinding]:
    named: Counter[GroupKey] = Counter()
    for one in differences:
        named[one.key] += 1
        if named[one.key] <= NAMED_AT_MOST:
            severity: Severity = "environment" if one.another_owner else "mismatch"
            yield ComparisonFinding(kind=_kind(one.key), severity=severity, text=one.text)
    for key, number in named.items():
        if number > NAMED_AT_MOST:
            text = f"{number - NAMED_AT_MOST} more {_where(key)} differ in {key.about}"
            yield ComparisonFinding(kind=_kind(key), severity="mismatch", text=text)


def _of_a_part(differences: Iterable[_Difference]) -> tuple[ComparisonFinding, ...]:
    """Of a part only owners and privileges of what is there can be judged: privileges come with their object, states mostly with the rows."""
    differences = list(differences)
    judged = [one for one in differences if one.key.about == "owner and privileges" and one.name and not one.whole]
    judged = [one for one in judged if not one.key.kind.startswith(CHANGED_KIND)]
    other = len(differences) - len(judged)
    text = f"not all entries of the dump were restored: {other} differences in objects that are not there, in states and in comments were not judged"
    note = ComparisonFinding(kind="objects", severity="note", text=text)
    return (*_told(judged), *((note,) if other else ()))


def _keys(recorded: ObjectFacts, found: ObjectFacts) -> Iterator[ComparisonFinding]:
    """A dump does not say that a key's own triggers were switched off; a restore switches them on."""
    for name in sorted(set(found.not_enforced) - set(recorded.not_enforced)):
        text = f"constraint {name} is not enforced: its triggers are disabled"
        yield ComparisonFinding(kind="constraints", severity="mismatch", text=text)
    for name in sorted(set(recorded.not_enforced) - set(found.not_enforced)):
        text = f"constraint {name} is enforced in the copy; in the source its triggers were disabled, which a dump does not say"
        yield ComparisonFinding(kind="constraints", severity="note", text=text)


def _kind(key: GroupKey) -> Kind:
    return "privileges" if key.about == "owner and privileges" else "objects"
