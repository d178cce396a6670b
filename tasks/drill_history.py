"""Past drills, read from the evidence: the newest reports, as many as asked for."""

from collections.abc import Iterator, Sequence

from core.drill_trend import DrillPoint, points_of
from core.environment import Environment
from core.errors import PermanentError
from core.signature import SigningKey
from tasks.evidence import read_report
from tasks.object_store import ObjectMissingError, ObjectStore

# A month of daily drills beside nightly backups and their restores, and a few requests a drill to read them.
MOST_REPORTS_READ = 120


def past_drills(
    store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], *, most: int = 30
) -> tuple[DrillPoint, ...]:
    """Return the points of past drills, newest first, at most `most`. Reports that are forged or gone end the look back: what lies before is not told of."""
    found: list[DrillPoint] = []
    for point in _points(store, environment, keys):
        found.append(point)
        if len(found) == most:
            break
    return tuple(found)


def _points(store: ObjectStore, environment: Environment, keys: Sequence[SigningKey]) -> Iterator[DrillPoint]:
    try:
        _, report = read_report(store, environment, keys)
        yield from points_of(report)
        for sequence in range(report.sequence - 1, max(0, report.sequence - MOST_REPORTS_READ), -1):
            _, report = read_report(store, environment, keys, sequence)
            yield from points_of(report)
    except (ObjectMissingError, PermanentError):
        # `nightshift evidence verify` tells what is wrong with the chain; a trend is no place for it.
        return
