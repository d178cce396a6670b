"""How every command speaks: tables and colours on a terminal, plain text in a pipe, one JSON document with --json, errors in one line on stderr.

Exit codes: 0 all is well; 1 what was checked is not well, or the run failed; 2 wrong usage or configuration; 3 the run is not at its end, it waits for a person;
130 ended by Ctrl-C.
"""

import json
import sys
from typing import Any, NoReturn

from rich.console import Console

from core.errors import ConfigurationError, NightshiftError
from core.redaction import redact

EXIT_NOT_WELL = 1
EXIT_USAGE = 2
# Neither well nor not: a script that goes on after 0 must not take a swap for made whose approval nobody has given yet.
EXIT_WAITS = 3
EXIT_INTERRUPTED = 130

# Markup off everywhere, in the cells of tables too: rich would swallow the brackets of a message, a path or a table's name. What has a style is a rich Text.
console = Console(highlight=False, soft_wrap=False, markup=False)
error_console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def print_json(document: Any) -> None:
    """Print one JSON document, and nothing else, to standard output; registered secrets are masked. Times and other objects are printed as text."""
    sys.stdout.write(redact(json.dumps(document, indent=2, ensure_ascii=False, default=str)) + "\n")
    sys.stdout.flush()


def fail(error: NightshiftError) -> NoReturn:
    """Print the error in one line to standard error and end: exit code 2 for a ConfigurationError, else 1."""
    tell_error(str(error))
    raise SystemExit(EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_NOT_WELL)


def tell_error(sentence: str) -> None:
    """Print a sentence to standard error, after the command's name."""
    error_console.print(f"nightshift: {redact(sentence)}", style="red" if error_console.is_terminal else None)
