"""One look at the pages of the public address, all at once: GET, without the session of anybody, and no further than the same host."""

import ssl
import time
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from core.environment_watch_probes import WatchProbes
from core.errors import ConfigurationError
from core.pod_health import first_line
from core.watch_probes import ProbeLook, ProbesLook
from tasks.side_by_side import ask_all

# /health that leads to /health/, or http to https.
_REDIRECTS = 3
# What says that it is well does so in a few words.
_LARGEST_BYTES = 65536
_DEFAULT_PORTS = {"http": 80, "https": 443}


def look_at_probes(settings: WatchProbes) -> ProbesLook:
    """Given the table [watch.probes], read each page once. What does not answer, or otherwise, is found so. Raise ConfigurationError for a CA file that is none."""
    if settings.url is None:
        return ProbesLook()
    trusted, seconds = _trust(settings), float(settings.timeout_seconds)
    asks = {
        path: partial(_probe, settings.url, path, settings.expected_status, seconds, trusted) for path in settings.paths
    }
    # A name that cannot be looked up takes as long as the system likes.
    found = ask_all(asks, seconds=seconds + 0.2)
    late = f"no answer within {seconds:g} s"
    return ProbesLook(
        url=settings.url,
        probes=tuple(found.get(path) or ProbeLook(path=path, ok=False, why=late) for path in settings.paths),
    )


def _probe(base: str, path: str, expected: int, seconds: float, trusted: ssl.SSLContext | bool) -> ProbeLook:
    began = time.monotonic()
    address, why = f"{base}{path}", ""
    try:
        with httpx.Client(verify=trusted, headers={"User-Agent": "nightshift"}, follow_redirects=False) as client:
            for _ in range(_REDIRECTS + 1):
                status, location, said = _read(client, address, began + seconds)
                if status == expected:
                    return ProbeLook(path=path, ok=True, ms=round((time.monotonic() - began) * 1000))
                following = urljoin(address, location) if location and 300 <= status < 400 else ""
                why = f"it answered {status}" + (f": {said}" if said else "")
                if not following:
                    break
                if not _same_host(address, following):
                    why = f"it answered {status} and leads to another host, {first_line(urlsplit(following).netloc)}"
                    break
                address = following
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ValueError) as error:
        why = f"no answer: {type(error).__name__} {first_line(str(error))}".rstrip()
    return ProbeLook(path=path, ok=False, why=why)


def _read(client: httpx.Client, address: str, ends: float) -> tuple[int, str, str]:
    """Status, where it leads to, and the first words."""
    left = max(0.001, ends - time.monotonic())
    with client.stream("GET", address, timeout=left) as response:
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if time.monotonic() > ends:
                raise httpx.ReadTimeout("the answer did not end in time")
            if len(body) > _LARGEST_BYTES:
                break
        said = first_line(bytes(body[:2000]).decode(errors="replace"))
        return response.status_code, response.headers.get("Location", ""), said


def _same_host(one: str, other: str) -> bool:
    """Whether an address leads to the same host and port, or from http to the https of the same host."""
    here, there = urlsplit(one), urlsplit(other)
    if here.hostname != there.hostname or there.scheme not in _DEFAULT_PORTS:
        return False
    upgraded = (here.scheme, there.scheme) == ("http", "https") and there.port in {None, 443}
    return upgraded or (here.scheme == there.scheme and _port(one) == _port(other))


def _port(address: str) -> int:
    parts = urlsplit(address)
    return parts.port or _DEFAULT_PORTS[parts.scheme]


def _trust(settings: WatchProbes) -> ssl.SSLContext | bool:
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=Path(settings.ca_file).expanduser())
    except (OSError, ssl.SSLError) as error:
        on, found = f"watch.probes.ca_file = {settings.ca_file}", f"{type(error).__name__}: {error}"
        raise ConfigurationError("load a CA file", on, found, "Give the path of a PEM file on the worker") from error
