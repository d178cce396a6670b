"""A watch in pictures: PNGs in data addresses, so that the UI shows them without a file server."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from core.watch_report import Watched


def charts(watched: Watched, zone: ZoneInfo, *, restarts: Sequence[tuple[int, int]] | None = None) -> dict[str, str]:
    """Given a watch, return its charts by name (`errors`, `evidence`, `slow`, `restarts`) as `data:` addresses; one that has nothing to show is not there.

    Args:
        restarts: (bucket, restarts in it) where Pods were looked at; None: nobody looked. A bucket that is not named is not known.
    """
    raise NotImplementedError
