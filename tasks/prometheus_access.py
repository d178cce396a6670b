"""Signing in to Prometheus, and whom to trust: by the references of [release.gates], resolved at use."""

import base64
import ssl
from pathlib import Path

from core.environment_gates import Gates
from core.errors import ConfigurationError
from core.redaction import register_secret
from tasks.secrets import resolve


def sign_in(gates: Gates) -> dict[str, str]:
    """The header of the configured sign-in; none when there is none."""
    if gates.prometheus_token is not None:
        token = resolve(gates.prometheus_token).get_secret_value().strip()
        if not token.isascii() or not token.isprintable():
            found, next_step = "the secret is no token: it has line breaks or the like", "Put the token alone there"
            raise ConfigurationError("sign in to Prometheus", "release.gates.prometheus_token", found, next_step)
        return {"Authorization": f"Bearer {token}"}
    if gates.prometheus_username is None or gates.prometheus_password is None:
        return {}
    user = resolve(gates.prometheus_username).get_secret_value()
    password = resolve(gates.prometheus_password).get_secret_value()
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    register_secret(encoded)
    return {"Authorization": f"Basic {encoded}"}


def trust(gates: Gates) -> ssl.SSLContext | bool:
    """What certifies an https address: the configured CA file, else the system's."""
    if gates.prometheus_ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=Path(gates.prometheus_ca_file).expanduser())
    except (OSError, ssl.SSLError) as error:
        on = f"release.gates.prometheus_ca_file = {gates.prometheus_ca_file}"
        found = f"{type(error).__name__}: {error}"
        raise ConfigurationError("load a CA file", on, found, "Give the path of a PEM file on the worker") from error
