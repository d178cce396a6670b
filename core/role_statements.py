"""Which roles a restore makes, and with what: only those that the backup's objects need and the server lacks. An existing role is never touched."""

from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from core.digest_sql import quoted
from core.globals_sql import GlobalRole, Globals, Membership
from core.manifest import Record
from core.sql_text import literal

Purpose = Literal["restore", "drill"]

# What would give a copy's role power over the whole server; an operator gives it by hand after a restore.
_POWERS = ("superuser", "replication", "bypassrls")
_FLAGS = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")
# The server's own; nobody can make them (manual, "Predefined Roles").
_PREDEFINED = "pg_"


class RolePlan(Record):
    """What to do about roles: `create` and `configure` are SQL, in order, each a list by role or membership; `notes` are for the report."""

    names: tuple[str, ...]
    create: tuple[str, ...]
    configure: tuple[str, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


def plan_roles(
    globals_: Globals,
    needed: Iterable[str],
    existing: Collection[str],
    *,
    powerful: Collection[str] = (),
    purpose: Purpose,
    server_major: int,
) -> RolePlan:
    """Given the backup's globals, the roles that its objects need and those that the server has, return what to make.

    Restore: as the source's, without SUPERUSER, REPLICATION and BYPASSRLS; the password when the dump has it. Drill: as the source's, but NOLOGIN and without a password
    (SUPERUSER too, since an event trigger's owner must be one; nobody can log in as it). Memberships and settings only for roles made here; a restore makes nobody a
    member of one of the `powerful`, existing roles that rule over more than a database. `unknown` are needed, not there, and not in the globals.
    """
    missing = [name for name in dict.fromkeys(needed) if name not in existing and not name.startswith(_PREDEFINED)]
    known = [role for name in missing if (role := globals_.role(name)) is not None]
    made = {role.name for role in known}
    notes: list[str] = []
    for role in known:
        notes += _notes(role, purpose)
    if globals_.not_understood:
        shown = "; ".join(globals_.not_understood[:5])
        notes.append(
            f"{len(globals_.not_understood)} statements of the globals were not understood and not used: {shown}"
        )
    memberships: list[Membership] = []
    for item in globals_.memberships:
        if item.member not in made:
            continue
        if why := _no_membership(item, made, existing, powerful if purpose == "restore" else ()):
            notes.append(f"role {item.member} was not made a member of {item.role}, {why}")
        else:
            memberships.append(item)
    return RolePlan(
        names=tuple(role.name for role in known),
        create=tuple(_create(role, purpose) for role in known),
        configure=(
            *(_grant(item, server_major) for item in memberships),
            *_settings(globals_, made),
            *(f"COMMENT ON ROLE {quoted(role.name)} IS {literal(role.comment)}" for role in known if role.comment),
        ),
        unknown=tuple(name for name in missing if name not in made),
        notes=tuple(notes),
    )


def _no_membership(
    item: Membership, made: Collection[str], existing: Collection[str], powerful: Collection[str]
) -> str:
    if item.role in made:
        return ""
    if item.role not in existing:
        return "which is not on the server"
    if item.role in powerful:
        return f"which rules over more than this database: GRANT {quoted(item.role)} TO {quoted(item.member)}"
    return ""


def _create(role: GlobalRole, purpose: Purpose) -> str:
    drill = purpose == "drill"
    # NOSUPERUSER and its like are left unsaid: a new role has none of them anyway, and before 16 only a superuser may say even that.
    flags = [flag.upper() for flag in _FLAGS if getattr(role, flag) and flag not in (("login",) if drill else _POWERS)]
    flags += [] if role.inherit else ["NOINHERIT"]
    words = [f"CREATE ROLE {quoted(role.name)} WITH", *flags]
    if role.connection_limit != -1:
        words.append(f"CONNECTION LIMIT {role.connection_limit}")
    if role.password is not None and not drill:
        words.append(f"PASSWORD {literal(role.password)}")
    if role.valid_until is not None:
        words.append(f"VALID UNTIL {literal(role.valid_until)}")
    return " ".join(words)


def _notes(role: GlobalRole, purpose: Purpose) -> Iterator[str]:
    if purpose == "drill":
        return
    if powers := [power.upper() for power in _POWERS if getattr(role, power)]:
        yield f"role {role.name} was made without {', '.join(powers)}: ALTER ROLE {quoted(role.name)} {' '.join(powers)}"
    if role.login and role.password is None:
        yield f"role {role.name} was made without a password: \\password {quoted(role.name)}"


def _grant(item: Membership, server_major: int) -> str:
    options = ["ADMIN OPTION"] if item.admin else []
    if server_major >= 16:
        options += [
            f"{name} {'TRUE' if value else 'FALSE'}"
            for name, value in (("INHERIT", item.inherit), ("SET", item.set))
            if value is not None
        ]
    words = f"GRANT {quoted(item.role)} TO {quoted(item.member)}"
    return f"{words} WITH {', '.join(options)}" if options else words


def _settings(globals_: Globals, made: Collection[str]) -> Iterator[str]:
    for setting in globals_.settings:
        if setting.role in made:
            values = ", ".join(literal(value) for value in setting.values)
            yield f"ALTER ROLE {quoted(setting.role)} SET {quoted(setting.name)} TO {values}"
