"""Ports of 127.0.0.1 for servers of tests, which take them some seconds later."""

import itertools
import os
import random
import socket

# Below those that the kernel gives by itself (32768 on) to whoever asks for any, or connects: one of these would be somebody's before the server starts.
FIRST, EACH = 20_000, 1_500
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
# Not the same ones at once as another run of the tests on this machine.
_numbers = itertools.count(random.randrange(EACH))  # noqa: S311 - no secret


def free_port() -> int:
    """One that nobody has, and that no other worker of this run is given."""
    for number in itertools.islice(_numbers, EACH):
        port = FIRST + WORKER * EACH + number % EACH
        with socket.socket() as probe:
            # As servers do: one whose connections are still fading out is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
