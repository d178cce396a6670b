"""Which lines tell an error, and what is kept of them: no values, no secrets, no rubbish, and never more than so many bytes."""

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.log_lines import DEFAULT_PATTERN, SHOWN_BYTES, SIGNATURE_BYTES, WORD_LETTERS, error_line, told, value_at
from core.redaction import register_secret

PATTERN = re.compile(DEFAULT_PATTERN)


def signature(raw: str) -> str | None:
    line = error_line(raw, PATTERN)
    return None if line is None else line.signature


@pytest.mark.parametrize(
    "raw",
    [
        '{"level":"error","msg":"x"}',
        '{"severity":"CRITICAL","message":"x"}',
        '{"level":50,"msg":"x"}',
        '{"level":60,"msg":"x"}',
        '{"log.level":"fatal","message":"x"}',
        '{"log":{"level":"Error"},"message":"x"}',
        "2026-11-26 10:00:00 ERROR x",
        "FATAL: x",
        "java.lang.NullPointerException: x",
        "TypeError: x",
        "Traceback (most recent call last):",
        '{"msg":"CRITICAL x"}',
    ],
)
def test_an_error_is_told_by_its_level_else_by_a_pattern(raw: str) -> None:
    assert signature(raw) is not None


@pytest.mark.parametrize(
    "raw",
    [
        '{"level":"info","msg":"ERROR in the text alone"}',
        '{"level":30,"msg":"x"}',
        '{"level":true,"msg":"ok"}',
        "all went well, no terrors",
        "errors=0",
        "",
        "\x00\x00",
        "[]",
        "{}",
    ],
)
def test_a_line_of_another_level_or_without_the_words_is_none(raw: str) -> None:
    assert signature(raw) is None


def test_values_are_left_open_and_what_stands_before_the_message_is_left_out() -> None:
    told_by = {
        signature(raw)
        for raw in (
            "2026-11-26T10:00:00.123Z ERROR [worker-3] order 17 of 550e8400-e29b-41d4-a716-446655440000 from 10.0.0.7:5432 at 0xdeadbeef",
            "2026-11-27 11:07:09,5 ERROR [worker-12] order 99 of 650e8400-e29b-41d4-a716-446655440001 from 10.0.3.9:5433 at 0xfeedface",
            "\x1b[31mERROR\x1b[0m [worker-1] order 1 of 750e8400-e29b-41d4-a716-446655440001 from 10.0.3.9:5433 at 0xfeedface\n  at x.js:1",
        )
    }
    assert told_by == {"[worker-<NUM>] order <NUM> of <UUID> from <IP> at <HEX>"}
    assert signature('{"level":"error","msg":"order 17 failed"}') == signature('{"level":50,"msg":"order 4 failed"}')


def test_what_looks_like_an_open_place_is_none() -> None:
    assert signature("TypeError: <*> is undefined") == "TypeError: <any> is undefined"


def test_of_a_stack_trace_the_first_line_counts() -> None:
    assert signature("TypeError: x is undefined\n    at handler (/app/x.js:10:3)") == "TypeError: x is undefined"
    by_pino = {"level": 50, "err": {"type": "TypeError", "message": "x is undefined\n  at y", "stack": "…"}}
    assert signature(json.dumps(by_pino)) == "TypeError: x is undefined"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"msg": "request errored", "err": {"type": "TypeError", "message": "x"}}, "request errored: TypeError: x"),
        (
            {"message": "request errored", "error.type": "TypeError", "error.message": "x"},
            "request errored: TypeError: x",
        ),
        ({"message": "it failed: x", "error": "x"}, "it failed: x"),
        ({"message": "it failed\n at y", "error": {"message": "z"}}, "it failed: z"),
        ({"error": {"stack": "z"}, "msg": "it failed"}, "it failed"),
        ({"exception": ["z"], "err": None, "msg": 7}, None),
    ],
)
def test_the_cause_beside_a_message_is_a_part_of_it(document: dict[str, object], words: str | None) -> None:
    found = signature(json.dumps({"level": "error", **document}))
    assert found == words or (words is None and found is not None)


@pytest.mark.parametrize(
    "secret",
    [
        "password=hunter2x9",
        "password: 'hunter2x9 and more'",
        "token=hunter2x9",
        '"apiKey": "hunter2x9"',
        "access_key_id=hunter2x9",
        "Authorization: Bearer hunter2x9",
        "sent Bearer hunter2x9",
        "postgres://app:hunter2x9@db/app",
        "eyJhbGciOiJIUzI1NiJ9.hunter2x9.abc",
        "client_secret=hunter2x9",
        "mail to hunter2x9@example.com",
        "id hunter2x9aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "Set-Cookie: hunter2x9",
        "registered-hunter2x9-value",
    ],
)
def test_secrets_are_in_neither_the_signature_nor_the_example(secret: str) -> None:
    register_secret("registered-hunter2x9-value")
    for raw in (f"ERROR it said {secret}", json.dumps({"level": "error", "msg": f"it said {secret}"})):
        line = error_line(raw, PATTERN)
        assert line is not None
        assert "hunter2x9" not in line.signature + line.shown, line


@given(st.text(max_size=300), st.booleans())
@settings(max_examples=60)
def test_what_is_kept_is_short_printable_and_without_digits(text: str, as_json: bool) -> None:
    line = error_line(json.dumps({"level": "error", "msg": text}) if as_json else f"ERROR {text}", PATTERN)
    assert line is not None
    assert len(line.signature.encode()) <= max(SIGNATURE_BYTES, 4 * WORD_LETTERS)
    assert len(line.shown.encode()) <= SHOWN_BYTES
    assert line.signature.isprintable() and line.shown.isprintable()
    assert not re.search(r"\d", line.signature)
    assert "<*>" not in line.signature
    # What is known already is as it was.
    assert line.signature.split()


@given(st.text(max_size=200))
@settings(max_examples=60)
def test_any_text_is_a_line(text: str) -> None:
    found = error_line(text, PATTERN)
    assert found is None or found.signature is not None


@pytest.mark.parametrize(
    "piece",
    [
        "a-",
        "token",
        "1:",
        '{"a":',
        "x",
        "Aa1_",
        '"',
        "eyJ",
        "0x",
        "a@",
        "a.",
        "\x1b[",
        "password=",
        "1.",
        "-",
        "::1",
        "\x00",
        "[" * 9,
    ],
)
def test_a_line_of_a_mib_of_anything_takes_no_time(piece: str) -> None:
    text = piece * (1024 * 1024 // len(piece))
    began = time.process_time()
    for raw in (f"ERROR {text}", text, json.dumps({"level": "error", "msg": text})):
        error_line(raw, PATTERN)
    assert time.process_time() - began < 3


def test_a_value_is_found_whether_the_dots_are_in_keys_or_between_documents() -> None:
    for document in ({"a.b.c": 1}, {"a": {"b.c": 1}}, {"a.b": {"c": 1}}, {"a": {"b": {"c": 1}}}):
        assert value_at(document, "a.b.c") == 1
    assert value_at({"a": 3}, "a.b") is None
    assert value_at([], "a") is None


def test_a_json_line_that_was_shipped_as_text_is_told_by_its_message() -> None:
    assert told('{"level":"error","msg":"order 7 failed"}').signature == "order <NUM> failed"
