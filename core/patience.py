"""For how long something has stood without a break, as it was seen here: the clocks of a cluster and of a worker differ."""

from collections.abc import Iterable


class Patience:
    """Remembers since when each key was seen at every look. Seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def look(self, keys: Iterable[str], now: float) -> None:
        """Given what stands now, forget what does not stand any more."""
        self._since = {key: self._since.get(key, now) for key in keys}

    def stood(self, key: str, now: float) -> float:
        """For how many seconds a key has stood; 0.0 when it does not."""
        return now - self._since.get(key, now)
