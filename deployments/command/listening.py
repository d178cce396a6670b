"""Where a command listens: HOST:PORT."""

import re

from core.errors import ConfigurationError

_ADDRESS = re.compile(r"(?:(?P<host>[^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5})")


def host_and_port(attempted: str, listen: str) -> tuple[str, int]:
    """Given what stands after --listen, return host and port. Raise ConfigurationError when it is no address."""
    match = _ADDRESS.fullmatch(listen)
    if match is None or int(match["port"]) > 65535:
        raise ConfigurationError(
            attempted,
            f"--listen {listen}",
            "an address is HOST:PORT, e.g. 127.0.0.1:9464; a port alone is on this machine only",
        )
    return (match["host"] or "127.0.0.1").strip("[]"), int(match["port"])
