"""What every manifest made by a test says of a database in which nothing but its tables matters."""

from typing import Any

from core.manifest import Coverage, DatabaseProperties, Statistics

SOME_SHA256 = "0" * 64

PROPERTIES = DatabaseProperties(
    owner="app",
    encoding="UTF8",
    collate="C",
    ctype="C",
    provider="libc",
    locale=None,
    icu_rules=None,
    collation_version=None,
    connection_limit=-1,
    is_template=False,
    allow_connections=True,
    tablespace="pg_default",
    acl=None,
    comment=None,
    settings=(),
)

# Fields of core.manifest.Manifest, to be given beside those that a test is about.
NOTHING_ELSE: dict[str, Any] = {
    "sequences": (),
    "extensions": (),
    "collations": (),
    "roles": (),
    "properties": PROPERTIES,
    "statistics": Statistics(stats_reset=None),
    "schema_fingerprint": SOME_SHA256,
    "coverage": Coverage(expected=0, listed=0, missing=()),
    "not_in_backup": (),
}
