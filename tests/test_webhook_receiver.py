"""The receiver as a process: what it answers, what it starts, and what is left of it after kill -9."""

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from core.environment_webhook import ACTIONS_ISSUER
from tests.fix_web_script import WebScript
from tests.fix_webhook import (
    OLD_SECRET,
    SECRET,
    Hook,
    at,
    body_of,
    claims,
    deployment,
    github_headers,
    key_set,
    release,
    token,
    workflow_run,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.services


def made_soon(hook: Hook, count: int) -> list[str]:
    """The runs that were made, once there are so many."""
    wait_until(lambda: len(hook.made) >= count, f"{count} runs")
    return hook.made


def test_what_is_accepted_starts_a_run_and_stands_in_the_audit_log(hook: Hook) -> None:
    hook.start()
    assert [hook.github(deployment(1)).status_code, hook.github(workflow_run(2), "workflow_run").status_code] == [
        202,
        202,
    ]
    assert hook.github(release(3), "release", secret=OLD_SECRET).status_code == 202
    assert hook.github({"zen": "…"}, "ping").status_code == 200
    assert len(made_soon(hook, 3)) == 3
    lines = [one for one in hook.audit if one["what"] == "accepted"]
    assert [one.get("secret") for one in lines] == [0, 0, 1, 0]
    assert all("delivery" in one and "source" in one for one in lines)
    assert SECRET not in json.dumps(hook.audit)


def test_what_is_refused_says_why_and_starts_nothing(hook: Hook) -> None:
    hook.start()
    body = body_of(deployment())
    unsigned = httpx.post(
        f"{hook.address}/github/staging",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=30,
        trust_env=False,
    )
    answers = {
        "unsigned": unsigned,
        "by another secret": hook.github(deployment(), secret="not-the-webhook-secret"),
        "old": hook.github(deployment(created=at().replace("20", "19", 1))),
        "of another ref": hook.github(deployment(ref="evil")),
        "with parameters that the flow does not take": hook.github(deployment(sha="main")),
        "rubbish": hook.github(b"\x00" * 100),
        "too large": hook.github(b" " * (1024 * 1024 + 1)),
        "a form": hook.github(body, **{"Content-Type": "application/x-www-form-urlencoded"}),
    }
    assert [one.status_code for one in answers.values()] == [401, 401, 409, 403, 422, 400, 413, 415]
    elsewhere = httpx.post(
        f"{hook.address}/github/production",
        content=body,
        headers=github_headers(body, "deployment"),
        timeout=30,
        trust_env=False,
    )
    assert elsewhere.status_code == 404
    assert [hook.github(deployment(), "star").status_code, hook.github(deployment(), "issues").status_code] == [
        200,
        200,
    ]
    assert [one["status"] for one in hook.audit if one["what"] == "refused"] == [
        401,
        401,
        409,
        403,
        422,
        400,
        413,
        415,
        404,
    ]
    time.sleep(0.5)
    assert hook.made == []


def test_fifty_equal_deliveries_at_once_are_one_run_also_after_a_restart_and_under_another_delivery_id(
    hook: Hook,
) -> None:
    hook.start()
    payload = deployment(7)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: hook.github(payload).status_code, range(50)))
    assert sorted(answers) == [200] * 49 + [202]
    made_soon(hook, 1)
    hook.end(signal.SIGKILL)
    hook.start()
    assert hook.github(payload).status_code == 200
    assert hook.github(deployment(8)).status_code == 202
    assert len(made_soon(hook, 2)) == 2


def test_while_the_prefect_server_is_away_deliveries_are_accepted_and_started_when_it_is_back(hook: Hook) -> None:
    (hook.folder / "away").touch()
    hook.start()
    assert [hook.github(deployment(number)).status_code for number in range(1, 6)] == [202] * 5
    wait_until(lambda: "nightshift_webhook_prefect_up 0.0" in metrics(hook), "it is told")
    wait_until(lambda: 'nightshift_webhook_open{state="waiting"} 5.0' in metrics(hook), "all five wait")
    hook.end(signal.SIGKILL)
    hook.start()
    (hook.folder / "away").unlink()
    assert [one.rpartition("-")[2] for one in made_soon(hook, 5)] == ["1", "2", "3", "4", "5"]


def test_that_the_prefect_server_is_away_is_told_before_anything_is_delivered(hook: Hook) -> None:
    (hook.folder / "away").touch()
    hook.start()
    wait_until(lambda: "prefect away" in str(hook.audit), "it is told in the audit log")
    wait_until(lambda: "nightshift_webhook_prefect_up 0.0" in metrics(hook), "it is told to who looks")


def metrics(hook: Hook) -> str:
    """What /metrics shows."""
    return httpx.get(f"{hook.address}/metrics", timeout=30, trust_env=False).text


def test_sigterm_lets_what_is_being_sent_come_to_its_end(hook: Hook) -> None:
    hook.start()
    body = body_of(deployment(9))
    head = "".join(f"{name}: {value}\r\n" for name, value in github_headers(body, "deployment").items())
    with socket.create_connection(("127.0.0.1", hook.port)) as connection:
        length = f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n"
        connection.sendall(f"POST /github/staging HTTP/1.1\r\nHost: x\r\n{head}{length}\r\n".encode())
        # It is at it: before that, SIGTERM would close the door to it.
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(body[:-10])
        assert hook.child is not None
        os.kill(hook.child.pid, signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(body[-10:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 202")
    assert hook.child.wait(60) == 128 + signal.SIGTERM
    assert hook.audit[-1]["what"] == "ended"


def test_a_source_that_asks_too_often_is_turned_away_and_told_when_to_come_back(hook: Hook) -> None:
    hook.start("5")
    answers = [hook.github(deployment(number)) for number in range(1, 9)]
    told = [one.status_code for one in answers]
    # What came right before a minute of the clock began counts a little less in it: one more may pass.
    assert told in ([202] * 5 + [429] * 3, [202] * 6 + [429] * 2)
    assert answers[-1].headers["Retry-After"] == "60"


def test_a_job_with_its_token_starts_a_run_and_the_token_does_so_once(hook: Hook, web_script: WebScript) -> None:
    web_script.always(key_set("first"))
    hook.write(issuer=web_script.address)
    hook.start()
    good = token(claims(1, iss=web_script.address))
    body = {"parameters": {"image": "1.8.0"}}
    first, again = hook.actions(body, good), hook.actions(body, good)
    assert (first.status_code, again.status_code) == (202, 401)
    hook.end(signal.SIGKILL)
    hook.start()
    assert hook.actions(body, good).status_code == 401
    # Another token of the same attempt: the same run, or a refusal when it asks for something else.
    other = [token(claims(1, iss=web_script.address, jti=jti)) for jti in ("a", "b")]
    assert hook.actions(body, other[0]).status_code == 200
    assert hook.actions({"parameters": {"image": "1.9.0"}}, other[1]).status_code == 409
    assert len(made_soon(hook, 1)) == 1
    wrong = [
        claims(3, iss=web_script.address, aud="nightshift-production"),
        claims(4, iss=ACTIONS_ISSUER),
        claims(5, iss=web_script.address, ref="refs/heads/evil"),
    ]
    assert [hook.actions(body, token(one)).status_code for one in wrong] == [401, 401, 403]
    assert good not in json.dumps(hook.audit)


def test_a_job_hears_how_what_it_started_goes_and_no_other_repository_does(hook: Hook, web_script: WebScript) -> None:
    web_script.always(key_set("first"))
    hook.write(issuer=web_script.address)
    hook.start()
    key = hook.actions({"parameters": {"image": "1.8.0"}}, token(claims(1, iss=web_script.address))).json()["key"]
    fresh = token(claims(1, iss=web_script.address, jti="again"))
    answer = hook.how_it_goes(key, fresh)
    assert answer.status_code == 200
    assert answer.json()["state"] in {"queued", "in_progress", "success"}
    stranger = token(claims(1, iss=web_script.address, jti="x", repository_id="99"))
    assert [
        hook.how_it_goes(key).status_code,
        hook.how_it_goes(key, stranger).status_code,
        hook.how_it_goes(f"{key}0", fresh).status_code,
        hook.how_it_goes("nowhere/release/x", fresh).status_code,
        hook.how_it_goes(key, f"{fresh}x").status_code,
    ] == [401, 404, 404, 404, 401]


def test_a_head_that_does_not_come_to_its_end_does_not_hold_a_connection(hook: Hook) -> None:
    hook.start()
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", hook.port), timeout=60) as connection:
        connection.sendall(b"POST /github/staging HTTP/1.1\r\nHost: x\r\n")
        assert connection.recv(100) == b""
    assert 8 < time.monotonic() - begun < 40


def test_a_body_of_two_lengths_ends_the_connection_and_a_slash_redirects_nowhere(hook: Hook) -> None:
    hook.start()
    head = b"POST /github/staging HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hook.port), timeout=30) as connection:
        connection.sendall(head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"nightshift_webhook" not in answer
    address = f"{hook.address}/github/staging/"
    assert httpx.post(address, headers={"Host": "evil.example"}, timeout=30, trust_env=False).status_code == 404
