"""The audit log: a line of JSON for each request that was accepted or refused, and for each run that was made or could not be. Never a secret, a token or a body."""

import json
import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from typing import Any

from core.errors import ConfigurationError
from core.redaction import redact

LONGEST_VALUE = 300


class Audit:
    """Lines go to a file (reopened when it was moved: logrotate), or to standard output for `-`. Raise ConfigurationError when it cannot be opened."""

    def __init__(self, file: str) -> None:
        handler: logging.Handler
        try:
            handler = logging.StreamHandler(sys.stdout) if file == "-" else logging.handlers.WatchedFileHandler(file)
        except OSError as error:
            found = error.strerror or str(error)
            raise ConfigurationError("open the audit log", file, found, "Name another file: --audit") from error
        handler.setFormatter(logging.Formatter("%(message)s"))
        self._logger = logging.Logger("nightshift.webhook.audit", logging.INFO)
        self._logger.addHandler(handler)

    def tell(self, what: str, **values: Any) -> None:
        """Write a line: `what` happened, with values. Texts are cut, and registered secrets masked."""
        shown = {name: _shown(value) for name, value in values.items() if value not in (None, "")}
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._logger.info(json.dumps({"time": moment, "what": what, **shown}))

    def close(self) -> None:
        """Close the file."""
        for handler in self._logger.handlers:
            handler.close()


def _shown(value: Any) -> Any:
    # Masked first: of a secret that is cut in two the first half is not known any more.
    return redact(value)[:LONGEST_VALUE] if isinstance(value, str) else value
