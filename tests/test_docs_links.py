"""Every link of README, CHANGELOG and docs/ to another page, a heading or a file leads somewhere; and README leads to every page."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Files of the checkout that a page names in its text, as tests and settings are.
NAMED = re.compile(
    r"(?<![\w/.*-])(?:benchmarks|core|deployments|flows|tasks|tests)/[\w/-]+\.(?:json|py|sh|toml|yaml|yml)\b"
)
OWN = re.compile(r"[A-Z]{3,}|/mine\.toml")


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them (github.com/gjtorikian/html-pipeline, toc_filter.rb)."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def links_of(page: Path) -> Iterator[str]:
    """Where a page leads within the checkout."""
    for link in LINK.findall(page.read_text()):
        if not link.startswith(("https://", "http://", "mailto:")):
            yield link


def trouble_with(page: Path, link: str) -> str:
    """What is wrong with a link; "" when nothing is."""
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    if not target.is_relative_to(CHECKOUT) or not target.exists():
        return f"{page.name}: {link} is not there"
    return f"{page.name}: {link} has no such heading" if anchor and anchor not in anchors_of(target) else ""


def missing_of(file: Path) -> list[str]:
    """The files of the checkout that a file names and that are not there. `mine` and NAME are environments of the reader's own."""
    named = set(NAMED.findall(file.read_text()))
    return sorted(name for name in named if not (CHECKOUT / name).exists() and not OWN.search(name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [trouble for link in links_of(page) if (trouble := trouble_with(page, link))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    assert missing_of(page) == []


# Comments and settings name files as pages do.
FILES = [
    path
    for folder in ("benchmarks", "core", "deployments", "flows", "tasks", "tests")
    for path in (CHECKOUT / folder).rglob("*")
    if path.suffix in {".py", ".sh", ".toml", ".yaml", ".yml"}
]


def test_every_file_that_a_file_names_is_there() -> None:
    named = {
        str(path.relative_to(CHECKOUT)): missing_of(path)
        for path in [*FILES, *CHECKOUT.glob("*.yaml"), CHECKOUT / "Makefile", CHECKOUT / "Dockerfile"]
    }
    assert {path: missing for path, missing in named.items() if missing} == {}


def test_the_readme_leads_to_every_page() -> None:
    found = {link.partition("#")[0] for link in links_of(CHECKOUT / "README.md")}
    assert {f"docs/{page.name}" for page in PAGES[2:]} - found == set()


def test_a_link_that_leads_nowhere_is_found_out() -> None:
    page = CHECKOUT / "README.md"
    assert "is not there" in trouble_with(page, "docs/nothing.md")
    assert "no such heading" in trouble_with(page, "docs/restore.md#nothing")
    assert "is not there" in trouble_with(page, "/etc/passwd")
