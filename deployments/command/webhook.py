"""`nightshift webhook`: listen to GitHub, and start what it asks for (docs/webhook.md)."""

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from core.errors import ConfigurationError
from deployments.command.endings import unwinding_signals
from deployments.command.listening import host_and_port
from deployments.command.terminal import console
from deployments.local.data_folder import data_root


def webhook_command(  # noqa: PLR0917 - a command has as many options as it has
    environments: Annotated[
        list[str] | None, typer.Argument(metavar="ENV…", help="Environments. Left out: all that have a table webhook.")
    ] = None,
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8088",
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Where the inbox lies; on a disk of this machine, and kept."),
    ] = None,
    audit: Annotated[
        str,
        typer.Option("--audit", metavar="FILE", help="The audit log; - is standard output. Left out: in the folder."),
    ] = "",
    a_minute: Annotated[
        int, typer.Option("--rate", min=1, max=1_000_000, help="Requests that one source may make in a minute.")
    ] = 300,
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy", metavar="ADDRESS", help="A proxy whose X-Forwarded-For counts; may be given several times."
        ),
    ] = None,
) -> None:
    """Listen to GitHub's webhooks and to Actions jobs until Ctrl-C or SIGTERM. What is accepted is on disk first, and starts one run, whatever happens meanwhile."""
    host, port = host_and_port("listen to GitHub", listen)
    for proxy in proxies or ():
        _require_address(proxy)
    # Importing the flows takes seconds: wrong options are told first.
    from deployments.webhook.server import Service  # noqa: PLC0415

    service = Service(environments or (), folder or data_root() / "webhook", audit=audit, a_minute=a_minute)
    if audit != "-":
        console.print(f"listening on {host}:{port} until Ctrl-C", soft_wrap=True)
    # uvicorn raises SIGTERM anew once all is answered.
    with unwinding_signals():
        service.serve(host, port, proxies or ())


def _require_address(proxy: str) -> None:
    try:
        ipaddress.ip_network(proxy)
    except ValueError as error:
        raise ConfigurationError(
            "listen to GitHub", f"--proxy {proxy}", "it is no address", "An address or network, e.g. 10.0.0.7"
        ) from error
