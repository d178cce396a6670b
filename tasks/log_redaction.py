"""Keeping secrets out of logs, and out of the exceptions that Prefect turns into a run's state message.

Records are cleaned where they are made, not by a filter on a logger or handler: a logger's filter does not see what its children propagate, and handlers
are added later by Prefect, by libraries and by tests. Whatever formats or sends a record afterwards finds no secret in it.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import NightshiftError, PermanentError
from core.redaction import redact


def install_log_redaction() -> None:
    """Have every log record of this process made without registered secrets, in message, exception and traceback. Calling it again changes nothing."""
    make_record = logging.getLogRecordFactory()
    if isinstance(make_record, _RedactingFactory):
        return
    logging.setLogRecordFactory(_RedactingFactory(make_record))


@contextmanager
def redacted_errors() -> Iterator[None]:
    """Around a flow or task body: let no foreign exception out whose text holds a registered secret, since Prefect stores that text as the run's state.

    Our own errors are redacted when made. Raise PermanentError in place of a foreign exception that tells a secret; others pass unchanged.
    """
    try:
        yield
    except NightshiftError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        if redact(told) == told:
            raise
        # Not chained: the original would carry the secret along, into the log and into a persisted result.
        raise PermanentError("finish the step", "an unexpected error", told) from None


class _RedactingFactory:
    def __init__(self, make_record: Any) -> None:
        self._make_record = make_record

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make_record(*arguments, **named)
        _clean_message(record)
        _clean_exception(record)
        return record


def _clean_message(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        # Arguments that do not fit the format; logging would print both to stderr as they are.
        message = f"{record.msg} {record.args!r}"
        record.msg, record.args = redact(message), ()
        return
    clean = redact(message)
    if clean != message:
        record.msg, record.args = clean, ()


def _clean_exception(record: logging.LogRecord) -> None:
    if not record.exc_info or record.exc_info[0] is None:
        return
    text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    clean = redact(text)
    if clean != text:
        # exc_text is what formatters print when it is there; exc_info goes, since others (JSON) format the exception itself.
        record.exc_text, record.exc_info = clean, None
