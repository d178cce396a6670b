"""Whether a body was signed by GitHub: `X-Hub-Signature-256` is an HMAC of the raw bytes ("Validating webhook deliveries" in GitHub's manual)."""

import hashlib
import hmac
import re
from collections.abc import Sequence

_HEADER = re.compile(r"sha256=([0-9a-f]{64})")


def signed_by(header: str | None, body: bytes, secrets: Sequence[str]) -> int | None:
    """Given the header, the raw bytes and the secrets that count, return the index of the one that signed them, or None. Takes the same time whichever it is."""
    match = _HEADER.fullmatch(header or "")
    given = match[1] if match else ""
    found = None
    # Each is compared, also past the first that fits.
    for index, secret in enumerate(secrets):
        expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(expected, given) and found is None:
            found = index
    return found


def signature_of(body: bytes, secret: str) -> str:
    """Given a body and a secret, return the header that GitHub would send."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
