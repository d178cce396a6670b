"""What can go wrong, in the few kinds that a caller can act on.

    NightshiftError
    ├── TemporaryError     the same step may succeed later: Prefect retries it
    ├── PermanentError     it will not, until somebody changes something: Prefect does not retry
    │   ├── ConfigurationError   the environment file, a secret reference or a parameter is wrong; nothing was touched
    │   └── IntegrityError       data is not what was recorded: a checksum, a signature, a count, a digest
    │       └── DamageError      and it is a backup's own data: the backup is not to be relied on
    └── (nothing else)

Foreign exceptions (psycopg, botocore, OSError) are wrapped where they occur, in `tasks/`, with `raise … from error`. A message is one line and says
what was attempted, on what, what was found and what to do next; secrets are taken out of it (see core.redaction).
"""

from core.redaction import redact


class NightshiftError(Exception):
    """One line: what was attempted, on what, what was found, what to do next.

    Args:
        attempted: the step, in the infinitive without "to" ("read the catalogue").
        on: the object ("database app at db.example.com:5432").
        found: what came back instead of success.
        next_step: what the operator can do now; may be empty where nothing can be done but wait for the retry.
    """

    def __init__(self, attempted: str, on: str, found: str, next_step: str = "") -> None:
        self.attempted, self.on, self.found, self.next_step = (
            redact(" ".join(text.split())) for text in (attempted, on, found, next_step)
        )
        super().__init__(self.attempted, self.on, self.found, self.next_step)

    def __str__(self) -> str:
        sentence = f"could not {self.attempted} ({self.on}): {self.found}"
        return f"{sentence.rstrip('.')}. {self.next_step}".strip() if self.next_step else sentence


class TemporaryError(NightshiftError):
    """The same step may succeed later; Prefect retries it."""


class PermanentError(NightshiftError):
    """The same step fails again until somebody changes something; Prefect does not retry it."""


class ConfigurationError(PermanentError):
    """An environment file, a secret reference or a parameter is wrong. Raised before anything is touched."""


class IntegrityError(PermanentError):
    """Data is not what was recorded: a checksum, a signature, a row count or a digest differs."""


class DamageError(IntegrityError):
    """A backup's own data is not what was recorded: nothing of the server, the network or a role's rights explains it. The backup is marked (core.damage)."""
