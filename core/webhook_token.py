"""Whether a token is GitHub's, made for us, and still good. The parts of a JWT are PyJWT's business; which of them must be there and what they must say stands here."""

import binascii
import json
from collections.abc import Mapping
from typing import Any

import jwt

from core.webhook_event import RefusedError

# GitHub signs with RS256 alone; a token that names another algorithm (none, HS256 with the public key as its secret) is a forgery.
ALGORITHM = "RS256"
LEEWAY_SECONDS = 30
LONGEST_TOKEN = 8 * 1024
REQUIRED = ["iss", "aud", "exp", "nbf", "iat", "jti"]
LONGEST_JTI = 200


def key_id(token: str) -> str:
    """Given a token, return the id of the key that it says it was signed with. Raise RefusedError (401) when it is no token or not signed as GitHub does."""
    if len(token) > LONGEST_TOKEN:
        raise RefusedError(401, "the token is too long")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, binascii.Error, RecursionError):
        raise RefusedError(401, "that is no token") from None
    if header.get("alg") != ALGORITHM:
        raise RefusedError(401, f"the token is not signed by {ALGORITHM}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 200:
        raise RefusedError(401, "the token names no key")
    return kid


def verified_claims(token: str, key: Any, issuer: str, audience: str) -> Mapping[str, Any]:
    """Given a token and the issuer's public key, return its claims. Raise RefusedError (401) saying which check failed; the token is never repeated."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={"require": REQUIRED, "strict_aud": True},
        )
    except jwt.PyJWTError as error:
        raise RefusedError(401, _REASONS.get(type(error), "the token is not valid")) from None
    except (ValueError, TypeError, OverflowError, json.JSONDecodeError, RecursionError):
        raise RefusedError(401, "the token is not valid") from None
    jti = claims["jti"]
    if not isinstance(jti, str) or not 0 < len(jti) <= LONGEST_JTI:
        raise RefusedError(401, "the token's jti is no text")
    return claims


_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet: compare this machine's clock",
    jwt.InvalidIssuerError: "the token is another issuer's",
    jwt.InvalidAudienceError: "the token was made for another audience",
    jwt.InvalidSignatureError: "the token's signature does not fit",
    jwt.MissingRequiredClaimError: "the token lacks one of " + ", ".join(REQUIRED),
}
