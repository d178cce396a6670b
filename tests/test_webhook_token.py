"""A job's token: only GitHub's own signature by RS256 counts, for us, now; and the keys are had with care."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from core.environment_webhook import ACTIONS_ISSUER
from core.webhook_event import RefusedError
from core.webhook_token import key_id, verified_claims
from deployments.webhook.key_sets import FRESH_SECONDS, LONGEST_SECONDS, PAUSE_SECONDS, KeySets
from tests.fix_web_script import WebScript
from tests.fix_webhook import AUDIENCE, claims, key_set, signing_key, token


def verify(text: str, key: str = "first") -> dict[str, Any]:
    """The claims of a token, as the receiver looks at it."""
    key_id(text)
    return dict(verified_claims(text, signing_key(key).public_key(), ACTIONS_ISSUER, AUDIENCE))


def part(document: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def refused(text: str) -> str:
    """Why a token is refused; it is itself never in the reason."""
    with pytest.raises(RefusedError) as caught:
        verify(text)
    assert caught.value.status == 401
    assert len(text) < 20 or text not in caught.value.reason
    return caught.value.reason


def test_githubs_token_is_taken() -> None:
    assert verify(token(claims()))["repository_id"] == "4711"


def test_a_token_without_a_signature_is_refused() -> None:
    for alg in ("none", "None", "NONE", ""):
        assert "RS256" in refused(f"{part({'alg': alg, 'kid': 'first'})}.{part(claims())}.")


def test_a_token_signed_by_the_public_key_as_if_it_were_a_secret_is_refused() -> None:
    public = signing_key("first").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for alg in ("HS256", "RS256"):
        signed = f"{part({'alg': alg, 'kid': 'first'})}.{part(claims())}"
        mac = base64.urlsafe_b64encode(hmac.new(public, signed.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
        refused(f"{signed}.{mac}")


def test_a_token_of_another_key_or_another_algorithm_is_refused() -> None:
    assert "does not fit" in refused(token(claims(), "second"))
    for algorithm in ("RS384", "PS256"):
        refused(jwt.encode(claims(), signing_key("first"), algorithm=algorithm, headers={"kid": "first"}))


def test_a_token_that_was_changed_is_refused() -> None:
    head, _, signature = token(claims()).split(".")
    refused(f"{head}.{part(claims(repository_id='1'))}.{signature}")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"aud": "https://github.com/acme"}, "another audience"),
        ({"aud": [AUDIENCE, "other"]}, "audience"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"iat": 4_000_000_000}, "not valid yet"),
        *(({name: None}, "lacks one of") for name in ("iss", "aud", "exp", "nbf", "iat", "jti")),
        ({"jti": 7}, "not valid"),
        ({"jti": ""}, "jti"),
        ({"jti": "x" * 300}, "jti"),
        ({"exp": "tomorrow"}, "not valid"),
        ({"exp": 10**400}, ""),
    ],
)
def test_each_claim_must_be_there_and_say_the_right_thing(more: dict[str, Any], reason: str) -> None:
    if more == {"exp": 10**400}:
        verify_or_refuse(token(claims(**more)))
        return
    # PyJWT does not encode what is no text; GitHub would not either.
    head = {"alg": "RS256", "kid": "first", "typ": "JWT"}
    given = {name: value for name, value in {**claims(), **more}.items() if value is not None}
    algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    signed = f"{part(head)}.{part(given)}"
    signature = base64.urlsafe_b64encode(algorithm.sign(signed.encode(), signing_key("first"))).rstrip(b"=").decode()
    assert reason in refused(f"{signed}.{signature}")


def verify_or_refuse(text: str) -> None:
    """Either is right; nothing else may come of it."""
    try:
        verify(text)
    except RefusedError as error:
        assert error.status == 401


@pytest.mark.parametrize("ahead", [-20, 20])
def test_clocks_may_differ_by_half_a_minute(ahead: int) -> None:
    now = int(time.time())
    assert verify(token(claims(iat=now + ahead, nbf=now + ahead, exp=now + ahead + 1)))


@given(
    st.text()
    | st.binary().map(lambda raw: raw.decode("latin-1"))
    | st.lists(st.text(), min_size=3, max_size=3).map(".".join)
)
def test_rubbish_is_no_token(text: str) -> None:
    refused(text)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=6)
)
def test_a_head_that_is_anything_is_no_head(head: Any) -> None:
    refused(f"{part(head)}.{part({})}.{part({})}")


def test_a_token_as_long_as_a_book_is_refused_before_it_is_looked_at() -> None:
    assert "too long" in refused("a" * 100_000)


# --- the keys


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_keys_are_kept_and_had_anew_when_they_were_changed(web_script: WebScript) -> None:
    clock = Clock()
    keys = KeySets(clock)
    web_script.always(key_set("first"))
    for _ in range(5):
        assert keys.find(web_script.address, "first")
    assert len(web_script.asked) == 1
    web_script.always(key_set("first", "second"))
    clock.now += PAUSE_SECONDS
    assert keys.find(web_script.address, "second")
    # And the old one is gone once GitHub shows it no longer.
    web_script.always(key_set("second"))
    clock.now += FRESH_SECONDS
    assert keys.at_hand(web_script.address, "first") is None
    with pytest.raises(RefusedError, match="401"):
        keys.find(web_script.address, "first")


def test_tokens_with_invented_keys_do_not_make_us_ask_again_and_again(web_script: WebScript) -> None:
    keys = KeySets(Clock())
    web_script.always(key_set("first"))
    for number in range(50):
        with pytest.raises(RefusedError, match="401"):
            keys.find(web_script.address, f"invented-{number}")
    assert len(web_script.asked) == 1


def test_while_the_issuer_is_away_the_kept_keys_count_for_a_day(web_script: WebScript) -> None:
    clock = Clock()
    keys = KeySets(clock)
    web_script.always(key_set("first"))
    keys.find(web_script.address, "first")
    web_script.always({"error": "no"}, 503)
    clock.now += FRESH_SECONDS + PAUSE_SECONDS
    assert keys.find(web_script.address, "first")
    with pytest.raises(RefusedError, match="503"):
        keys.find(web_script.address, "second")
    clock.now += LONGEST_SECONDS
    with pytest.raises(RefusedError, match="503"):
        keys.find(web_script.address, "first")


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        [],
        {"keys": 7},
        {"keys": [7, {"kty": "RSA", "kid": "first"}, {"kty": "oct", "kid": "first", "k": "c2VjcmV0"}]},
    ],
)
def test_an_answer_without_a_key_is_none(web_script: WebScript, answer: Any) -> None:
    web_script.always(answer)
    with pytest.raises(RefusedError, match="503"):
        KeySets(Clock()).find(web_script.address, "first")
