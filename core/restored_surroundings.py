"""A restored database's surroundings against what the manifest recorded: its properties, roles, extensions, collations, and how its definitions stand."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from core.database_statements import read_marker
from core.manifest import Collation, DatabaseProperties, Extension, Role
from core.restore_record import Restored, refused_setting
from core.restored_comparison import ComparisonFinding, Kind, Severity

_PLAIN_ROLE_NAME = re.compile(r"[A-Za-z0-9_]+")

# Compared as they are. What is not here: collation_version, acl, comment, settings and tablespace are looked at one by one, locale by its normal form.
_EQUAL_PROPERTIES = (
    "owner",
    "encoding",
    "collate",
    "ctype",
    "provider",
    "icu_rules",
    "connection_limit",
    "allow_connections",
)


def _findings(kind: Kind, severity: Severity, texts: Iterable[str]) -> tuple[ComparisonFinding, ...]:
    return tuple(ComparisonFinding(kind=kind, severity=severity, text=text) for text in texts)


def compare_properties(
    expected: DatabaseProperties, found: DatabaseProperties, parameters: Collection[str], notes: Collection[str] = ()
) -> tuple[ComparisonFinding, ...]:
    """Given the database's properties as recorded and as found, those of the recorded settings' names that this server has, and the restore's notes, return what differs.

    A collation's version is its library's, so the environment's; the restore built every index anew with the version that is there. Objects are restored into the
    default tablespace. While the comment is a restore's marker, the source's comment and its being a template are still to come.
    """
    names = _EQUAL_PROPERTIES if read_marker(found.comment) else (*_EQUAL_PROPERTIES, "is_template")
    differing = [
        f"property {name} is {getattr(found, name)!r}, {getattr(expected, name)!r} was recorded"
        for name in names
        if getattr(found, name) != getattr(expected, name)
    ]
    if _normal_locale(expected.locale) != _normal_locale(found.locale):
        differing.append(f"property locale is {found.locale!r}, {expected.locale!r} was recorded")
    if not read_marker(found.comment) and found.comment != expected.comment:
        differing.append("the database's comment is another one")
    differing += _privilege_differences(expected, found)
    unknown = {one.name for one in expected.settings if "." not in one.name and one.name not in parameters}
    refused = _refused(expected, found, notes, unknown)
    differing += _setting_differences(expected, found, unknown, refused.keys())
    result = [*_findings("properties", "mismatch", differing)]
    # A parameter that another major has dropped, or a library that is not loaded here brings along.
    result += _findings(
        "properties", "environment", [f"this server has no parameter {name}" for name in sorted(unknown)]
    )
    # What the restoring role may not set is that role's, not the backup's.
    result += _findings("properties", "environment", refused.values())
    if expected.collation_version != found.collation_version:
        text = (
            f"the default collation's version is {found.collation_version}, {expected.collation_version} was recorded: another library sorts here;"
            " indexes were built with it, but text may sort otherwise than it did"
        )
        result += _findings("properties", "environment", [text])
    if expected.tablespace != found.tablespace:
        text = f"the database lies in tablespace {found.tablespace}, not in {expected.tablespace}"
        result += _findings("properties", "note", [text])
    return tuple(result)


def _normal_locale(locale: str | None) -> str | None:
    # From 16 on ICU locales are stored as language tags: `en_US` became `en-US` (manual, "ICU Locales").
    return None if locale is None else locale.replace("_", "-").lower()


def _privilege_differences(expected: DatabaseProperties, found: DatabaseProperties) -> Iterable[str]:
    recorded, present = _privileges(expected), _privileges(found)
    if missing := sorted(recorded - present):
        yield f"privileges of the database are missing: {', '.join(missing)}"
    if more := sorted(present - recorded):
        yield f"privileges of the database that were not recorded: {', '.join(more)}"


def _privileges(properties: DatabaseProperties) -> set[str]:
    """The database's privileges; where none were ever granted, what that means (acldefault in src/backend/utils/adt/acl.c)."""
    if properties.acl is not None:
        return set(properties.acl)
    owner = properties.owner
    name = owner if _PLAIN_ROLE_NAME.fullmatch(owner) else '"' + owner.replace('"', '""') + '"'
    return {f"=Tc/{name}", f"{name}=CTc/{name}"}


def _refused(
    expected: DatabaseProperties, found: DatabaseProperties, notes: Collection[str], unknown: Collection[str]
) -> dict[tuple[str, str], str]:
    """The settings, as (role, name), that are not there since the server did not take them, with the note that says why."""
    there = {(setting.role, setting.name) for setting in found.settings}
    missing = [one for one in expected.settings if (one.role, one.name) not in there and one.name not in unknown]
    told = {
        (one.role, one.name): [note for note in notes if note.startswith(refused_setting(one.role, one.name))]
        for one in missing
    }
    return {key: why[0] for key, why in told.items() if why}


def _setting_differences(
    expected: DatabaseProperties,
    found: DatabaseProperties,
    unknown: Collection[str],
    refused: Collection[tuple[str, str]],
) -> Iterable[str]:
    recorded = {
        (setting.role, setting.name): setting.value for setting in expected.settings if setting.name not in unknown
    }
    present = {(setting.role, setting.name): setting.value for setting in found.settings}
    for role, name in sorted(recorded.keys() | present.keys()):
        whose = f"setting {name} of role {role}" if role else f"setting {name}"
        if (role, name) in refused:
            continue
        if (role, name) not in present:
            yield f"{whose} is missing"
        elif (role, name) not in recorded:
            yield f"{whose} was not recorded"
        elif present[role, name] != recorded[role, name]:
            # Not the values: a setting of an extension may be a secret.
            yield f"{whose} has another value"


def compare_roles(
    expected: Iterable[Role], found: Mapping[str, Role], created: Sequence[str]
) -> tuple[ComparisonFinding, ...]:
    """Given the roles that the database needs, those of the server by name and those that the restore made, return which are missing or have other attributes.

    Roles belong to the server: those that were there are never altered, and those made now have what the restore's policy gives them.
    """
    texts = []
    for role in expected:
        copy = found.get(role.name)
        if copy is None:
            texts.append(f"role {role.name} is missing on this server")
        elif copy != role and role.name not in created:
            attributes = ((copy.login, role.login, "LOGIN"), (copy.superuser, role.superuser, "SUPERUSER"))
            differing = [f"{'' if has else 'NO'}{word}" for has, had, word in attributes if has != had]
            texts.append(f"role {role.name} was on this server before, and is {', '.join(differing)} here")
    return _findings("roles", "environment", texts)


def compare_extensions(
    expected: Iterable[Extension], found: Mapping[str, Extension], restored: Restored
) -> tuple[ComparisonFinding, ...]:
    """Given the extensions as recorded and as found by name, return what differs. Another version is the environment's, as is one that the restore skipped."""
    result: list[ComparisonFinding] = []
    names = set()
    for extension in expected:
        name = extension.name
        names.add(name)
        copy = found.get(name)
        if copy is None:
            explained = any(f" EXTENSION - {name} " in f" {skipped.entry} " for skipped in restored.skipped)
            severity: Severity = "environment" if explained else "mismatch"
            result += _findings("extensions", severity, [f"extension {name} {extension.version} is missing"])
            continue
        if copy.schema_name != extension.schema_name:
            text = f"extension {name} is in schema {copy.schema_name}, not in {extension.schema_name}"
            result += _findings("extensions", "mismatch", [text])
        if copy.version != extension.version:
            text = f"extension {name} has version {copy.version} here, {extension.version} was recorded"
            result += _findings("extensions", "environment", [text])
    more = [f"extension {name} was not recorded" for name in sorted(found.keys() - names)]
    return (*result, *_findings("extensions", "note", more))


def compare_collations(
    expected: Iterable[Collation], found: Mapping[tuple[str, str], Collation]
) -> tuple[ComparisonFinding, ...]:
    """Given the collations in use as recorded and the copy's by (schema, name), return what differs. Another version of the library is the environment's."""
    result: list[ComparisonFinding] = []
    for collation in expected:
        name = f"collation {collation.schema_name}.{collation.name}"
        copy = found.get((collation.schema_name, collation.name))
        if copy is None:
            result += _findings("collations", "mismatch", [f"{name} is missing"])
        elif (copy.provider, copy.deterministic) != (collation.provider, collation.deterministic):
            result += _findings("collations", "mismatch", [f"{name} is of another kind"])
        elif copy.version != collation.version:
            text = f"{name} has version {copy.version} here, {collation.version} was recorded: text may sort otherwise than it did"
            result += _findings("collations", "environment", [text])
    return tuple(result)
