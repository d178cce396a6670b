"""Which backups are missed: the folder now against the stock that the newest report of a backup run took of it (core.stock)."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from core.catalogue import Catalogue
from core.environment import Environment
from core.errors import NightshiftError, PermanentError
from core.signature import SigningKey
from core.stock import Stock, made_backup_of, missed_sentence, stock_in, take_stock
from tasks.catalogue import read_catalogue
from tasks.evidence import newest_reports
from tasks.object_store import ObjectStore

# Reports of a night or two, even where releases and watches write theirs in between.
LOOKED_BACK = 100


def count_backups(
    store: ObjectStore,
    environment: Environment,
    database: str,
    keys: Sequence[SigningKey],
    *,
    deleted: Iterable[str],
    now: datetime,
) -> tuple[Stock | None, str]:
    """Take stock of a database's folder after a run that deleted these backups; return it, and a sentence when something is missed or not known.

    None: it could not be taken. Never raises a NightshiftError: a look at what is gone may not fail a backup.
    """
    try:
        before = last_stock(store, environment, database, keys)
        stock = take_stock(before, read_catalogue(store, environment, database), deleted, now)
    except NightshiftError as error:
        return None, f"it is not known whether backups are gone: {error}"
    return stock, missed_sentence(stock, now, environment.retention.days)


def missed_backups(
    store: ObjectStore,
    environment: Environment,
    database: str,
    keys: Sequence[SigningKey],
    *,
    catalogue: Catalogue,
    now: datetime,
) -> str:
    """Given a database's folder as listed, return a sentence that names the backups that are gone though nightshift did not delete them; "" when none is.

    Raise TemporaryError when S3 does not answer.
    """
    try:
        before = last_stock(store, environment, database, keys)
    except PermanentError as error:
        return f"it is not known whether backups are gone: {error}"
    return missed_sentence(take_stock(before, catalogue, (), now), now, environment.retention.days)


def last_stock(store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey]) -> Stock | None:
    """The newest stock that a verified report took of a database, None when there is none among the last hundred reports."""
    for report in newest_reports(store, environment, keys, LOOKED_BACK):
        if stock := stock_in(report, database):
            return stock
    return None


def first_though_there_were_others(
    store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey]
) -> str:
    """Of a folder that nobody owns, return a sentence when the evidence has earlier backups of this database; "" when it has none."""
    try:
        for report in newest_reports(store, environment, keys, LOOKED_BACK):
            if made_backup_of(report, database):
                newest = f"report {report.sequence} of {report.started:%Y-%m-%d}"
                return f"first backup here, though the evidence has earlier ones (the newest: {newest})"
    except NightshiftError as error:
        return f"first backup here; it is not known whether there were earlier ones: {error}"
    return ""
