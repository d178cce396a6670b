"""Command lines as built, and what failures mean."""

import pytest

from core.pg_commands import (
    exact_pattern,
    may_succeed_later,
    pg_dump_command,
    pg_dumpall_globals_command,
    pg_restore_decode_command,
    pg_restore_list_command,
)


def test_a_dump_to_stdout_is_uncompressed_in_custom_format_from_the_snapshot() -> None:
    command = pg_dump_command("/b/pg_dump", snapshot="00000003-1", exclude_schemas=["auth", 'a"B*'])
    assert command[0] == "/b/pg_dump"
    for argument in (
        "--format=custom",
        "--compress=0",
        "--snapshot=00000003-1",
        "--lock-wait-timeout=60000",
        "--no-password",
        '--exclude-schema="auth"',
        '--exclude-schema="a""B*"',
    ):
        assert argument in command
    assert not [argument for argument in command if argument.startswith(("--jobs", "--file"))]


def test_a_dump_with_jobs_goes_into_a_folder() -> None:
    command = pg_dump_command("/b/pg_dump", snapshot="s", archive_format="directory", directory="/spool/x", jobs=4)
    assert {"--format=directory", "--jobs=4", "--file=/spool/x", "--no-sync"} <= set(command)


def test_globals_have_passwords_only_by_option() -> None:
    assert "--no-role-passwords" in pg_dumpall_globals_command("/b/pg_dumpall", database="app")
    with_passwords = pg_dumpall_globals_command("/b/pg_dumpall", database="app", role_passwords=True)
    assert "--no-role-passwords" not in with_passwords
    assert "--globals-only" in with_passwords


def test_archives_are_read_from_stdin_or_a_folder() -> None:
    assert pg_restore_list_command("p") == ["p", "--list", "--format=custom"]
    assert pg_restore_list_command("p", "/x") == ["p", "--list", "/x"]
    assert pg_restore_decode_command("p") == ["p", "--section=data", "--file=-", "--format=custom"]
    assert pg_restore_decode_command("p", "/x")[-1] == "/x"


def test_a_quote_in_a_schemas_name_is_doubled() -> None:
    assert exact_pattern('a"b') == '"a""b"'


@pytest.mark.parametrize(
    ("failure", "later"),
    [
        ("pg_dump: error: server closed the connection unexpectedly", True),
        ('pg_dump: error: query failed: ERROR:  snapshot "00000003-1" does not exist', True),
        ("ERROR:  invalid snapshot identifier: x", True),
        ("ERROR:  canceling statement due to lock timeout", True),
        ("pg_dump was killed by SIGKILL", True),
        ("ERROR:  permission denied for table users", False),
        ("FATAL:  password authentication failed for user", False),
        ("aborting because of server version mismatch", False),
        ('query would be affected by row-level security policy for table "users"', False),
        ("could not write: No space left on device", False),
    ],
)
def test_a_failure_may_pass_unless_it_is_known_not_to(failure: str, later: bool) -> None:
    assert may_succeed_later(failure) is later
