"""Fixtures live one topic a file (fix_*.py) and are listed here."""

pytest_plugins: list[str] = [
    "tests.fix_postgres",
]
