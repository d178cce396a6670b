"""`nightshift metrics ENV…`: nightshift's own metrics, read from the bucket: printed, served, pushed, or written for node_exporter."""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError

import typer
from prometheus_client import generate_latest, push_to_gateway, start_http_server, write_to_textfile

from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.own_metrics import EnvironmentFacts, Unread
from deployments.command.endings import unwinding_signals
from deployments.command.listening import host_and_port
from deployments.command.terminal import EXIT_NOT_WELL, console, tell_error
from tasks.environments import load_environment
from tasks.kept_reads import KeptReads
from tasks.metrics_registry import Found, Refreshed, look_at_all, registry_of
from tasks.own_metrics import read_environment

JOB = "nightshift"
PUSH_SECONDS = 15
HEARS_SECONDS = 0.5
_GATEWAY = re.compile(r"https?://[^\s@?#]+")


def metrics_command(
    environments: Annotated[
        list[str], typer.Argument(metavar="ENV", help="Environments: the names of their files, without .toml.")
    ],
    listen: Annotated[
        str,
        typer.Option("--listen", metavar="HOST:PORT", help="Serve /metrics there until Ctrl-C, e.g. 127.0.0.1:9464."),
    ] = "",
    push: Annotated[
        str,
        typer.Option("--push", metavar="URL", help="Push once to the Pushgateway there, a group for each environment."),
    ] = "",
    textfile: Annotated[
        Path | None, typer.Option("--textfile", metavar="FILE.prom", help="Write them there once, for node_exporter.")
    ] = None,
) -> None:
    """Tell nightshift's own metrics, read from each environment's bucket. Exit code 1 when one could not be read: its `nightshift_up` is 0 then, without any other.

    Without an option they are printed. Needs what `nightshift catalog` needs; neither a Prefect server nor a cluster.
    """
    names = list(dict.fromkeys(environments))
    if sum(map(bool, (listen, push, textfile))) > 1:
        raise ConfigurationError("tell metrics", "the options", "--listen, --push and --textfile exclude each other")
    # A name that is wrong is told now; a file that is changed later is read as it then is.
    for name in names:
        load_environment(name)
    if listen:
        serve(names, listen)
        return
    found = [_read_once(name) for name in names]
    if push:
        push_all(push, found)
    elif textfile is not None:
        write_textfile(textfile, found)
    else:
        typer.echo(generate_latest(registry_of(lambda: found)), nl=False)
    raise typer.Exit(EXIT_NOT_WELL if any(isinstance(one, Unread) for one in found) else 0)


def serve(names: Sequence[str], listen: str) -> None:
    """Serve the metrics until Ctrl-C or SIGTERM. Raise ConfigurationError for an address that is none, PermanentError when it cannot be listened on."""
    host, port = host_and_port("serve metrics", listen)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    refreshed = [Refreshed(name, partial(_read, name, KeptReads())) for name in names]
    with unwinding_signals():
        try:
            server, thread = start_http_server(port, host, registry_of(partial(look_at_all, refreshed)))
        except OSError as error:
            raise PermanentError(
                "serve metrics", f"{host}:{port}", error.strerror or str(error), "Give --listen another address"
            ) from error
        try:
            console.print(
                f"serving http://{host}:{server.server_port}/metrics of {', '.join(names)} until Ctrl-C", soft_wrap=True
            )
            # The kernel may hand SIGTERM to another thread: one that sleeps without an end would not hear of it (it did not, once in some tens of times).
            while thread.is_alive():
                thread.join(HEARS_SECONDS)
        except KeyboardInterrupt:
            console.print("stopped")
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def push_all(gateway: str, found: Sequence[Found]) -> None:
    """Replace each environment's group on a Pushgateway by what was found. Raise ConfigurationError for an address that is none, or that holds a password;
    TemporaryError or PermanentError when the gateway does not take it."""
    if not _GATEWAY.fullmatch(gateway):
        raise ConfigurationError(
            "push metrics", "--push", "an address begins with http:// or https:// and holds no user, password or query"
        )
    for one in found:
        registry = registry_of(partial(_only, one))
        try:
            push_to_gateway(gateway, JOB, registry, {"environment": one.environment}, timeout=PUSH_SECONDS)
        except HTTPError as error:
            error.close()
            kind = TemporaryError if error.code >= 500 else PermanentError
            raise kind("push metrics", gateway, f"HTTP {error.code}", "Look at the Pushgateway's log") from error
        except (OSError, ValueError) as error:
            raise TemporaryError(
                "push metrics", gateway, str(error), "Is that the Pushgateway's address, and is it up?"
            ) from error


def write_textfile(file: Path, found: Sequence[Found]) -> None:
    """Write the file in one step, so that node_exporter never reads half of it. Raise ConfigurationError for a name that it would not read, or no folder."""
    if file.suffix != ".prom":
        raise ConfigurationError("write metrics", str(file), "node_exporter reads files whose names end in .prom")
    try:
        write_to_textfile(str(file), registry_of(lambda: found))
    except OSError as error:
        raise ConfigurationError(
            "write metrics",
            str(file),
            error.strerror or str(error),
            "Give node_exporter's --collector.textfile.directory",
        ) from error


def _only(one: Found) -> tuple[Found]:
    return (one,)


def _read_once(name: str) -> Found:
    try:
        return _read(name, KeptReads())
    except NightshiftError as error:
        tell_error(f"{name}: {error}")
        return Unread(name)


def _read(name: str, kept: KeptReads) -> EnvironmentFacts:
    return read_environment(load_environment(name), kept, datetime.now(UTC))
