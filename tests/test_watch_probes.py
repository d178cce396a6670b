"""Pages of the public address: what counts as well, that nothing leads elsewhere, and what is told of them over a day."""

import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.canonical import canonical_bytes
from core.environment_watch_probes import WatchProbes
from core.errors import ConfigurationError
from core.redaction import register_secret
from core.watch_probes import ProbeLook, ProbesLook, ProbesSeen, probes_after, probes_findings
from tasks.watch_probes import look_at_probes
from tests.fix_raw_server import RawServer, dripping, http

URL = "https://api.example.com"


def one_look(ok: bool, *, path: str = "/ready", ms: int | None = 20, why: str = "it answered 503") -> ProbesLook:
    return ProbesLook(url=URL, probes=(ProbeLook(path=path, ok=ok, ms=ms if ok else None, why="" if ok else why),))


def after(letters: str) -> ProbesSeen:
    seen = probes_after(None, ProbesLook(url=URL), bucket=0)
    for bucket, letter in enumerate(letters):
        if letter != " ":
            seen = probes_after(seen, one_look(letter == "."), bucket=bucket)
    return seen


def told(seen: ProbesSeen) -> list[str]:
    return [f"{one.severity}: {one.text}" for one in probes_findings(seen)]


def test_a_page_that_is_well_is_not_told_of() -> None:
    assert told(after("....")) == []


def test_one_look_that_fails_is_noted_and_two_in_a_row_are_a_warning() -> None:
    assert told(after("..x.x.")) == [
        "note: GET https://api.example.com/ready failed in 2 of 6 looks (33 %), last in bucket 4: it answered 503"
    ]
    (said,) = told(after(".xx.xxx.x."))
    assert said.startswith(
        "warning: GET https://api.example.com/ready failed in 6 of 10 looks (60 %), 3 in a row from bucket 4, 0:25 h"
    )
    assert said.endswith("last in bucket 8: it answered 503")


def test_what_nobody_looked_at_is_neither_well_nor_ill() -> None:
    seen = after(". x  x .")
    assert (seen.paths["/ready"].looks, seen.paths["/ready"].failed, seen.paths["/ready"].longest) == (4, 2, (2, 2))
    assert seen.paths["/ready"].ms == (20, None, None, None, None, None, None, 20)


def test_without_an_address_nothing_is_asked_and_it_is_said() -> None:
    look = look_at_probes(WatchProbes())
    assert look == ProbesLook()
    assert told(probes_after(None, look, bucket=0)) == [
        "note: nothing was asked from outside: watch.probes.url is empty"
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_looks_and_how_often_each_comes_do_not_matter(day: list[bool], order: random.Random) -> None:
    looks = [(bucket, one_look(ok, why=f"w{bucket}")) for bucket, ok in enumerate(day)]
    shuffled = [*looks, *looks[:5]]
    order.shuffle(shuffled)

    def folded(some: list[tuple[int, ProbesLook]]) -> ProbesSeen:
        seen = None
        for bucket, look in some:
            seen = probes_after(seen, look, bucket=bucket)
        assert seen is not None
        return seen

    assert folded(shuffled) == folded(looks)


def test_a_whole_day_of_many_pages_is_bounded() -> None:
    seen = None
    for bucket in range(300):
        probes = tuple(
            ProbeLook(path=f"/{'p' * 100}{n}", ok=bucket % 2 == 0, ms=10**9, why="é" * 999) for n in range(9)
        )
        seen = probes_after(seen, ProbesLook(url=URL, probes=probes), bucket=bucket)
    assert seen is not None
    assert 8_000 < len(canonical_bytes(seen.model_dump(mode="json"))) <= 20_000
    assert ProbesSeen.model_validate_json(seen.model_dump_json()) == seen
    assert {len(one.buckets) for one in seen.paths.values()} == {288}
    assert len(probes_findings(seen)) == 6
    assert max(len(one.text) for one in probes_findings(seen)) < 500


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "api.example.com"},
        {"url": "https://u:p@api.example.com"},
        {"url": "https://api.example.com?x=1"},
        {"url": "https://api.example.com:0"},
        {"paths": ()},
        {"paths": ("health",)},
        {"paths": ("/a", "/a")},
        {"paths": ("/a?b",)},
        {"paths": tuple(f"/{n}" for n in range(7))},
        {"timeout_seconds": 0},
        {"expected_status": 1000},
    ],
)
def test_settings_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WatchProbes.model_validate(wrong)


# Looks


def look(server: RawServer, *paths: str, **more: object) -> dict[str, ProbeLook]:
    given = {"url": server.address, "paths": paths or ("/health",), "timeout_seconds": 1, **more}
    return {one.path: one for one in look_at_probes(WatchProbes.model_validate(given)).probes}


def test_each_page_is_read_once_and_what_answers_as_expected_is_well(raw_server: RawServer) -> None:
    raw_server.answers = lambda asked: http("ok") if b"/health" in asked else http("no", status="503 Unavailable")
    found = look(raw_server, "/health", "/ready")
    assert (found["/health"].ok, found["/ready"].ok, found["/ready"].why) == (True, False, "it answered 503: no")
    assert found["/health"].ms is not None
    assert sorted(asked.split(b" HTTP")[0] for asked in raw_server.asked) == [b"GET /health", b"GET /ready"]


def test_another_status_may_be_expected(raw_server: RawServer) -> None:
    raw_server.answers = lambda _asked: http("", status="301 Moved", Location="https://elsewhere.example.com/")
    assert look(raw_server, expected_status=301)["/health"].ok
    assert len(raw_server.asked) == 1


def test_a_redirect_on_the_same_host_is_followed_and_not_without_end(raw_server: RawServer) -> None:
    raw_server.answers = lambda asked: (
        http("ok") if b"/health/ " in asked else http("", status="308 P", Location="/health/")
    )
    assert look(raw_server)["/health"].ok
    raw_server.answers = lambda _asked: http("", status="302 Found", Location="/health")
    raw_server.asked.clear()
    assert look(raw_server)["/health"].why == "it answered 302"
    assert len(raw_server.asked) == 4


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.2/",
        "//evil.example.com/x",
        "http://127.0.0.1:1/",
        "ftp://127.0.0.1/",
        "http://[::1",
        "http://127.0.0.1:99999/",
    ],
)
def test_a_redirect_elsewhere_is_not_followed(raw_server: RawServer, to: str) -> None:
    raw_server.answers = lambda _asked: http("", status="302 Found", Location=to)
    found = look(raw_server)["/health"]
    assert (found.ok, bool(found.why)) == (False, True)
    assert len(raw_server.asked) == 1


def test_a_secret_in_an_answer_is_not_told(raw_server: RawServer) -> None:
    register_secret("hunter2-of-the-page")
    raw_server.answers = lambda _asked: http("hunter2-of-the-page", status="500 E")
    assert "hunter2" not in look(raw_server)["/health"].why


RUBBISH: dict[str, Callable[[], Iterable[bytes | float]]] = {
    "nothing": lambda: (),
    "no http": lambda: (b"SSH-2.0-OpenSSH_9\r\n",),
    "silence": lambda: (30.0,),
    "drops": lambda: dripping(b"HTTP/1.1 200 OK\r\n\r\n"),
    "drops of a header": lambda: dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "no gzip": lambda: http("x" * 100, Content_Encoding="gzip"),
    "half": lambda: http("x", Content_Length="5000"),
    "no text": lambda: http(b"\xff\x00\xfe", status="500 E"),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_whatever_is_answered_it_is_found_not_well_in_time(raw_server: RawServer, kind: str) -> None:
    raw_server.answers = lambda _asked: RUBBISH[kind]()
    began = time.monotonic()
    found = look(raw_server)["/health"]
    assert time.monotonic() - began < 15
    assert (found.ok, bool(found.why), "\n" in found.why) == (False, True, False)


def test_a_server_that_is_away_is_found_so(raw_server: RawServer) -> None:
    raw_server.close()
    assert "no answer: ConnectError" in look(raw_server)["/health"].why


def test_of_a_large_page_the_beginning_is_enough(raw_server: RawServer) -> None:
    raw_server.answers = lambda _asked: http("x" * 10_000_000)
    assert look(raw_server)["/health"].ok


def test_a_ca_file_that_is_none_is_our_mistake(raw_server: RawServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ca_file"):
        look(raw_server, ca_file=str(tmp_path / "none.pem"))
