"""The local socket that leads to a Pod: whole data both ways, several sessions at once, and an end that is an end for both sides."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.environment import Database
from core.errors import TemporaryError
from tasks.pod_forward import Forwarder, Line, forwarded_socket, pod_dialer
from tasks.postgres import connect
from tests.fix_postgres import PostgresServer


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose name is short enough for a socket."""
    short = Path("/tmp") / f"nf-{tmp_path.parent.name[-6:]}-{tmp_path.name[-12:]}"
    short.mkdir(mode=0o700)
    yield short
    for path in short.iterdir():
        path.unlink()
    short.rmdir()


def dial_to(port: int) -> Line:
    return Line(socket.create_connection(("127.0.0.1", port)))


def test_postgresql_sessions_pass_through_side_by_side(postgres_15: PostgresServer, folder: Path) -> None:
    with forwarded_socket(folder / ".s.PGSQL.5432", lambda: dial_to(postgres_15.port)):
        login = postgres_15.database("postgres", host=str(folder), port=5432, sslmode="disable")
        with connect(login, application_name="one") as one, connect(login, application_name="two") as two:
            text = "x" * 3_000_000
            assert one.execute("SELECT length(%s), %s", (text, text)).fetchone() == (len(text), text)
            assert two.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('one', 'two')"
            ).fetchone() == (2,)


def test_when_the_pod_closes_the_client_sees_it(folder: Path) -> None:
    ours, pods = socket.socketpair()
    with ours, forwarded_socket(folder / "s", lambda: Line(pods)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(folder / "s"))
        client.settimeout(10)
        client.sendall(b"hello")
        assert ours.recv(10) == b"hello"
        ours.shutdown(socket.SHUT_RDWR)
        assert client.recv(10) == b""


def test_a_pod_that_cannot_be_reached_closes_the_connection_and_the_reason_is_kept(folder: Path) -> None:
    def refuse() -> Line:
        raise TemporaryError("forward a port", "Pod drills/x", "Forbidden")

    with forwarded_socket(folder / ".s.PGSQL.5432", refuse) as forwarder:
        login = Database(host=str(folder), port=5432, name="postgres", user="postgres", sslmode="disable")
        with pytest.raises(TemporaryError):
            connect(login, application_name="test")
        assert "Forbidden" in forwarder.last_error


def test_closing_ends_what_stands(folder: Path) -> None:
    ours, pods = socket.socketpair()
    forwarder = Forwarder(folder / "s", lambda: Line(pods))
    with ours, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(folder / "s"))
        client.settimeout(10)
        client.sendall(b"hello")
        assert ours.recv(10) == b"hello"
        forwarder.close()
        assert client.recv(10) == b""
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pod-forward")]
    forwarder.close()


def test_an_unknown_context_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\ncurrent-context: ''\n")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(Exception, match="no context elsewhere"):
        pod_dialer("elsewhere", "drills", "x", 5432)()
