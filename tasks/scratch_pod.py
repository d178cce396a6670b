"""A scratch server in a Pod that is made for one drill, reached by port-forward, and removed with its Secret and its NetworkPolicy in any case."""

import logging
import secrets as random
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.environment import Database, Environment
from core.environment_restore import ScratchPod
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.manifest import Manifest
from core.redaction import register_secret
from core.scratch_pod import (
    NETWORK_PROBE,
    PORT,
    SEEN_ANNOTATION,
    PodOrder,
    failure_of,
    is_ready,
    pod_document,
    policy_document,
    quantity_bytes,
    secret_document,
    waiting_for,
)
from core.scratch_settings import base_settings, bootstrap_superuser, checksum_option, tuned_settings
from core.velero import RUN_LABEL, is_made_by, owner_labels
from tasks.kubernetes_client import Document, ExistsError, KubernetesClient, MissingError
from tasks.kubernetes_watch import NotInTimeError, wait_for_object
from tasks.pod_forward import Dial, Forwarder, forwarded_socket, pod_dialer
from tasks.postgres import connect, open_connection, translated
from tasks.scratch_folder import SOCKET_PREFIX, remove_folder
from tasks.scratch_record import Scratch

logger = logging.getLogger(__name__)

ROLE_LABEL, ROLE = "app.kubernetes.io/component", "scratch-server"
_SEEN_SECONDS = 30.0
# A drill whose Pod was not marked for so long was killed: the marks come every half minute, and an API server may be away for a while.
_DEAD_AFTER = timedelta(minutes=5)
_GONE_SECONDS = 60.0
_ANSWER_SECONDS = 60.0
_REPORT_SECONDS = 10.0
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
    choice = environment.drill.pod
    order = _order(environment, manifest, run_id)
    _remove_all(choice, lambda found: is_made_by(found, environment.name, order.labels[RUN_LABEL]))
    try:
        with _beating(order):
            with KubernetesClient.open(choice.context) as client:
                _create(client, order)
                # While the node starts it: see pod_dialer.
                dial = pod_dialer(choice.context, order.namespace, order.name, PORT)
                _wait_until_ready(client, order)
            with _login(order, dial) as login, _told_when_it_ended(order):
                yield _scratch(environment, manifest, order, login)
    finally:
        _remove_all(choice, lambda found: is_made_by(found, environment.name, order.labels[RUN_LABEL]), wait=True)


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


def sweep_pods(environment: Environment, *, now: datetime | None = None) -> tuple[str, ...]:
    """Remove the Pods, Secrets and NetworkPolicies that killed drills of this environment left, and return what was removed, a sentence each.

    A drill marks its Pod every half minute; one that was not marked for five minutes is nobody's. Secrets and policies go by the Pod of their run, or their age.
    """
    moment = now or datetime.now(UTC)
    choice = environment.drill.pod
    with KubernetesClient.open(choice.context) as client:
        pods = [
            pod
            for pod in client.list(_paths(choice)["Pod"], metadata_only=True)
            if is_made_by(pod, environment.name) and _is_scratch(pod)
        ]
    alive = {pod["metadata"]["labels"][RUN_LABEL] for pod in pods if moment - _last_seen(pod) < _DEAD_AFTER}

    def is_left(found: Document) -> bool:
        run = (found["metadata"].get("labels") or {}).get(RUN_LABEL)
        # A Secret is made before its Pod.
        return is_made_by(found, environment.name) and run not in alive and moment - _last_seen(found) >= _DEAD_AFTER

    return tuple(f"removed the {what} of a killed drill" for what in _remove_all(choice, is_left))


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


def _paths(choice: ScratchPod) -> dict[str, str]:
    """The collections that a scratch server needs, in the order in which its parts are made."""
    return {
        "NetworkPolicy": f"/apis/networking.k8s.io/v1/namespaces/{choice.namespace}/networkpolicies",
        "Secret": f"/api/v1/namespaces/{choice.namespace}/secrets",
        "Pod": f"/api/v1/namespaces/{choice.namespace}/pods",
    }


def _create(client: KubernetesClient, order: PodOrder) -> None:
    paths = _paths(order.choice)
    documents = {
        "NetworkPolicy": policy_document(order),
        "Secret": secret_document(order),
        "Pod": pod_document(order, datetime.now(UTC).isoformat()),
    }
    for kind, document in documents.items():
        try:
            client.create(paths[kind], document)
        except MissingError as error:
            raise ConfigurationError(
                f"make the scratch server's {kind}",
                f"namespace {order.namespace}",
                error.found,
                "Make the namespace, or correct drill.pod.namespace",
            ) from error
        except ExistsError:
            raise
        except PermanentError as error:
            quota = "exceeded quota" in error.found
            raise PermanentError(
                f"make the scratch server's {kind}",
                f"namespace {order.namespace}",
                error.found,
                "Raise the namespace's quota, or lower drill.pod.memory, cpu and disk" if quota else error.next_step,
            ) from error


def _wait_until_ready(client: KubernetesClient, order: PodOrder) -> None:
    def finished(pod: Document | None) -> bool:
        return pod is None or is_ready(pod) or failure_of(pod) is not None

    seconds = order.choice.start_seconds
    try:
        pod = wait_for_object(client, _paths(order.choice)["Pod"], order.name, finished, seconds=seconds)
    except NotInTimeError as error:
        found = f"not ready after {seconds} s: {error.error or waiting_for(error.last)}"
        raise _not_started(order, found) from error
    failure = waiting_for(None) if pod is None else failure_of(pod)
    if failure:
        raise _not_started(order, failure)
    # The server has read it; nobody else needs it in the cluster.
    _remove(client, _paths(order.choice)["Secret"], lambda found: found["metadata"]["name"] == order.name)


def _not_started(order: PodOrder, found: str) -> PermanentError:
    return PermanentError(
        "start the scratch Pod",
        f"{order.namespace}/{order.name}, image {order.choice.image}",
        found,
        "Correct drill.pod (image, memory, cpu, disk, start_seconds), or see the namespace's events",
    )


@contextmanager
def _login(order: PodOrder, dial: Dial) -> Iterator[Database]:
    """The login of the Pod's superuser through a private local socket; the password lies in a file beside it for as long."""
    folder = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir="/tmp")).resolve()
    try:
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
    finally:
        remove_folder(folder)


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


@contextmanager
def _beating(order: PodOrder) -> Iterator[None]:
    """Mark the Pod as in use every half minute within the block."""
    done = threading.Event()
    path = f"{_paths(order.choice)['Pod']}/{order.name}"

    def beat() -> None:
        while not done.wait(_SEEN_SECONDS):
            seen = {"metadata": {"annotations": {SEEN_ANNOTATION: datetime.now(UTC).isoformat()}}}
            try:
                # A client for each mark: credentials last minutes.
                with KubernetesClient.open(order.choice.context) as client:
                    client.merge(path, seen)
            except NightshiftError as error:
                logger.warning("could not mark the scratch Pod as in use: %s", error)

    thread = threading.Thread(target=beat, name="scratch-pod-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _told_when_it_ended(order: PodOrder) -> Iterator[None]:
    """Within the block an error that comes of the Pod's own end (evicted, out of memory) says that, not that a connection was lost."""
    try:
        yield
    except (NightshiftError, psycopg.Error) as error:
        # A lost connection comes before the kubelet's report of why.
        lost = isinstance(error, TemporaryError | psycopg.OperationalError)
        found = _how_it_ended(order, _REPORT_SECONDS if lost else 0.1)
        if found is None:
            raise
        on = f"{order.namespace}/{order.name}"
        raise PermanentError("keep the scratch Pod", on, found, "Raise drill.pod.memory or disk") from error


def _how_it_ended(order: PodOrder, seconds: float) -> str | None:
    """Why the Pod ended, when it does within so many seconds; None when it lives or the API server does not say."""

    def ended(pod: Document | None) -> bool:
        return pod is None or failure_of(pod) is not None

    try:
        with KubernetesClient.open(order.choice.context) as client:
            pod = wait_for_object(client, _paths(order.choice)["Pod"], order.name, ended, seconds=seconds)
    except (NightshiftError, NotInTimeError):
        return None
    return waiting_for(None) if pod is None else failure_of(pod)


def _remove_all(choice: ScratchPod, mine: Callable[[Document], bool], *, wait: bool = False) -> list[str]:
    """Remove what the predicate takes for ours, the Pod first, and return what was removed. An API server that is away is told of in the log: a later drill sweeps."""
    removed = []
    paths = _paths(choice)
    try:
        with KubernetesClient.open(choice.context) as client:
            for kind in ("Pod", "Secret", "NetworkPolicy"):
                names = _remove(client, paths[kind], lambda found: _is_scratch(found) and mine(found))
                removed += [f"{kind} {choice.namespace}/{name}" for name in names]
                for name in names if wait and kind == "Pod" else ():
                    wait_for_object(client, paths[kind], name, lambda pod: pod is None, seconds=_GONE_SECONDS)
    except (NightshiftError, NotInTimeError) as error:
        logger.warning("could not remove all of the scratch server's parts: %s", error)
    return removed


def _remove(client: KubernetesClient, path: str, mine: Callable[[Document], bool]) -> list[str]:
    names = []
    for found in list(client.list(path, metadata_only=True)):
        if mine(found):
            name = found["metadata"]["name"]
            with suppress(MissingError, ExistsError):
                client.delete(f"{path}/{name}", uid=found["metadata"]["uid"])
                names.append(name)
    return names


def _is_scratch(found: Document) -> bool:
    return (found["metadata"].get("labels") or {}).get(ROLE_LABEL) == ROLE


def _last_seen(found: Document) -> datetime:
    """When a drill was last known to use it: its mark, else when it was made."""
    metadata: dict[str, Any] = found["metadata"]
    text = (metadata.get("annotations") or {}).get(SEEN_ANNOTATION) or metadata["creationTimestamp"]
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(metadata["creationTimestamp"])
