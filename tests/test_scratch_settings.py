"""Settings of scratch servers: within bounds for any machine, and as the source where the source matters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.scratch_settings import MIB, base_settings, bootstrap_superuser, checksum_option, tuned_settings

ANY_BYTES = st.integers(min_value=0, max_value=1 << 50)


def mebibytes(setting: str) -> int:
    return int(setting.removesuffix("MB"))


@given(memory=ANY_BYTES, disk=ANY_BYTES)
def test_tuned_memory_stays_within_bounds_and_the_machine(memory: int, disk: int) -> None:
    settings = tuned_settings(memory, disk)
    shared, work = mebibytes(settings["shared_buffers"]), mebibytes(settings["maintenance_work_mem"])
    assert 64 <= shared <= 1024
    assert 32 <= work <= 512
    assert 128 <= mebibytes(settings["max_wal_size"]) <= 4096
    if memory >= 512 * MIB:
        assert shared + 2 * work <= memory // MIB // 2


def test_a_tuned_server_gives_up_what_only_a_crash_would_need() -> None:
    settings = tuned_settings(1 << 33, 1 << 40)
    assert settings["fsync"] == settings["autovacuum"] == settings["full_page_writes"] == "off"
    assert (settings["wal_level"], settings["max_wal_senders"]) == ("minimal", "0")


@given(locks=st.integers(min_value=1, max_value=100_000))
def test_a_scratch_server_has_as_many_locks_as_the_source(locks: int) -> None:
    assert int(base_settings({"max_locks_per_transaction": str(locks)})["max_locks_per_transaction"]) == max(64, locks)


def test_without_the_sources_settings_postgresqls_default_holds() -> None:
    assert base_settings({})["max_locks_per_transaction"] == "64"


def test_no_failed_statement_reaches_the_log() -> None:
    assert base_settings({})["log_min_error_statement"] == "panic"


@pytest.mark.parametrize(
    ("source", "major", "option"),
    [
        ("on", 15, ("--data-checksums",)),
        ("off", 15, ()),
        ("on", 18, ()),
        ("off", 18, ("--no-data-checksums",)),
    ],
)
def test_checksums_are_as_the_source_has_them(source: str, major: int, option: tuple[str, ...]) -> None:
    assert checksum_option({"data_checksums": source}, major) == option


@pytest.mark.parametrize(
    ("superusers", "owner", "name"),
    [
        ((), "app", "postgres"),
        (("admin", "postgres"), "admin", "postgres"),
        (("admin", "boss"), "boss", "boss"),
        (("zoe", "admin"), "app", "admin"),
        (("pg_strange",), "pg_strange", "postgres"),
        (("O'Brien", 'the "boss"', "a$b", "a\\b"), "O'Brien", "postgres"),
    ],
)
def test_the_first_superuser_is_called_as_one_of_the_sources(
    superusers: tuple[str, ...], owner: str, name: str
) -> None:
    assert bootstrap_superuser(superusers, owner) == name
