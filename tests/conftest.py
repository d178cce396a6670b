"""Fixtures live one topic a file (fix_*.py) and are listed here."""

pytest_plugins: list[str] = [
    "tests.fix_platform",
    "tests.fix_object_store",
    "tests.fix_keeping",  # after fix_object_store, which it imports
    "tests.fix_postgres",
    "tests.fix_prefect",
    "tests.fix_nightly",  # after those that it imports
    "tests.fix_proxy",
    "tests.fix_streams",
]
