"""A scratch server in a Pod that is made for one drill, reached by port-forward, and removed with its Secret and its NetworkPolicy in any case."""

import secrets as random
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.environment import Environment
from core.environment_database import Database
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.manifest import Manifest
from core.redaction import register_secret
from core.scratch_pod import NETWORK_PROBE, PORT, PodOrder, quantity_bytes
from core.scratch_settings import base_settings, bootstrap_superuser, checksum_option, tuned_settings
from core.velero import owner_labels
from tasks.drill_pod import ROLE, ROLE_LABEL, drill_pod
from tasks.pod_forward import Forwarder, forwarded_socket, pod_dialer
from tasks.postgres import connect, open_connection, translated
from tasks.scratch_folder import socket_folder
from tasks.scratch_record import Scratch

_ANSWER_SECONDS = 60.0
_CHECKSUM_MAJOR = 18
_ISOLATION = (
    "a Pod of its own, as an OS user without rights and with a root folder that cannot be written to",
    "no service-account token, no service addresses, an empty environment: only PATH and LC_ALL",
    "no TCP but on the Pod's own loopback, reached by port-forward",
)
_CLOSED = "no network: a NetworkPolicy denies it, tried from inside"
_NETWORK_NOTES = {
    "open": "this cluster does not enforce the NetworkPolicy: the network is within reach of a dump's code",
    "unknown": "whether this cluster enforces the NetworkPolicy could not be tried: the image has no bash",
}


@contextmanager
def pod_scratch(environment: Environment, manifest: Manifest, *, run_id: str) -> Iterator[Scratch]:
    """Given the backup that a drill is going to restore, yield a PostgreSQL in a new Pod. Pod, Secret and NetworkPolicy are removed in any case.

    Raise PermanentError with the cause in one sentence when the Pod does not come (its image, no node, a quota, not ready in time), when its PostgreSQL is
    older than the dump's, or when the Pod ends while it is used.
    """
    order = _order(environment, manifest, run_id)
    with drill_pod(order, environment.name), _login(environment, order, run_id) as login:
        yield _scratch(environment, manifest, order, login)


def _scratch(environment: Environment, manifest: Manifest, order: PodOrder, login: Database) -> Scratch:
    notes = list(_check_server(login, manifest, order))
    isolation = list(_ISOLATION)
    network = _probe_network(login, order)
    if network == "closed":
        isolation.append(_CLOSED)
    elif environment.drill.require_isolation:
        raise PermanentError(
            "keep a dump's code in",
            order.name,
            f"drill.require_isolation is set, and {_NETWORK_NOTES[network]}",
            "Use a cluster whose network plugin enforces NetworkPolicy, or drill.scratch = 'embedded'",
        )
    else:
        notes.append(_NETWORK_NOTES[network])
    return Scratch(
        kind="pod",
        name=f"Pod {order.namespace}/{order.name}",
        login=login,
        settings=order.settings,
        indicative=environment.drill.tuned,
        isolation=tuple(isolation),
        notes=tuple(notes),
    )


def _order(environment: Environment, manifest: Manifest, run_id: str) -> PodOrder:
    choice = environment.drill.pod
    run = "".join(character if character.isalnum() else "-" for character in run_id.lower())[:40].strip("-") or "run"
    password = random.token_urlsafe(24)
    register_secret(password)
    settings = base_settings(manifest.server.settings)
    if environment.drill.tuned:
        try:
            settings |= tuned_settings(quantity_bytes(choice.memory), quantity_bytes(choice.disk))
        except ValueError as error:
            raise ConfigurationError("size the scratch Pod", "drill.pod.memory, drill.pod.disk", str(error)) from error
    return PodOrder(
        # With something random: the name of a Pod that is still being removed is taken.
        name=f"nightshift-scratch-{run}-{random.token_hex(3)}",
        namespace=choice.namespace,
        labels={**owner_labels(environment.name, run), ROLE_LABEL: ROLE},
        superuser=bootstrap_superuser(
            tuple(role.name for role in manifest.roles if role.superuser), manifest.properties.owner
        ),
        password=password,
        settings=settings,
        # Which major the image holds is only known later; up to 17 there is no option to turn checksums off, which is their default there.
        initdb=checksum_option(manifest.server.settings, _CHECKSUM_MAJOR - 1),
        choice=choice,
    )


@contextmanager
def _login(environment: Environment, order: PodOrder, run_id: str) -> Iterator[Database]:
    """The login of the Pod's superuser through a private local socket; the password lies in a file beside it for as long."""
    dial = pod_dialer(order.choice.context, order.namespace, order.name, PORT)
    # A killed drill's is swept by the next one (tasks.scratch_folder).
    with socket_folder(environment.name, run_id) as folder:
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(order.password)
        login = Database(
            host=str(folder),
            port=PORT,
            name="postgres",
            user=order.superuser,
            password=f"file:{password}",
            sslmode="disable",
        )
        with forwarded_socket(folder / f".s.PGSQL.{PORT}", dial) as forwarder:
            _wait_until_it_answers(login, forwarder, order)
            yield login


def _wait_until_it_answers(login: Database, forwarder: Forwarder, order: PodOrder) -> None:
    said = ""

    def waiting() -> bool:
        nonlocal said
        try:
            open_connection(login, application_name="nightshift drill").close()
        except NightshiftError as error:
            said = error.found
            return True
        return False

    try:
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(_ANSWER_SECONDS), wait=wait_fixed(0.3))(waiting)
    except RetryError as error:
        found = f"the Pod is ready, and PostgreSQL does not answer through port-forward: {forwarder.last_error or said}"
        raise TemporaryError(
            "reach the scratch Pod", order.name, found, "Does the worker's account have the right pods/portforward?"
        ) from error


def _check_server(login: Database, manifest: Manifest, order: PodOrder) -> Iterator[str]:
    source_major = manifest.server.version_number // 10000
    with connect(login, application_name="nightshift drill") as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000,"
            " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')"
        ).fetchone()
    assert row is not None  # noqa: S101 - for the type checker: a SELECT without FROM has one row
    version, major, amcheck = row
    if major < source_major:
        raise PermanentError(
            "use the scratch Pod",
            f"image {order.choice.image}",
            f"its PostgreSQL {version} is older than the dump's {manifest.server.version}",
            f"Name an image of PostgreSQL {source_major} or newer in drill.pod.image",
        )
    if major != source_major:
        yield f"restored on PostgreSQL {version}, as drill.pod.image = {order.choice.image} has it; the source is {manifest.server.version}"
    if not amcheck:
        yield f"amcheck is not available: PostgreSQL {version} of {order.choice.image} has no contrib modules"


def _probe_network(login: Database, order: PodOrder) -> str:
    """Whether the Pod can reach the API server, tried from inside: open, closed, or unknown."""
    with (
        connect(login, application_name="nightshift drill") as connection,
        translated("try the network of the scratch Pod", order.name),
    ):
        connection.execute("CREATE TEMPORARY TABLE probe (said text)")
        connection.execute(sql.SQL("COPY pg_temp.probe FROM PROGRAM {}").format(NETWORK_PROBE))
        row = connection.execute("SELECT said FROM pg_temp.probe").fetchone()
    return row[0] if row and row[0] in {"open", "closed"} else "unknown"
