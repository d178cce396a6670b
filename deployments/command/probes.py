"""What `nightshift check` tries: each probe looks at one thing and says how it stands, in bounded time, whatever the others find.

Probes run side by side in daemon threads. One that exceeds its time is reported and left behind, since neither libpq nor botocore can be interrupted.
"""

import socket
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from urllib.parse import urlsplit

from botocore.utils import get_environ_proxies

from core.checks import Check
from core.environment import Environment
from core.environment_database import Database
from core.environment_keys import dotted, place_at
from core.errors import ConfigurationError, NightshiftError
from core.redaction import SHORTEST, redact
from core.secret_reference import shown_reference
from deployments.command.backup_probes import backup_probes
from deployments.command.disk_probes import disk_probes
from deployments.command.probe import LONG_SECONDS, Probe
from deployments.command.release_probes import release_probes
from deployments.command.server_probes import SERVER_CHECK, look_at_server
from deployments.command.watch_probes import watch_probes
from deployments.command.webhook_probes import webhook_probes
from tasks.clients import installed_clients
from tasks.object_store import ObjectStore
from tasks.preflight_postgres import check_postgres
from tasks.preflight_spool import check_spool
from tasks.preflight_store import check_store
from tasks.secrets import resolve, signing_keys

# A dead host is told from a slow one before anything heavier begins.
REACH_SECONDS = 5.0


def probes_of(environment: Environment) -> list[Probe]:
    """Given an environment, return everything that is tried for it, in the order in which it is shown."""
    probes = [_secret_probe(path, reference) for path, reference in references_of(environment)]
    probes.append(Probe("signing key", lambda: _look_at_signing(environment)))
    bucket: Future[bool] = Future()
    probes.append(Probe("bucket", lambda: _look_at_store(environment, bucket)))
    probes.append(Probe("client programs", _look_at_clients))
    for key, database in environment.databases.items():
        probes.append(_database_probe(environment, key, database))
        probes.append(Probe(f"{key}: spool", partial(check_spool, key, database)))
    probes += disk_probes(environment)
    probes += [*release_probes(environment), *watch_probes(environment), *webhook_probes(environment)]
    probes.append(Probe(SERVER_CHECK, lambda: look_at_server(environment)))
    return probes + backup_probes(environment, bucket)


def run_probes(probes: list[Probe]) -> Iterator[list[Check]]:
    """Start all probes at once; yield the checks of each in the probes' order, as soon as they are known."""
    started = time.monotonic()
    running = [(probe, _start(probe)) for probe in probes]
    for probe, outcome in running:
        try:
            yield outcome.result(timeout=max(0.0, started + probe.seconds - time.monotonic()))
        except TimeoutError:
            yield [
                Check(
                    name=probe.name,
                    state="failed",
                    found=f"no answer within {probe.seconds:.0f} s",
                    next_step="Look whether the address is right and whether a firewall lets this machine through",
                )
            ]


def references_of(environment: Environment) -> list[tuple[str, str]]:
    """Given an environment, return the key path and the text of each of its secret references, each reference once."""
    found: dict[str, str] = {}
    for path, value in _leaves(environment.model_dump(), ()):
        place = place_at(path)
        if place is not None and place.is_secret and isinstance(value, str):
            found.setdefault(value, dotted(path))
    return [(path, reference) for reference, path in found.items()]


def _leaves(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _start(probe: Probe) -> "Future[list[Check]]":
    outcome: Future[list[Check]] = Future()
    # Prefect's settings are context variables, which a new thread does not inherit.
    context = copy_context()

    def run() -> None:
        outcome.set_result(context.run(_checks_of, probe))

    threading.Thread(target=run, name=f"check {probe.name}", daemon=True).start()
    return outcome


def _checks_of(probe: Probe) -> list[Check]:
    try:
        return list(probe.look())
    except NightshiftError as error:
        return [Check(name=probe.name, state="failed", found=f"{error.on}: {error.found}", next_step=error.next_step)]
    except Exception as error:  # noqa: BLE001 - in a thread: uncaught it would leave its check unanswered for ever; told as a failed one
        place = traceback.extract_tb(error.__traceback__)[-1]
        found = redact(f"{type(error).__name__}: {' '.join(str(error).split())} ({place.filename}:{place.lineno})")
        return [Check(name=probe.name, state="failed", found=found, next_step="Nobody foresaw this: please report it")]


def _secret_probe(path: str, reference: str) -> Probe:
    name, shown = f"secret {path}", shown_reference(reference)

    def look() -> Iterator[Check]:
        secret = resolve(reference).get_secret_value()
        if len(secret) < SHORTEST:
            yield Check(
                name=name,
                state="warning",
                found=f"{shown} is shorter than {SHORTEST} characters and cannot be masked in logs",
                next_step="Choose a longer one",
            )
        else:
            yield Check(name=name, state="passed", found=f"{shown} is there")

    return Probe(name, look)


def _look_at_signing(environment: Environment) -> Iterator[Check]:
    keys = signing_keys(environment)
    older = f", {len(keys) - 1} older accepted" if len(keys) > 1 else ""
    found = f"{environment.signing.algorithm}, key id {keys[0].key_id}{older}"
    yield Check(name="signing key", state="passed", found=found)


def _look_at_store(environment: Environment, bucket: "Future[bool]") -> list[Check]:
    """The bucket's checks; `bucket` is told whether it is worth reading the catalogue there."""
    try:
        checks = _check_store_within_reach(environment)
    except BaseException:
        bucket.set_result(False)
        raise
    bucket.set_result(not any(check.name == "bucket" and check.state == "failed" for check in checks))
    return checks


def _check_store_within_reach(environment: Environment) -> list[Check]:
    store = ObjectStore.open(environment)
    address = store.client.meta.endpoint_url
    if not get_environ_proxies(address):
        parts = urlsplit(address)
        keys = "store.endpoint_url" if environment.store.endpoint_url else "store.region"
        _reach(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), keys)
    return check_store(environment, store)


def _look_at_clients() -> Iterator[Check]:
    versions = ", ".join(clients.version for clients in installed_clients())
    if versions:
        yield Check(name="client programs", state="passed", found=f"pg_dump {versions}")
    else:
        yield Check(
            name="client programs",
            state="failed",
            found="no pg_dump is installed here",
            next_step="Install postgresql-client, or name its folder in NIGHTSHIFT_POSTGRES_BIN",
        )


def _database_probe(environment: Environment, key: str, database: Database) -> Probe:
    def look() -> Iterable[Check]:
        if not database.host.startswith("/"):
            _reach(database.host, database.port, f"databases.{key}.host and port")
        return check_postgres(environment.name, key, database)

    return Probe(f"{key}: connection", look, LONG_SECONDS)


def _reach(host: str, port: int, keys: str) -> None:
    """Raise ConfigurationError unless something accepts a connection at host and port, at any of the host's addresses."""
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except OSError as error:
        found = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
        raise ConfigurationError(
            "connect", f"{host}:{port}", found, f"Look at {keys}, at the network and at the server"
        ) from error
