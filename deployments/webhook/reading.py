"""Reading a request that may be meant to do harm: who it comes from, how often, how large, how slow."""

import asyncio
import ipaddress

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from core.webhook_event import RefusedError

# GitHub's events are some 30 KB; what is larger than this is none of ours (GitHub itself sends at most 25 MB).
LARGEST_BODY_BYTES = 1024 * 1024
BODY_SECONDS = 10.0


class Sources:
    """How many requests a source may make in a minute, well or ill; kept in memory, a source's for a minute or two."""

    def __init__(self, a_minute: int) -> None:
        self._item = RateLimitItemPerMinute(a_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def require_room(self, source: str) -> None:
        """Raise RefusedError (429) when the source has had its requests."""
        if not self._limiter.hit(self._item, source):
            raise RefusedError(429, "too many requests from this source in a minute")


def source_of(request: Request) -> str:
    """Who asks: the address that the connection comes from, or that a trusted proxy names; of IPv6 the network, since one host has all of its /64."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:60] or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)


async def body_of(request: Request) -> bytes:
    """The whole body. Raise RefusedError: 400 when it has two lengths, of which a proxy may believe the other one; 413 when it is too large, by what it says or by what
    comes; 408 when it does not come; 415 when it is no JSON by its type."""
    if {"content-length", "transfer-encoding"} <= set(request.headers):
        raise RefusedError(400, "the request has both Content-Length and Transfer-Encoding")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "the body must be application/json (GitHub: Content type)")
    too_large = RefusedError(413, f"the body is larger than {LARGEST_BODY_BYTES // 1024} KiB")
    told = request.headers.get("content-length", "")
    if told.isdigit() and (len(told) > 12 or int(told) > LARGEST_BODY_BYTES):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise RefusedError(408, f"the body did not come within {BODY_SECONDS:.0f} s") from None
    return bytes(body)
