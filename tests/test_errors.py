"""Errors are one line that says what to do, survive being sent between processes, and never hold a secret."""

import pickle

import pytest

from core.errors import ConfigurationError, IntegrityError, NightshiftError, PermanentError, TemporaryError
from core.redaction import MASK, redact, register_secret


def test_an_error_says_what_was_attempted_on_what_what_was_found_and_what_to_do() -> None:
    error = PermanentError("read the catalogue", "database app", "permission denied", "Grant pg_read_all_data")
    assert str(error) == "could not read the catalogue (database app): permission denied. Grant pg_read_all_data"


def test_an_error_is_one_line_whatever_it_was_given() -> None:
    error = TemporaryError("run pg_dump", "app", "pg_dump: error:\n  query failed\n", "")
    assert str(error) == "could not run pg_dump (app): pg_dump: error: query failed"


@pytest.mark.parametrize("kind", [NightshiftError, TemporaryError, PermanentError, ConfigurationError, IntegrityError])
def test_an_error_survives_pickling_with_all_that_it_says(kind: type[NightshiftError]) -> None:
    error = pickle.loads(pickle.dumps(kind("do", "it", "nothing", "Do more")))  # noqa: S301 - made here
    assert type(error) is kind
    assert (error.attempted, error.on, error.found, error.next_step) == ("do", "it", "nothing", "Do more")


def test_a_registered_secret_is_masked_in_errors_plain_and_url_encoded() -> None:
    register_secret("s3cr3t/with+signs")
    error = PermanentError("connect", "postgres://u:s3cr3t%2Fwith%2Bsigns@h/db", "bad password s3cr3t/with+signs", "")
    assert "s3cr3t" not in str(error)
    assert str(error).count(MASK) == 2


def test_a_secret_within_another_one_leaves_no_rest() -> None:
    register_secret("inner-secret")
    register_secret("outer-inner-secret-end")
    assert redact("x outer-inner-secret-end y") == f"x {MASK} y"


def test_a_value_too_short_to_be_told_from_a_word_is_not_masked() -> None:
    register_secret("a1")
    assert redact("a1 b") == "a1 b"
