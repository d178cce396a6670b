"""Every claim of the pages about what a leak allows, and what not, names a test that is there; and no test is named for a claim that no page makes."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.threat_proofs import PROOFS, UNSHOWN

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = ("security.md", "webhook.md")
COLUMNS = ("can", "cannot")
# It leads to the other page, whose rows are read as well.
ELSEWHERE = "a webhook's secret, a job's token, a delivery"


def rows_of(page: str) -> list[list[str]]:
    """The rows of the table under "When something leaks", cells without what surrounds them."""
    text = (CHECKOUT / "docs" / page).read_text()
    section = text.partition("\n## When something leaks\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| who has | can | cannot |"), page
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def claims() -> set[tuple[str, str, str]]:
    """Who has what, the column, and each claim in that cell."""
    rows = [row for page in PAGES for row in rows_of(page) if row[0] != ELSEWHERE]
    assert len({row[0] for row in rows}) == len(rows) >= 14
    cells = [(row[0], column, row[1 + number]) for row in rows for number, column in enumerate(COLUMNS)]
    return {(who, column, claim) for who, column, cell in cells for claim in re.split(r"; ", cell) if claim}


@cache
def named_in(file: str) -> frozenset[str]:
    """The tests of a file."""
    tree = ast.parse((CHECKOUT / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_each_claim_of_the_pages_is_shown_by_a_test_or_said_not_to_be() -> None:
    assert claims() == {(who, column, claim) for (who, column), said in PROOFS.items() for claim in said}


@pytest.mark.parametrize("proof", [proof for said in PROOFS.values() for proof in said.values()], ids=str)
def test_each_test_that_is_named_is_there(proof: tuple[str, ...] | str) -> None:
    if isinstance(proof, str):
        assert proof.startswith(UNSHOWN) and len(proof) > len(UNSHOWN)
        return
    assert proof
    assert [one for one in proof if one.partition("::")[2] not in named_in(one.partition("::")[0])] == []


def test_what_somebody_cannot_do_is_always_shown() -> None:
    assert [
        key for key, said in PROOFS.items() if key[1] == "cannot" for one in said.values() if isinstance(one, str)
    ] == []
