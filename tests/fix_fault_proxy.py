"""A proxy that ends TLS before a Kubernetes API and fails requests as a test scripts it, under an authority of its own and tokens that it may take back."""

from __future__ import annotations

import base64
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fix_api_proxy import ApiProxy, Fault

Meets = Callable[[str, str], bool]


@dataclass
class _Script:
    meets: Meets
    fault: Fault
    skip: int
    times: int


@dataclass
class _Hook:
    meets: Meets
    action: Callable[[], object]
    skip: int
    times: int


class FaultProxy(ApiProxy):
    """Use its kubeconfig. `failed`: the requests that got another end than the API server's, in order."""

    def __init__(self, folder: Path) -> None:
        self.failed: list[tuple[str, str]] = []
        self.refused = 0
        self._scripts: list[_Script] = []
        self._hooks: list[_Hook] = []
        self._token, self._token_file = "first-token", folder / "fault-proxy.token"
        certificate, key = _certificate(folder)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        super().__init__(tls)
        authority = base64.b64encode(certificate.read_bytes()).decode()
        document = self.kubeconfig_document(
            {"tokenFile": str(self._token_file)}, **{"certificate-authority-data": authority}
        )
        self._token_file.write_text(self._token)
        self.kubeconfig = folder / "fault-proxy.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def fail(self, meets: Meets, fault: Fault, *, skip: int = 0, times: int = 1) -> None:
        """Let requests (method, path) end so: as many as said, after the first ones are passed on."""
        self._scripts.append(_Script(meets, fault, skip, times))

    def after(self, meets: Meets, action: Callable[[], object], *, skip: int = 0, times: int = 1) -> None:
        """Do something when a request was carried out well and its answer is not sent yet."""
        self._hooks.append(_Hook(meets, action, skip, times))

    def renew_token(self) -> None:
        """From now on only another token is taken, which whoever reads the token's file anew has."""
        self._token = "second-token"
        self._token_file.write_text(self._token)

    def admits(self, authorization: str) -> bool:
        """Whether it is the token of now."""
        is_admitted = authorization == f"Bearer {self._token}"
        self.refused += not is_admitted
        return is_admitted

    def meet(self, method: str, path: str, _body: bytes) -> Fault | None:
        """The scripted fault."""
        with self.lock:
            for one in self._scripts:
                if one.meets(method, path) and _is_turn(one):
                    self.failed.append((method, path.partition("?")[0]))
                    return one.fault
        return None

    def passed(self, method: str, path: str) -> None:
        """Call what was hooked."""
        with self.lock:
            actions = [one.action for one in self._hooks if one.meets(method, path) and _is_turn(one)]
        for action in actions:
            action()


def _is_turn(one: _Script | _Hook) -> bool:
    if one.skip:
        one.skip -= 1
        return False
    one.times -= 1
    return one.times >= 0


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a proxy of the tests")])
    now, address = datetime.now(UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "fault-proxy.crt", folder / "fault-proxy.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_file.write_bytes(private)
    return certificate_file, key_file


@pytest.fixture
def fault_proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy before the API server that KUBECONFIG leads to; a test sets KUBECONFIG to its own for what is to go through it."""
    proxy = FaultProxy(tmp_path)
    yield proxy
    proxy.close()
