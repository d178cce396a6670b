"""Free ports of 127.0.0.1."""

import socket

HOST = "127.0.0.1"


def free_port(preferred: int = 0) -> int:
    """Given a port, return it when nobody listens on it, else one that is free now; 0 asks for any. Whoever starts a server on it must be ready to find it taken."""
    with socket.socket() as probe:
        # As servers do, so that a port whose connections are still fading out counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred))
        except OSError:
            probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
