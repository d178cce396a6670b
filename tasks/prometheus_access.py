"""Signing in to Prometheus, and whom to trust: by the references of [release.gates]."""

import ssl

from core.environment_gates import Gates
from tasks.web_access import basic, bearer, trusted


def sign_in(gates: Gates) -> dict[str, str]:
    """The header of the configured sign-in; none when there is none."""
    if gates.prometheus_token is not None:
        return bearer(gates.prometheus_token, "release.gates.prometheus_token")
    if gates.prometheus_username is None or gates.prometheus_password is None:
        return {}
    return basic(gates.prometheus_username, gates.prometheus_password)


def trust(gates: Gates) -> ssl.SSLContext | bool:
    """What certifies an https address: the configured CA file, else the system's."""
    return trusted(gates.prometheus_ca_file, "release.gates.prometheus_ca_file")
