"""A scratch server that somebody else runs: one of [servers.NAME]. Refused when it is, or may be, a server that nightshift backs up."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.environment import Environment
from core.environment_database import Database
from core.errors import PermanentError, TemporaryError
from core.manifest import Manifest
from tasks.database_properties import UNKNOWN, read_server
from tasks.postgres import connect, describe, translated
from tasks.scratch_record import Scratch

_NOTE = "the isolation of this server is its owner's business: nightshift keeps a dump's code from nothing there"


@contextmanager
def server_scratch(environment: Environment, manifest: Manifest) -> Iterator[Scratch]:
    """Given the backup that a drill is going to restore, yield the login of the server that `drill.server` names; nothing is made or removed here.

    Every configured database is asked which server it is on (its system identifier), since names and addresses prove nothing: an alias or a pooler may lead
    to it. Raise PermanentError when the server is one of them or the backup's source, or when that cannot be told; TemporaryError when one does not answer.
    """
    name = environment.drill.server
    assert name is not None  # noqa: S101 - for the type checker: the environment's own rule
    server = environment.servers[name]
    login = Database(
        host=server.host,
        port=server.port,
        name=server.maintenance_database,
        user=server.user,
        password=server.password,
        sslmode=server.sslmode,
        sslrootcert=server.sslrootcert,
    )
    _refuse_sources(environment, manifest, name, login)
    yield Scratch(
        kind="server",
        name=f"the server {name}",
        login=login,
        settings={},
        indicative=False,
        isolation=(),
        notes=(_NOTE,),
    )


def _refuse_sources(environment: Environment, manifest: Manifest, name: str, login: Database) -> None:
    ours = _identifier(login, "this server")
    if ours == UNKNOWN:
        raise _refusal(
            name, f"cannot tell which server it is: {login.user} may not read its system identifier", login.user
        )
    sources = [(f"the source of backup {manifest.backup_id}", manifest.server.system_identifier, "the backup's role")]
    for key, database in environment.databases.items():
        whose = f"the server of database {key}"
        sources.append((whose, _identifier(database, whose), database.user))
    for whose, identifier, role in sources:
        if identifier == UNKNOWN:
            raise _refusal(name, f"cannot tell whether it is {whose}, whose system identifier is unknown", role)
        if identifier == ours:
            raise _refusal(name, f"it is {whose} (system identifier {ours})")


def _identifier(database: Database, whose: str) -> str:
    try:
        with (
            connect(database, application_name="nightshift drill") as connection,
            translated("read the system identifier", describe(database)),
        ):
            return read_server(connection, database).system_identifier
    except TemporaryError as error:
        found = f"cannot tell which server {whose} is: {error.found}"
        raise TemporaryError("use a server for drills", describe(database), found, error.next_step) from error


def _refusal(name: str, found: str, role: str = "") -> PermanentError:
    grant = f"GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}, or " if role else ""
    next_step = f"{grant}name another server, or set drill.scratch = 'embedded'"
    return PermanentError(
        "use a server for drills", f"drill.server = {name}", found, next_step[0].upper() + next_step[1:]
    )
