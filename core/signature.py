"""Signatures over canonical JSON: HMAC-SHA-256 (one shared key) or Ed25519 (RFC 8032). The key is never in the bucket."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from core.canonical import canonical_bytes

Algorithm = Literal["hmac-sha256", "ed25519"]
SHORTEST_HMAC_KEY = 32


class SigningKey:
    """A key that signs and verifies. Its `key_id` (16 hexadecimal digits) names it without telling it."""

    def __init__(self, algorithm: Algorithm, secret: str) -> None:
        """Given the key's text, raise ValueError when it is too short or not a PEM Ed25519 key; the message never repeats it."""
        self.algorithm = algorithm
        self._private: Ed25519PrivateKey | None = None
        self._public: Ed25519PublicKey | None = None
        self._shared = secret.strip().encode()
        if algorithm == "hmac-sha256":
            if "PUBLIC KEY" in secret:
                raise ValueError("a public key is no secret for hmac-sha256: whoever can read it could sign")
            if len(self._shared) < SHORTEST_HMAC_KEY:
                raise ValueError(
                    f"an hmac-sha256 key needs at least {SHORTEST_HMAC_KEY} characters, this one has {len(self._shared)}"
                )
            fingerprint = hashlib.sha256(b"nightshift key id\0" + self._shared).hexdigest()
        else:
            self._load_ed25519(secret)
            assert self._public is not None  # noqa: S101 - for the type checker: _load_ed25519 sets it or raises
            fingerprint = hashlib.sha256(self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
        self.key_id = fingerprint[:16]

    def _load_ed25519(self, secret: str) -> None:
        try:
            if "PRIVATE KEY" in secret:
                private = load_pem_private_key(secret.encode(), password=None)
                if isinstance(private, Ed25519PrivateKey):
                    self._private, self._public = private, private.public_key()
            else:
                public = load_pem_public_key(secret.encode())
                if isinstance(public, Ed25519PublicKey):
                    self._public = public
        except (ValueError, TypeError):
            # The library's message is left out on purpose: it may quote the key.
            self._public = None
        if self._public is None:
            raise ValueError("not a PEM Ed25519 key (make one with: openssl genpkey -algorithm ed25519)")

    def sign(self, document: Any) -> dict[str, str]:
        """Given a JSON document, return its signature record. Raise ValueError when this is only a public key."""
        message = canonical_bytes(document)
        if self.algorithm == "hmac-sha256":
            value = hmac.new(self._shared, message, hashlib.sha256).digest()
        elif self._private is not None:
            value = self._private.sign(message)
        else:
            raise ValueError("this is a public key: it verifies, but cannot sign")
        return {"algorithm": self.algorithm, "key_id": self.key_id, "value": base64.b64encode(value).decode()}

    def verifies(self, document: Any, value: bytes) -> bool:
        """Whether value is this key's signature of document; compared in constant time."""
        message = canonical_bytes(document)
        if self.algorithm == "hmac-sha256":
            return hmac.compare_digest(hmac.new(self._shared, message, hashlib.sha256).digest(), value)
        assert self._public is not None  # noqa: S101 - set by the constructor
        try:
            self._public.verify(value, message)
        except InvalidSignature:
            return False
        return True


def seal(document: Any, key: SigningKey) -> dict[str, Any]:
    """Given a JSON document, return the signed envelope `{"document": …, "signature": …}` that is written to S3."""
    return {"document": document, "signature": key.sign(document)}


def open_seal(envelope: Any, keys: Sequence[SigningKey]) -> Any:
    """Given an envelope and the keys that are accepted, return its document. Raise ValueError, saying why, when it is unsigned or wrongly signed."""
    if not isinstance(envelope, dict) or "document" not in envelope:
        raise ValueError("not a signed document")
    signature = envelope.get("signature")
    if not isinstance(signature, dict) or not all(
        isinstance(signature.get(part), str) for part in ("algorithm", "key_id", "value")
    ):
        raise ValueError("unsigned")
    key = next(
        (key for key in keys if key.key_id == signature["key_id"] and key.algorithm == signature["algorithm"]), None
    )
    if key is None:
        raise ValueError(
            f"signed with a key that this environment does not know (key id {str(signature['key_id'])[:16]})"
        )
    try:
        value = base64.b64decode(signature["value"], validate=True)
        good = key.verifies(envelope["document"], value)
    except (ValueError, TypeError):
        good = False
    if not good:
        raise ValueError("the signature does not match: the document was changed after it was written, or forged")
    return envelope["document"]
