"""Signing in to a web API, and whom to trust: by the references of an environment's file, resolved at use. `key` names the setting in messages."""

import base64
import ssl
from pathlib import Path

from core.errors import ConfigurationError
from core.redaction import register_secret
from tasks.secrets import resolve


def bearer(reference: str, key: str) -> dict[str, str]:
    """Given a token's reference, return the header. Raise ConfigurationError when the secret cannot be a token: httpx would repeat it in its own error."""
    token = resolve(reference).get_secret_value().strip()
    if not token.isascii() or not token.isprintable():
        found, next_step = "the secret is no token: it has line breaks or the like", "Put the token alone there"
        raise ConfigurationError("sign in", key, found, next_step)
    return {"Authorization": f"Bearer {token}"}


def basic(user_reference: str, password_reference: str) -> dict[str, str]:
    """Given the references of user and password, return the header of a basic sign-in."""
    user = resolve(user_reference).get_secret_value()
    password = resolve(password_reference).get_secret_value()
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    register_secret(encoded)
    return {"Authorization": f"Basic {encoded}"}


def trusted(ca_file: str | None, key: str) -> ssl.SSLContext | bool:
    """What certifies an https address: the CA file, else the system's. Raise ConfigurationError when there is no such file."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=Path(ca_file).expanduser())
    except (OSError, ssl.SSLError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ConfigurationError(
            "load a CA file", f"{key} = {ca_file}", found, "Give the path of a PEM file on the worker"
        ) from error
