"""A database for measuring: what a tenant platform writes most. Three quarters of a dump's bytes are an activity log, the rest documents' revisions, each saved
whole, and comments. Ratios depend on the mixture, so another one can be asked for.
"""

import random
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate, count, islice
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

MIXTURE: Mapping[str, float] = {"activity": 0.75, "revisions": 0.15, "comments": 0.1}
# What a row takes in a dump, measured; the size asked for is met within a few percent.
_BYTES_PER_ROW = {"activity": 349, "revisions": 3000, "comments": 320}

_SCHEMA = """
CREATE SCHEMA bench;
CREATE TABLE bench.activity (
    id bigint PRIMARY KEY, organization_id uuid NOT NULL, project_id uuid NOT NULL, user_id uuid NOT NULL, task_id uuid,
    kind text NOT NULL, path text NOT NULL, detail jsonb NOT NULL, created_at timestamptz NOT NULL
);
CREATE TABLE bench.revisions (
    id bigint PRIMARY KEY, document_id uuid NOT NULL, author_id uuid NOT NULL, number integer NOT NULL, saved_at timestamptz NOT NULL, body text NOT NULL
);
CREATE TABLE bench.comments (
    id bigint PRIMARY KEY, task_id uuid NOT NULL, author_id uuid NOT NULL, created_at timestamptz NOT NULL, body text NOT NULL
);
"""
_TYPES = {
    "activity": "int8 uuid uuid uuid uuid text text jsonb timestamptz",
    "revisions": "int8 uuid uuid int4 timestamptz text",
    "comments": "int8 uuid uuid timestamptz text",
}
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_KINDS = ("page_view", "task_created", "task_moved", "comment_added", "login", "export_started")
_PAGES = ("tasks", "comments", "members", "files")
_EDITED_AT_A_TIME, _REVISIONS, _PARAGRAPHS, _PARAGRAPH_WORDS = 40, 20, 12, 36
Row = tuple[Any, ...]


class _Chance:
    """The same rows each time, from a fixed seed."""

    def __init__(self) -> None:
        self.random = random.Random(2026)
        syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
        self.words = ["".join(self.random.choices(syllables, k=self.random.randint(1, 4))) for _ in range(8000)]
        # Zipf's law: the n-th most frequent word comes up 1/n times as often as the first.
        self.weights = list(accumulate(1 / rank for rank in range(1, len(self.words) + 1)))
        self.users, self.projects, self.organizations = (self.identifiers(n) for n in (20_000, 4_000, 300))

    def identifiers(self, number: int) -> list[uuid.UUID]:
        return [self.identifier() for _ in range(number)]

    def identifier(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def one_of(self, things: list[Any]) -> tuple[int, Any]:
        """One of them and its place; the first are busier than the last."""
        place = int(self.random.random() ** 2 * len(things))
        return place, things[place]

    def text(self, words: int) -> str:
        return " ".join(self.random.choices(self.words, cum_weights=self.weights, k=words))

    def activity(self) -> Iterator[Row]:
        """Requests of users in projects, one every fifth of a second."""
        task = self.identifier()
        for number in count(1):
            place, project = self.one_of(self.projects)
            if number % 7 == 0:
                task = self.identifier()
            detail = {
                "status": self.random.choice((200, 200, 200, 201, 304, 404, 500)),
                "duration_ms": self.random.randrange(900),
                "agent": f"Mozilla/5.0 (X11; Linux x86_64) Chrome/{100 + self.random.randrange(25)}.0.0.0",
                "request": f"{self.random.getrandbits(128):032x}",
            }
            yield (
                number,
                self.organizations[place % len(self.organizations)],
                project,
                self.one_of(self.users)[1],
                task if number % 5 else None,
                self.random.choice(_KINDS),
                f"/api/v1/projects/{place}/{self.random.choice(_PAGES)}",
                Jsonb(detail),
                _BEGIN + number * timedelta(milliseconds=211),
            )

    def revisions(self) -> Iterator[Row]:
        """Forty documents are edited at a time; each save changes a paragraph and is a row with the whole text."""
        numbers = count(1)
        while True:
            documents = [
                (
                    self.identifier(),
                    self.one_of(self.users)[1],
                    [self.text(_PARAGRAPH_WORDS) for _ in range(_PARAGRAPHS)],
                )
                for _ in range(_EDITED_AT_A_TIME)
            ]
            for revision in range(_REVISIONS):
                for document, author, paragraphs in documents:
                    number = next(numbers)
                    paragraphs[self.random.randrange(_PARAGRAPHS)] = self.text(_PARAGRAPH_WORDS)
                    saved = _BEGIN + number * timedelta(seconds=11)
                    yield number, document, author, revision, saved, "\n\n".join(paragraphs)

    def comments(self) -> Iterator[Row]:
        """Five to sixty-five words on a task, now and then by the same people."""
        for number in count(1):
            saved = _BEGIN + number * timedelta(seconds=9)
            yield number, self.identifier(), self.one_of(self.users)[1], saved, self.text(self.random.randint(5, 65))


def generate(conninfo: str, *, size_bytes: int, parts: Mapping[str, float] = MIXTURE) -> dict[str, int]:
    """Given an administrator's connection string and how large a plain dump is to be, fill a schema `bench` and return each table's rows.

    `parts`: which share of the bytes each table takes.
    """
    chance, rows = _Chance(), {}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute(_SCHEMA)
        for table, share in parts.items():
            rows[table] = max(100, int(size_bytes * share) // _BYTES_PER_ROW[table])
            with connection.cursor().copy(f"COPY bench.{table} FROM STDIN (FORMAT binary)".encode()) as copy:
                copy.set_types(_TYPES[table].split())
                for row in islice(getattr(chance, table)(), rows[table]):
                    copy.write_row(row)
        connection.execute("VACUUM (ANALYZE)")
    return rows


def multiply(conninfo: str, times: int) -> None:
    """Given an administrator's connection string of a generated database, add copies of its tables until a dump is so many times as long."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        for number in range(2, times + 1):
            for table in MIXTURE:
                copy, original = sql.Identifier("bench", f"{table}_{number}"), sql.Identifier("bench", table)
                connection.execute(sql.SQL("CREATE TABLE {} AS SELECT * FROM {}").format(copy, original))
        connection.execute("ANALYZE")
