"""What a tick looks at beside the requests: each source for itself, all at once, and none of them harms the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.environment import Environment
from core.errors import NightshiftError
from core.evidence import Finding
from core.redaction import redact
from tasks.watch_stand import Stand

Kept = dict[str, Any]
# Given how the watch stands, what was kept of the source before (None: nothing), the bucket that was over last (-1: none yet) and the time, return what is kept now.
Look = Callable[[Stand, Kept | None, int, datetime], Kept | None]


@dataclass(frozen=True)
class Source:
    """One source. `not_asked`: why an environment does not look at it, "" when it does."""

    look: Look
    findings: Callable[[Kept], tuple[Finding, ...]]
    not_asked: Callable[[Environment], str]


@dataclass(frozen=True)
class Looked:
    """What was seen: kept by source, why a source could not be read, why it is not asked at all, and each source's findings."""

    kept: dict[str, Kept] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    not_asked: dict[str, str] = field(default_factory=dict)
    findings: dict[str, tuple[Finding, ...]] = field(default_factory=dict)


def look_at_all(stand: Stand, bucket: int, now: datetime, sources: Mapping[str, Source]) -> Looked:
    """Look at every source that the environment names, side by side; what could not be read keeps what it had."""
    before = dict(stand.before.sources) if stand.before is not None else {}
    not_asked = {name: why for name, one in sources.items() if (why := one.not_asked(stand.environment))}
    asked = {name: one for name, one in sources.items() if name not in not_asked}
    found = Looked(kept=before, not_asked=not_asked)
    with ThreadPoolExecutor(max_workers=len(asked) or 1, thread_name_prefix="watch-source") as pool:
        looks = {name: pool.submit(one.look, stand, before.get(name), bucket, now) for name, one in asked.items()}
    for name, look in looks.items():
        error = look.exception()
        if error is None:
            # None: there is nothing new.
            kept = look.result()
            if kept is not None:
                found.kept[name] = kept
        elif isinstance(error, NightshiftError):
            found.unread[name] = str(error)
        elif isinstance(error, Exception):
            # A slip of ours in one source must not stop the watch; it is told like a source that is away.
            found.unread[name] = redact(f"unexpected {type(error).__name__}: {error}")[:500]
        else:
            raise error
        if name in found.kept:
            found.findings[name] = asked[name].findings(found.kept[name])
    return found
