"""The receiver as it runs for months: behind a proxy, through changes of its secrets and files, and on a disk that is full; and its connections."""

import asyncio
import resource
import socket
import threading

import httpx
import pytest
import uvicorn

from deployments.webhook.patient_protocol import PatientProtocol
from tests.fix_webhook import OLD_SECRET, SECRET, Hook, deployment
from tests.waiting import wait_until

THIRD = "the-third-webhook-secret"


def deliver(hook: Hook, number: int, *, secret: str = SECRET, forwarded: str = "203.0.113.1") -> int:
    """The status of a delivery that a proxy passes on."""
    return hook.github(deployment(number), secret=secret, **{"X-Forwarded-For": forwarded}).status_code


def healthy(hook: Hook) -> bool:
    return httpx.get(f"{hook.address}/healthz", timeout=10, trust_env=False).status_code == 200


def metrics(hook: Hook) -> str:
    return httpx.get(f"{hook.address}/metrics", timeout=10, trust_env=False).text


def made(hook: Hook) -> set[str]:
    """The numbers of the deployments that a run was made for, each once."""
    numbers = [one.rpartition("-")[2] for one in hook.made]
    assert len(numbers) == len(set(numbers))
    return set(numbers)


@pytest.mark.services
def test_behind_a_proxy_through_changed_secrets_and_a_full_disk(hook: Hook) -> None:
    files = {name: hook.folder / name for name in ("first", "second")}
    for name, secret in (("first", OLD_SECRET), ("second", SECRET)):
        files[name].write_text(secret)
        files[name].chmod(0o600)
    hook.write(secrets=[f"file:{files['first']}"])
    hook.start("100", "127.0.0.1")

    # The proxy's word counts for who asks: the last one before it, which it has seen itself.
    assert deliver(hook, 1, secret=OLD_SECRET, forwarded="192.0.2.66, 203.0.113.9") == 202
    assert "203.0.113.9" in {one.get("source") for one in hook.audit}
    assert "192.0.2.66" not in {one.get("source") for one in hook.audit}
    # More than a hundred in a minute, whenever the minute begins.
    stranger = (deliver(hook, 2, secret="of-nobody-at-all-000", forwarded="198.51.100.7") for _ in range(250))
    assert 429 in stranger
    assert deliver(hook, 3, secret=OLD_SECRET) == 202

    # A secret is changed without a restart: both are valid, then the new one alone.
    assert deliver(hook, 4) == 401
    hook.write(secrets=[f"file:{files['second']}", f"file:{files['first']}"])
    wait_until(lambda: deliver(hook, 5, forwarded="203.0.113.2") in {200, 202}, "the new secret is known")
    assert deliver(hook, 6, secret=OLD_SECRET) == 202
    hook.write(secrets=[f"file:{files['second']}"])
    wait_until(lambda: deliver(hook, 7, secret=OLD_SECRET, forwarded="203.0.113.3") == 401, "the old one is none")
    assert deliver(hook, 8) == 202
    # What stands there is wrong: the earlier settings count, and that is told.
    files["second"].unlink()
    wait_until(lambda: "nightshift_webhook_settings_current 0.0" in metrics(hook), "it is told")
    assert deliver(hook, 9) == 202
    files["second"].write_text(THIRD)
    files["second"].chmod(0o600)
    wait_until(lambda: deliver(hook, 10, secret=THIRD, forwarded="203.0.113.4") in {200, 202}, "the third is known")
    assert "nightshift_webhook_settings_current 1.0" in metrics(hook)

    # No room: nothing is accepted that is not on disk, and whoever looks is told.
    # The seventh is one where it came before the file was read again.
    accepted = {"1", "3", "5", "6", "8", "9", "10"}
    wait_until(lambda: made(hook) - {"7"} == accepted, "its runs")
    assert hook.child is not None
    unlimited = resource.prlimit(hook.child.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    answers = [hook.github(deployment(number), secret=THIRD) for number in (11, 12)]
    assert [one.status_code for one in answers] == [503, 503]
    assert answers[0].headers["Retry-After"] == "30" and "could not be put on disk" in answers[0].text
    assert not healthy(hook)
    resource.prlimit(hook.child.pid, resource.RLIMIT_FSIZE, unlimited)
    wait_until(lambda: healthy(hook), "there is room again")
    assert deliver(hook, 13, secret=THIRD) == 202
    wait_until(lambda: made(hook) - {"7"} == {*accepted, "13"}, "what was refused made no run")
    hook.end()
    hook.start()
    # Nobody named a proxy: a header of the request's own counts for nothing.
    assert deliver(hook, 14, secret=THIRD) == 202
    assert [one["source"] for one in hook.audit if str(one.get("key", "")).endswith("-14") and "source" in one] == [
        "127.0.0.1"
    ]


def test_an_answer_is_not_held_back_for_the_other_sides_acknowledgement() -> None:
    seen = threading.Event()
    options: list[int] = []

    class Seen(PatientProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            seen.set()

    async def nothing(_scope: object, _receive: object, _send: object) -> None:
        raise AssertionError("nobody asks")

    config = uvicorn.Config(nothing, port=0, http=Seen, ws="none", lifespan="off", log_level="critical")
    listener = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "it listens")
        with socket.create_connection(listener.getsockname()[:2], timeout=30):
            assert seen.wait(30)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert options[0] != 0


def test_a_file_that_nobody_foresaw_leaves_the_earlier_settings_and_a_receiver_that_goes_on(hook: Hook) -> None:
    hook.start()
    assert deliver(hook, 1) == 202
    # Python's own limit of nesting, which is no mistake of TOML's.
    (hook.folder / "staging.toml").write_text("x = " + "[" * 5000)
    wait_until(lambda: "nightshift_webhook_settings_current 0.0" in metrics(hook) or not healthy(hook), "it is seen")
    assert healthy(hook)
    assert deliver(hook, 2) == 202
    hook.write()
    wait_until(lambda: "nightshift_webhook_settings_current 1.0" in metrics(hook), "the file is read again")
    assert any(one["what"] == "settings are wrong, the earlier ones count" for one in hook.audit)
