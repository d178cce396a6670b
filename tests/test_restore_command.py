"""pg_restore's command line and what its end means."""

import pytest

from core.restore_command import harmless, may_pass, pg_restore_command

UNKNOWN = (
    'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"\n'
)


def test_it_ends_at_the_first_error_but_where_it_makes_one_itself() -> None:
    command = pg_restore_command("r", list_file="l", archive="a", jobs=3, client_major=16, server_major=16)
    assert command[:1] + command[-2:] == ["r", "--jobs=3", "a"]
    assert {"--exit-on-error", "--no-tablespaces", "--no-password", "--use-list=l"} <= set(command)
    newer = pg_restore_command("r", list_file="l", client_major=18, server_major=16)
    assert "--exit-on-error" not in newer
    assert newer[-1] == "--format=custom"
    assert "--exit-on-error" in pg_restore_command("r", list_file="l", client_major=18, server_major=17)


@pytest.mark.parametrize(
    ("code", "stderr", "is_harmless"),
    [
        (0, "pg_restore: warning: something", True),
        (1, UNKNOWN * 4 + "pg_restore: warning: errors ignored on restore: 2", True),
        (1, UNKNOWN + "pg_restore: error: COPY failed\nerrors ignored on restore: 2", False),
        (1, UNKNOWN + "errors ignored on restore: 2", False),
        (1, UNKNOWN, False),
        (-9, UNKNOWN + "errors ignored on restore: 1", False),
        (1, UNKNOWN * 200 + "errors ignored on restore: 200", False),
    ],
)
def test_only_the_error_that_a_newer_client_makes_is_harmless(code: int, stderr: str, is_harmless: bool) -> None:
    assert harmless(code, stderr, client_major=18, server_major=16) is is_harmless
    assert harmless(code, stderr, client_major=16, server_major=16) is (code == 0)


@pytest.mark.parametrize(
    ("failure", "passes"),
    [
        ("server closed the connection unexpectedly", True),
        ('connection to server at "h" failed: Connection refused', True),
        ("ERROR: deadlock detected", True),
        ("FATAL: terminating connection due to administrator command", True),
        ('connection to server at "h" failed: FATAL: password authentication failed', False),
        ('COPY failed for table "t": ERROR: value too long', False),
        ("could not write to file: No space left on device", False),
        ('ERROR: role "a" does not exist', False),
    ],
)
def test_a_restore_is_repeated_only_after_what_passes(failure: str, passes: bool) -> None:
    assert may_pass(failure) is passes
