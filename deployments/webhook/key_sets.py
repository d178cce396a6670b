"""The public keys of those who make tokens (JWKS), kept: asked for anew when they are old or when a token names one that is not among them, at most once in a while,
so that tokens with invented names do not make us ask; and while the issuer is away the kept ones still count for a day."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt

from core.errors import NightshiftError, PermanentError
from core.webhook_event import RefusedError
from core.webhook_token import ALGORITHM
from tasks.web_api import QUICK, WebApi

FRESH_SECONDS = 600
# Between two questions, whatever the answer was.
PAUSE_SECONDS = 30
LONGEST_SECONDS = 86400
PATH = "/.well-known/jwks"


@dataclass
class _Kept:
    keys: dict[str, Any] = field(default_factory=dict)
    fetched: float = float("-inf")
    asked: float = float("-inf")


class KeySets:
    """By issuer. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def at_hand(self, issuer: str, kid: str) -> Any | None:
        """The key when it is known and fresh; None when it must be asked for, which takes time."""
        kept = self._kept.get(issuer)
        fresh = kept is not None and self._clock() - kept.fetched < FRESH_SECONDS
        return kept.keys.get(kid) if kept is not None and fresh else None

    def find(self, issuer: str, kid: str) -> Any:
        """The key, asked for where that may help. Raise RefusedError: 401 when the issuer has no such key, 503 when nobody can say."""
        with self._lock:
            kept = self._kept.setdefault(issuer, _Kept())
            now = self._clock()
            stale = now - kept.fetched >= FRESH_SECONDS
            if (stale or kid not in kept.keys) and now - kept.asked >= PAUSE_SECONDS:
                kept.asked = now
                # When nobody answers, the kept ones count on, below.
                with contextlib.suppress(NightshiftError):
                    kept.keys, kept.fetched = _fetched(issuer), now
            usable = now - kept.fetched < LONGEST_SECONDS
            if usable and kid in kept.keys:
                return kept.keys[kid]
            if now - kept.fetched < FRESH_SECONDS:
                raise RefusedError(401, "the issuer has no key of that name")
            raise RefusedError(503, "the issuer's keys cannot be had: try again in half a minute")


def _fetched(issuer: str) -> dict[str, Any]:
    with WebApi(issuer, what="the tokens' issuer", limits=QUICK) as api:
        document = api.json(PATH)
    keys = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, Any] = {}
    for one in keys if isinstance(keys, list) else []:
        if not isinstance(one, dict) or one.get("kty") != "RSA" or one.get("alg", ALGORITHM) != ALGORITHM:
            continue
        try:
            found[str(one["kid"])] = jwt.PyJWK(one, ALGORITHM).key
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            continue
    if not found:
        raise PermanentError("ask the tokens' issuer", issuer, "its answer holds no RSA key", "Look at the address")
    return found
