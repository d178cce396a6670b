"""What a request may start: signature, form, rules, age. All of it pure; whatever arrives, it is a start, nothing, or a refusal in one sentence."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.environment_webhook import Webhook
from core.webhook_event import RefusedError, actions_event, github_event, parsed_object
from core.webhook_mapping import Start, actions_request, chosen_start, fits
from core.webhook_signature import signature_of, signed_by
from tests.fix_webhook import (
    OLD_SECRET,
    PAYLOADS,
    REPOSITORY_ID,
    SECRET,
    SHA,
    at,
    claims,
    deployment,
    release,
    webhook,
    webhook_table,
    workflow_run,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def start_of(name: str, payload: dict[str, Any], now: datetime | None = None) -> Start | None:
    """What an event starts in staging, at the moment that it happens: payloads that tests are made of are made long before they run."""
    event = github_event(name, payload)
    return event and chosen_start("staging", webhook(), event, now or event.happened or datetime.now(UTC))


def job_start(body: dict[str, Any], **more: Any) -> Start:
    """What a job starts that sends this body."""
    request = actions_request(body)
    event = actions_event(claims(**more), request.deployment_id)
    return chosen_start("staging", webhook(), event, datetime.now(UTC), request)


def paths(document: Any, *before: Any) -> list[tuple[Any, ...]]:
    """The path of each value in a document."""
    found = [before] if before else []
    for key, value in document.items() if isinstance(document, dict) else ():
        found += paths(value, *before, key)
    return found


# --- the signature


@given(st.binary(max_size=300), st.text(min_size=1))
def test_what_was_signed_is_known_by_its_signature_alone(body: bytes, secret: str) -> None:
    secret = secret.encode("utf-8", "replace").decode()
    header = signature_of(body, secret)
    assert signed_by(header, body, (secret,)) == 0
    assert signed_by(header, body + b" ", (secret,)) is None
    assert signed_by(header, body, (secret + "x",)) is None


def test_while_secrets_are_changed_both_count() -> None:
    secrets = (SECRET, OLD_SECRET)
    assert [signed_by(signature_of(b"{}", one), b"{}", secrets) for one in (*secrets, "third")] == [0, 1, None]


@given(st.none() | st.text() | st.just("sha256=") | st.just("sha1=" + "0" * 40) | st.just("sha256=" + "0" * 64))
def test_no_other_header_is_a_signature(header: str | None) -> None:
    assert signed_by(header, b"{}", (SECRET,)) is None


def test_without_a_secret_nothing_is_signed() -> None:
    assert signed_by(signature_of(b"{}", ""), b"{}", ()) is None


# --- bodies


@given(st.binary(max_size=200) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_an_object_or_refused(body: bytes) -> None:
    try:
        assert isinstance(parsed_object(body), dict)
    except RefusedError as refused:
        assert refused.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 200_000,
        b"[" * 1_000_000,
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'"' + b'\\"' * 500_000,
        b"\xff",
    ],
    ids=["deep tables", "deep lists", "NaN", "a number of 5,000 digits", "a text without end", "no UTF-8"],
)
def test_bodies_made_to_do_harm_are_refused(body: bytes) -> None:
    with pytest.raises(RefusedError, match="400"):
        parsed_object(body)


@pytest.mark.parametrize("name", PAYLOADS)
@given(data=st.data())
def test_whatever_stands_in_a_payload_it_is_a_start_nothing_or_a_refusal(name: str, data: st.DataObject) -> None:
    payload = PAYLOADS[name]()
    *before, last = data.draw(st.sampled_from(paths(payload)))
    place = payload
    for key in before:
        place = place[key]
    place[last] = data.draw(ANYTHING)
    try:
        start = start_of(name, payload)
    except RefusedError as refused:
        assert refused.status in {403, 409, 422}
        assert refused.reason.isprintable()
        return
    assert start is None or start.environment == "staging"
    assert start is None or json.dumps(dict(start.parameters)).encode()


# --- what each event starts


def test_a_deployment_starts_the_release_of_its_commit() -> None:
    start = start_of("deployment", deployment(12))
    assert start == Start(
        f"staging/release/deployment-{REPOSITORY_ID}-deployment-12",
        "staging",
        "release",
        {"environment": "staging", "image": SHA[:7], "commit": SHA, "requested_by": "octocat"},
        "acme/api",
        12,
    )


def test_a_release_starts_the_version_of_its_tag() -> None:
    start = start_of("release", release())
    assert start is not None
    assert start.parameters == {"environment": "staging", "image": "1.8.0", "commit": SHA}


def test_a_second_attempt_of_a_workflow_is_another_run_and_a_repetition_is_the_same() -> None:
    keys = [start.key for one in (1, 1, 2) if (start := start_of("workflow_run", workflow_run(run_attempt=one)))]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    "payload",
    [
        workflow_run(conclusion="failure"),
        workflow_run(event="pull_request"),
        workflow_run(head_repository={"id": 666}),
        {**workflow_run(), "action": "requested"},
    ],
    ids=["failed", "of a pull request", "of a fork", "not at its end"],
)
def test_a_workflow_that_failed_or_is_not_the_repositorys_own_starts_nothing(payload: dict[str, Any]) -> None:
    assert start_of("workflow_run", payload) is None


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("other", PAYLOADS)
def test_a_body_counts_only_as_the_event_that_it_is_since_the_header_is_not_signed(name: str, other: str) -> None:
    if name == other:
        return
    try:
        assert start_of(name, {**PAYLOADS[other](), "workflow_run": None}) is None
    except RefusedError as refused:
        assert refused.status == 422


def test_a_status_of_a_deployment_is_no_deployment_whatever_the_header_says() -> None:
    status = {**deployment(), "deployment_status": {"id": 3, "state": "success"}}
    assert start_of("deployment", status) is None
    assert start_of("deployment_status", status) is None


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("deployment", deployment(ref="feature"), "ref 'feature'"),
        ("deployment", deployment(ref="main/../x"), "ref"),
        ("deployment", deployment(environment="production"), "environment 'production'"),
        ("deployment", {**deployment(), "repository": {"id": 1}}, "repository 1 is not"),
        ("workflow_run", workflow_run(path=".github/workflows/evil.yml"), "workflow"),
        ("release", release(tag_name="nightly"), "ref 'nightly'"),
        ("release", release(target_commitish="main"), "the event has no commit"),
    ],
)
def test_what_no_rule_allows_is_refused_with_the_reason(name: str, payload: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        start_of(name, payload)
    assert reason in caught.value.reason


@given(st.integers(-100, 100))
def test_an_event_counts_from_two_minutes_ahead_to_its_longest_age(minutes: int) -> None:
    now = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    payload = deployment(created=at(now - timedelta(minutes=minutes)))
    if -2 <= minutes <= webhook().max_age_minutes:
        assert start_of("deployment", payload, now)
    else:
        with pytest.raises(RefusedError, match="409"):
            start_of("deployment", payload, now)


# --- an Actions job


def test_a_job_starts_the_release_that_its_rule_allows() -> None:
    start = job_start({"parameters": {"image": "1.8.0", "dry_run": True}, "deployment_id": 5}, run=99)
    assert start.key == f"staging/release/actions-{REPOSITORY_ID}-run-99-1"
    assert start.deployment_id == 5
    assert start.parameters == {
        "environment": "staging", "image": "1.8.0", "dry_run": True, "commit": SHA, "requested_by": "octocat"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"repository_id": "1"}, "repository 1"),
        ({"repository_id": "4711x"}, "no number"),
        ({"repository_id": "٤٧١١"}, "no number"),
        ({"ref": "refs/pull/1/merge"}, "ref"),
        ({"environment": "production"}, "environment"),
        ({"environment": None}, "no claim environment"),
        ({"job_workflow_ref": "acme/api/.github/workflows/release.yml@refs/heads/evil"}, "workflow"),
        ({"job_workflow_ref": 7}, "no claim job_workflow_ref"),
        ({"event_name": "pull_request_target"}, "pull request"),
    ],
)
def test_a_job_elsewhere_starts_nothing(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        job_start({"parameters": {"image": "1.8.0"}}, **more)
    assert (caught.value.status, reason in caught.value.reason) == (403, True), caught.value.reason


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": {"image": {"$ref": {"block_document_id": "x"}}}},
        {"parameters": {"image": {"__prefect_kind": "jinja", "template": "{{ x }}"}}},
        {"parameters": {"image": ["1.8.0"]}},
        {"parameters": {"image": "1.8.0", "skip_checks": "all"}},
        {"parameters": {"environment": "production"}},
        {"parameters": {"image": "a\nb"}},
        {"parameters": {"image": "\ud800"}},
        {"parameters": {"image": 2**80}},
        {"parameters": [], "flow": "release"},
        {"flow": ["release"]},
        {"flow": "restore"},
        {"deployment_id": True},
        {"environment": "production"},
    ],
    ids=str,
)
def test_a_job_cannot_give_what_its_rule_does_not_accept(body: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        job_start(body)
    assert caught.value.status in {403, 422}


@given(ANYTHING.filter(lambda value: isinstance(value, dict)))
def test_any_body_of_a_job_is_a_request_or_refused(body: dict[str, Any]) -> None:
    try:
        actions_request(body)
    except RefusedError as refused:
        assert refused.reason.isprintable()


@given(st.text(), st.text())
def test_a_star_stands_for_any_rest_and_nothing_else_for_anything(pattern: str, text: str) -> None:
    if "*" in pattern:
        return
    assert fits(pattern, text) == (pattern == text)
    assert fits(f"{pattern}*", pattern + text)


# --- the table


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda table: table["repositories"]["api"]["triggers"][3].pop(key)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without("workflows"), "needs workflows"),
        (_without("github_environment"), "needs github_environment"),
        (lambda table: table.pop("secrets"), "needs secrets"),
        (lambda table: table.pop("audience"), "audience"),
        (lambda table: table.update(secrets=["env:A", "env:B", "env:C"]), "at most 2"),
        (lambda table: table["repositories"]["api"]["triggers"][0].update(refs=["*"]), "at the end, and not alone"),
        (lambda table: table["repositories"]["api"]["triggers"][0]["take"].update(image="tag"), "has no field 'tag'"),
        (lambda table: table["repositories"]["api"]["triggers"][0].update(fixed={"image": "x"}), "given twice"),
        (lambda table: table["repositories"]["api"]["triggers"][0].update(fixed={"environment": "x"}), "not chosen"),
        (lambda table: table["repositories"].update(web=table["repositories"]["api"]), "same id"),
        (lambda table: table.update(github={"token": "env:A", "private_key": "env:B"}), "go together"),
    ],
)
def test_a_table_that_would_let_too_much_in_does_not_load(change: Callable[[Any], Any], told: str) -> None:
    table = webhook_table()
    change(table)
    with pytest.raises(ValidationError, match=told):
        Webhook.model_validate(table)
