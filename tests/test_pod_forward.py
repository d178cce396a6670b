"""The local socket that leads to a Pod: whole data both ways, several sessions at once, no more in memory than a little, and an end that is an end for both sides."""

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.environment_database import Database
from core.errors import TemporaryError
from tasks.pod_forward import Dial, Forwarder, forwarded_socket, pod_dialer
from tasks.postgres import connect
from tests.fix_port_forward import PortForwardApi
from tests.fix_postgres import PostgresServer
from tests.waiting import wait_until

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose name is short enough for a socket."""
    short = Path("/tmp") / f"nf-{tmp_path.parent.name[-6:]}-{tmp_path.name[-12:]}"
    short.mkdir(mode=0o700)
    yield short
    for path in short.iterdir():
        path.unlink()
    short.rmdir()


@pytest.fixture
def dial() -> Dial:
    return pod_dialer(None, "drills", "x", 5432)


@contextmanager
def listening(api: PortForwardApi) -> Iterator[socket.socket]:
    """A server that plays the Pod's, on which a test accepts connections itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        api.target = listener.getsockname()[1]
        yield listener


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        yield client


def test_postgresql_sessions_pass_through_side_by_side(
    postgres_15: PostgresServer, forwarding: PortForwardApi, folder: Path, dial: Dial
) -> None:
    forwarding.target = postgres_15.port
    with forwarded_socket(folder / ".s.PGSQL.5432", dial):
        login = postgres_15.database("postgres", host=str(folder), port=5432, sslmode="disable")
        with connect(login, application_name="one") as one, connect(login, application_name="two") as two:
            text = "x" * 3_000_000
            assert one.execute("SELECT length(%s), %s", (text, text)).fetchone() == (len(text), text)
            assert two.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('one', 'two')"
            ).fetchone() == (2,)
    assert forwarding.paths == ["/api/v1/namespaces/drills/pods/x/portforward?ports=5432"] * 2
    assert forwarding.tokens == ["Bearer a-token"] * 2


def test_when_the_pod_closes_the_client_has_all_that_it_sent_and_sees_the_end(
    forwarding: PortForwardApi, folder: Path, dial: Dial
) -> None:
    data = os.urandom(5 * MIB)
    with listening(forwarding) as listener, forwarded_socket(folder / "s", dial), connected(folder / "s") as client:
        client.sendall(b"hello")
        pod, _ = listener.accept()
        with pod:
            assert pod.recv(10) == b"hello"
            pod.sendall(data)
        received = b"".join(iter(lambda: client.recv(MIB), b""))
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_when_the_client_closes_the_pod_has_all_that_it_sent_and_sees_the_end(
    forwarding: PortForwardApi, folder: Path, dial: Dial
) -> None:
    data = os.urandom(5 * MIB)
    with listening(forwarding) as listener, forwarded_socket(folder / "s", dial):
        with connected(folder / "s") as client:
            sending = threading.Thread(target=client.sendall, args=(data,))
            sending.start()
            pod, _ = listener.accept()
            pod.settimeout(20)
            received = pod.recv(MIB)
            while len(received) < len(data) - 100:
                received += pod.recv(MIB)
            sending.join()
        with pod:
            received += b"".join(iter(lambda: pod.recv(MIB), b""))
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_what_a_pod_does_not_take_is_not_read_into_memory_and_arrives_whole_later(
    forwarding: PortForwardApi, folder: Path, dial: Dial
) -> None:
    data = os.urandom(64 * MIB)
    received = hashlib.sha256()
    with listening(forwarding) as listener, forwarded_socket(folder / "s", dial), connected(folder / "s") as client:
        forwarding.reads.clear()
        client.settimeout(2)
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                sent += client.send(memoryview(data)[sent : sent + MIB])
        # Ours, the kernel's buffers and those of the server that plays the API.
        assert sent < 24 * MIB
        forwarding.reads.set()
        client.settimeout(20)
        sending = threading.Thread(target=client.sendall, args=(memoryview(data)[sent:],))
        sending.start()
        pod, _ = listener.accept()
        pod.settimeout(20)
        with pod:
            left = len(data)
            while left:
                block = pod.recv(MIB)
                received.update(block)
                left -= len(block)
        sending.join()
    assert received.digest() == hashlib.sha256(data).digest()


def test_a_refusal_closes_the_connection_and_the_api_servers_words_are_kept(
    forwarding: PortForwardApi, folder: Path, dial: Dial
) -> None:
    forwarding.refuses = 'pods "x" is forbidden: cannot create resource "pods/portforward"'
    with forwarded_socket(folder / ".s.PGSQL.5432", dial) as forwarder:
        login = Database(host=str(folder), port=5432, name="postgres", user="postgres", sslmode="disable")
        with pytest.raises(TemporaryError):
            connect(login, application_name="test")
        assert "(Pod drills/x): 403: pods" in forwarder.last_error
        assert "a-token" not in forwarder.last_error


def test_what_comes_on_the_error_channel_ends_the_connection_and_is_kept(
    forwarding: PortForwardApi, folder: Path, dial: Dial
) -> None:
    forwarding.breaks = "error forwarding port 5432 to pod x: connection refused"
    with forwarded_socket(folder / "s", dial) as forwarder, connected(folder / "s") as client:
        assert client.recv(10) == b""
        wait_until(lambda: "connection refused" in forwarder.last_error, "the error is kept")


def test_an_api_server_that_is_not_there_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dial: Dial
) -> None:
    kubeconfig = tmp_path / "config"
    cluster = "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: []\n"
    kubeconfig.write_text(f"{cluster}contexts: [{{name: a, context: {{cluster: a}}}}]\ncurrent-context: a\n")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with forwarded_socket(folder / "s", dial) as forwarder, connected(folder / "s") as client:
        assert client.recv(10) == b""
        wait_until(lambda: "forward a port" in forwarder.last_error, "the reason is kept")
        assert "127.0.0.1" in forwarder.last_error


def test_closing_ends_what_stands(forwarding: PortForwardApi, folder: Path, dial: Dial) -> None:
    with listening(forwarding) as listener:
        forwarder = Forwarder(folder / "s", dial)
        with connected(folder / "s") as client:
            client.sendall(b"hello")
            pod, _ = listener.accept()
            pod.settimeout(10)
            with pod:
                assert pod.recv(10) == b"hello"
                forwarder.close()
                assert client.recv(10) == b""
                assert pod.recv(10) == b""
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pod-forward")]
    forwarder.close()


def test_an_unknown_context_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\ncurrent-context: ''\n")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    elsewhere = pod_dialer("elsewhere", "drills", "x", 5432)
    with forwarded_socket(folder / "s", elsewhere) as forwarder, connected(folder / "s") as client:
        assert client.recv(10) == b""
        wait_until(lambda: "there is no context 'elsewhere'" in forwarder.last_error, "the reason is kept")
