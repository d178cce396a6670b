"""README and docs/ as a reader of commands sees them: the lines of their blocks, and what their sentences mention."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]

# How blocks begin that are no commands, and what they are.
NO_COMMANDS = {
    "PREFIX/": "what lies in the bucket",
    "[": "a table of an environment's file",
    "NIGHTSHIFT_": "variables that override a key; they are set below",
}
# How a command begins that stands in a sentence.
_PROGRAMS = ("apt-get", "bash", "docker", "gh", "git", "kubectl", "make", "nightshift", "npm", "prefect", "python", "sqlite3", "sudo", "velero", "vercel")  # fmt: skip
TYPED = (".venv/bin/", *(f"{program} " for program in _PROGRAMS))
SQL = ("CREATE", "GRANT", "ALTER", "REVOKE", "SELECT", "DROP")


@dataclass(frozen=True)
class Command:
    """A command as a page has it. `mentioned`: it stands in a sentence, where it may go without what it needs to be run."""

    page: str
    words: tuple[str, ...]
    mentioned: bool = False

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def program(self) -> str:
        """Its program, however it is called."""
        return self.words[0].removeprefix(".venv/bin/")


def blocks_of(page: Path) -> Iterator[list[str]]:
    """The lines of each block that is set as code: fenced without a language or as a shell's, or indented by four columns or more."""
    text = re.sub(
        r"^```(\w*)\n(.*?)^```$",
        lambda fence: (
            "\n" + re.sub(r"^", "    ", fence[2], flags=re.MULTILINE) if fence[1] in ("", "sh", "bash") else ""
        ),
        page.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    for block in re.findall(r"(?:^|\n)[ \t]*\n((?: {4,}\S[^\n]*(?:\n|$))+)", text):
        yield [line.strip() for line in block.replace("\\\n", " ").splitlines()]


def commands_of(page: Path) -> Iterator[Command]:
    """Every command of a page: line by line, each command of a pipe or list by itself; and those that its sentences mention."""
    for block in blocks_of(page):
        if block[0].startswith((*NO_COMMANDS, *SQL)):
            continue
        for line in block:
            for words in split_line(line):
                yield Command(page.name, tuple(words))
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        if code.startswith(TYPED):
            yield from (Command(page.name, tuple(words), mentioned=True) for words in split_line(code))


def split_line(line: str) -> list[list[str]]:
    """Given a line of a shell, return the words of each of its commands."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]


def lines_of(page: str) -> list[str]:
    """Every line of a page's blocks of commands, as it stands there, and every command that its sentences mention."""
    path = next(one for one in PAGES if one.name == page)
    blocks = (block for block in blocks_of(path) if not block[0].startswith((*NO_COMMANDS, *SQL)))
    mentioned = re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8"))
    return [*(line for block in blocks for line in block), *mentioned]


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands_of(page)))
