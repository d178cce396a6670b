"""A container's log, line by line, each once, over streams that break."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind

# As the kubelet writes it with timestamps=true (RFC 3339 with nanoseconds), in UTC or another zone.
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (.*)", re.DOTALL)


@dataclass
class LogPosition:
    """How far a log was read: the last line's time, and the same in whole seconds, from which the API server can begin. `refused`: it was told that it cannot be read."""

    stamp: tuple[str, str] = ("", "")
    since: str = ""
    refused: bool = False


def log_lines(
    client: KubernetesClient,
    namespace: str,
    pod: str,
    container: str,
    position: LogPosition,
    *,
    follow: bool,
    seconds: float,
) -> Iterator[str]:
    """The lines of a container's log after a position, which moves along; with `follow` until the container ends.

    Raise TemporaryError when the stream breaks or says nothing for so many seconds: called again with the position, it goes on after the last line.
    """
    path = find_kind(client, "Pod").path(namespace, pod, "log")
    choice = {"container": container, "timestamps": "true", **({"follow": "true"} if follow else {})}
    if position.since:
        choice["sinceTime"] = position.since
    new = True
    for line in client.lines(path, seconds=seconds, **choice):
        match = _STAMPED.fullmatch(line)
        if match is None:
            # The rest of a line with a separator in it (httpx splits at all of Unicode's): it goes with what came before.
            if new:
                yield line
            continue
        whole, parts, zone, text = match.groups()
        stamp = (whole, (parts or "").ljust(9, "0"))
        new = stamp > position.stamp
        if new:
            position.stamp, position.since = stamp, whole + zone
            yield text
