"""Settings of the servers that drills make for themselves. Nothing of theirs outlives the drill, so a tuned one need not keep what a crash would lose."""

from collections.abc import Mapping

MIB = 1 << 20
_SMALLEST_LOCKS = 64
_NOT_IN_OWNERS = frozenset("\"$'\\")


def base_settings(source_settings: Mapping[str, str]) -> dict[str, str]:
    """Given the source's settings as the manifest has them, return what every scratch server gets, tuned or not.

    A database whose dump needs many locks was served by a server that has as many (PostgreSQL manual, "Lock Management").
    """
    locks = source_settings.get("max_locks_per_transaction", "")
    return {
        "max_locks_per_transaction": str(max(_SMALLEST_LOCKS, int(locks) if locks.isdigit() else 0)),
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_messages": "warning",
        # The text of a failed statement could hold rows of the dump.
        "log_min_error_statement": "panic",
    }


def tuned_settings(memory_bytes: int, disk_bytes: int) -> dict[str, str]:
    """Given the memory that the server may use and the free disk, both in bytes, return the settings that make a restore quick.

    After the PostgreSQL manual, "Populating a Database" and "Non-Durable Settings". Memory is shared with pg_restore, the page cache and the worker, so a
    quarter goes to shared buffers at most, and what a single index build may use is bounded because several run side by side.
    """
    shared = _between(64 * MIB, memory_bytes // 8, 1024 * MIB)
    return {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "autovacuum": "off",
        "shared_buffers": f"{shared // MIB}MB",
        "maintenance_work_mem": f"{_between(32 * MIB, memory_bytes // 32, 512 * MIB) // MIB}MB",
        "max_wal_size": f"{_between(128 * MIB, disk_bytes // 8, 4096 * MIB) // MIB}MB",
        "checkpoint_timeout": "1h",
    }


def checksum_option(source_settings: Mapping[str, str], major: int) -> tuple[str, ...]:
    """Given the source's settings and the scratch server's major, return initdb's option for data checksums as the source has them.

    They cost time, so they belong to a recovery time. Off was initdb's default up to 17, on is since 18 (release notes of 18).
    """
    wanted = source_settings.get("data_checksums") == "on"
    if major >= 18:
        return () if wanted else ("--no-data-checksums",)
    return ("--data-checksums",) if wanted else ()


def bootstrap_superuser(superusers: tuple[str, ...], owner: str) -> str:
    """Given the superusers that the manifest names and the database's owner, return how to name the scratch cluster's first superuser.

    `postgres` where it is one of them or there is none, else the owner, else the first by name: then that role is there already and need not be made.
    initdb refuses names that begin with pg_, and those with characters that an extension's owner must not have (execute_extension_script in extension.c).
    """
    usable = sorted(name for name in superusers if not name.startswith("pg_") and not set(name) & _NOT_IN_OWNERS)
    for name in ("postgres", owner, *usable):
        if name in usable:
            return name
    return "postgres"


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))
