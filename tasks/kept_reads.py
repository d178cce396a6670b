"""Small objects of a bucket that were read and verified before: a process that looks again and again asks for what is new alone."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core.errors import PermanentError
from tasks.object_store import ObjectMissingError, ObjectStore, StoredObject

READERS = 8
# What stands for an object that is forged or damaged.
DISTRUSTED = object()
Parse = Callable[[bytes, str], Any]


class KeptReads:
    """What objects hold, by key. One that was written anew since is read anew."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[object, Any]] = {}
        self._used: set[str] = set()

    def read_all(self, store: ObjectStore, objects: Sequence[StoredObject], parse: Parse) -> list[Any]:
        """Return what each listed object holds, in their order: what `parse` makes of its bytes and key, or DISTRUSTED where that raises.

        Raise TemporaryError or PermanentError when one cannot be had.
        """
        self._used.update(one.key for one in objects)
        new = [one for one in objects if self._found.get(one.key, (None,))[0] != (one.modified, one.size_bytes)]
        with ThreadPoolExecutor(READERS) as readers:
            stored = readers.map(store.get, [one.key for one in new])
            for one, body in zip(new, stored, strict=True):
                self._found[one.key] = ((one.modified, one.size_bytes), _parsed(body, one.key, parse))
        return [self._found[one.key][1] for one in objects]

    def look(self, store: ObjectStore, key: str, parse: Parse, *, final: bool) -> Any:
        """Return what an object holds that is written once, None when there is none. `final`: it will never be there any more, so nobody asks again."""
        self._used.add(key)
        if key not in self._found:
            try:
                value = _parsed(store.get(key), key, parse)
            except ObjectMissingError:
                if not final:
                    return None
                value = None
            self._found[key] = (None, value)
        return self._found[key][1]

    def forget_unused(self) -> None:
        """Forget what nobody asked for since this was last called."""
        self._found = {key: value for key, value in self._found.items() if key in self._used}
        self._used = set()


def _parsed(stored: bytes, key: str, parse: Parse) -> Any:
    """What it holds, or DISTRUSTED. An object that cannot be had is another thing: that is raised by who asks for it."""
    try:
        return parse(stored, key)
    except (PermanentError, ValueError):
        return DISTRUSTED
