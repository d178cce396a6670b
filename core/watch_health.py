"""The health of PostgreSQL and Redis over a day: away or not, how full, how long things last, and what was counted since the watch began. It advises only.

None is what nobody could tell, which is not 0: times of other roles' sessions are shown to members of pg_read_all_stats alone (PostgreSQL manual, "The Cumulative
Statistics System", "Viewing Statistics"). Figures are integers with their unit in the name, as signed records hold no others.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from core.environment_watch_health import WatchHealth
from core.evidence import Finding
from core.manifest import Record
from core.watch_words import at_bucket, note, warning

# away: it does not answer. refused: it answers, and does not let us look (a role, a password, no connection left).
State = Literal["well", "away", "refused"]
_MOST_SERVERS = 16
_LASTING = 2
_LONGEST_WORDS = 200


class Limits(Record):
    """From where on a figure is told."""

    connections_percent: int = 80
    idle_in_transaction_seconds: int = 60
    statement_seconds: int = 300
    replication_lag_seconds: int = 60
    redis_memory_percent: int = 90

    @classmethod
    def of(cls, settings: WatchHealth) -> "Limits":
        """As the environment's file says."""
        return cls(**{name: getattr(settings, name) for name in cls.model_fields})


class ServerLook(Record):
    """What one look at a database or at Redis found. `answer_ms`: of the smallest question. `counters`: what only grows, by name, since `epoch`."""

    name: str
    state: State
    kind: Literal["postgresql", "redis"] = "postgresql"
    why: str = ""
    answer_ms: int | None = None
    connections: int | None = None
    connections_max: int | None = None
    idle_in_transaction_seconds: int | None = None
    statement_seconds: int | None = None
    replication_lag_seconds: int | None = None
    cut_off: bool = False
    memory_bytes: int | None = None
    memory_max_bytes: int | None = None
    counters: dict[str, int] = Field(default_factory=dict)
    epoch: str = ""


class HealthLook(Record):
    """One look at all of them. `unread`: what was not looked at, and why."""

    servers: tuple[ServerLook, ...] = ()
    limits: Limits = Limits()
    unread: tuple[str, ...] = ()


class Excess(Record):
    """A figure past its limit: in how many looks, since and until which bucket, and the most of it."""

    looks: int
    since: int
    last: int
    most: int
    limit: int


class ServerSeen(Record):
    """All that was seen of one server. `excesses` and `counted`: by name; `base`: its counters in the last look."""

    looks: int = 0
    ill_looks: int = 0
    ill: Excess | None = None
    state: State = "well"
    why: str = ""
    slowest_ms: int = 0
    slowest_at: int = 0
    excesses: dict[str, Excess] = Field(default_factory=dict)
    counted: dict[str, int] = Field(default_factory=dict)
    base: dict[str, int] = Field(default_factory=dict)
    epoch: str = ""
    restarts: int = 0
    cut_off: Excess | None = None
    unknown: tuple[str, ...] = ()


class HealthSeen(Record):
    """All that was seen until the look of `bucket`."""

    bucket: int
    looks: int = 0
    servers: dict[str, ServerSeen] = Field(default_factory=dict)
    unread: tuple[str, ...] = ()


def health_after(before: HealthSeen | None, look: HealthLook, *, bucket: int) -> HealthSeen:
    """Given what was seen before, and the look made when a bucket was over, return what was seen after it. A look of an earlier bucket changes nothing."""
    if before is not None and bucket <= before.bucket:
        return before
    known = before or HealthSeen(bucket=bucket)
    servers = dict(known.servers)
    for one in look.servers:
        if one.name in servers or len(servers) < _MOST_SERVERS:
            servers[one.name] = _server_after(servers.get(one.name), one, look.limits, bucket)
    return HealthSeen(bucket=bucket, looks=known.looks + 1, servers=servers, unread=look.unread)


def servers_away(seen: HealthSeen | None, *, bucket: int) -> tuple[str, ...]:
    """Given what was seen, return which servers did not answer in the look of a bucket: a cause outside of the new version (core.watch_pods.crash_loop).

    One that answers and lets nobody in is none: it may be the new version that took all its connections.
    """
    if seen is None:
        return ()
    return tuple(
        name
        for name, one in sorted(seen.servers.items())
        if one.state == "away" and one.ill is not None and one.ill.last == bucket
    )


def health_findings(seen: HealthSeen) -> tuple[Finding, ...]:
    """Given what was seen, return what is worth telling, worst first."""
    found = [finding for name, one in sorted(seen.servers.items()) for finding in _of_server(name, one, seen.bucket)]
    found += [note(f"not looked at: {one}") for one in seen.unread[:3]]
    return tuple(sorted(found, key=lambda one: one.severity != "warning"))[:20]


def _server_after(before: ServerSeen | None, look: ServerLook, limits: Limits, bucket: int) -> ServerSeen:
    known = before or ServerSeen()
    if look.state != "well":
        return known.model_copy(
            update={
                "looks": known.looks + 1,
                "ill_looks": known.ill_looks + 1,
                "ill": _exceeded(known.ill, bucket, 1, 0),
                "state": look.state,
                "why": look.why[:_LONGEST_WORDS],
            }
        )
    figures = _figures(look, limits)
    excesses = dict(known.excesses)
    for name, (figure, limit) in figures.items():
        if figure is not None and figure >= limit:
            excesses[name] = _exceeded(excesses.get(name), bucket, figure, limit)
    again = bool(known.epoch) and look.epoch != known.epoch
    slower = look.answer_ms is not None and look.answer_ms > known.slowest_ms
    return ServerSeen(
        looks=known.looks + 1,
        ill_looks=known.ill_looks,
        ill=known.ill,
        state="well",
        why=known.why,
        slowest_ms=look.answer_ms if slower and look.answer_ms is not None else known.slowest_ms,
        slowest_at=bucket if slower else known.slowest_at,
        excesses=excesses,
        counted=_counted(known, look),
        base=look.counters or known.base,
        epoch=look.epoch or known.epoch,
        restarts=known.restarts + int(again and bool(look.epoch)),
        cut_off=_exceeded(known.cut_off, bucket, 1, 0) if look.cut_off else known.cut_off,
        unknown=tuple(sorted(name for name, (figure, _) in figures.items() if figure is None)),
    )


def _figures(look: ServerLook, limits: Limits) -> dict[str, tuple[int | None, int]]:
    """By name, each figure that the server may have and from where on it is told."""
    found = {
        "percent of its connections": (_percent(look.connections, look.connections_max), limits.connections_percent)
    }
    if look.kind == "redis":
        # Without maxmemory nothing is ever full.
        memory = 0 if look.memory_max_bytes == 0 else _percent(look.memory_bytes, look.memory_max_bytes)
        found["percent of its memory"] = (memory, limits.redis_memory_percent)
        return found
    found["seconds in an idle transaction"] = (look.idle_in_transaction_seconds, limits.idle_in_transaction_seconds)
    found["seconds for a statement"] = (look.statement_seconds, limits.statement_seconds)
    if look.replication_lag_seconds is not None:
        found["seconds of replication lag"] = (look.replication_lag_seconds, limits.replication_lag_seconds)
    return found


def _percent(part: int | None, whole: int | None) -> int | None:
    return None if part is None or not whole else part * 100 // whole


def _exceeded(before: Excess | None, bucket: int, figure: int, limit: int) -> Excess:
    if before is None:
        return Excess(looks=1, since=bucket, last=bucket, most=figure, limit=limit)
    return Excess(looks=before.looks + 1, since=before.since, last=bucket, most=max(before.most, figure), limit=limit)


def _counted(known: ServerSeen, look: ServerLook) -> dict[str, int]:
    """What the counters grew by. One that is smaller than before was reset: it counts from 0. In the first look nothing grew yet."""
    counted = dict(known.counted)
    for name, value in look.counters.items():
        base = known.base.get(name)
        if base is None:
            continue
        more = value if value < base else value - base
        if more:
            counted[name] = counted.get(name, 0) + more
    return counted


def _of_server(name: str, one: ServerSeen, bucket: int) -> Iterable[Finding]:
    if one.ill is not None:
        said = (
            f"{name} did not answer or let nobody in, in {one.ill_looks} of {one.looks} looks:"
            f" first in {at_bucket(one.ill.since)}, last in bucket {one.ill.last}: {one.why}"
        )
        yield warning(said) if one.ill_looks >= _LASTING or one.ill.last == bucket else note(said)
    for what, excess in sorted(one.excesses.items()):
        said = (
            f"{name}: up to {excess.most} {what} (told from {excess.limit}), in {excess.looks} of {one.looks} looks"
            f" since {at_bucket(excess.since)}, last in bucket {excess.last}"
        )
        yield warning(said) if excess.looks >= _LASTING else note(said)
    for what, count in sorted(one.counted.items()):
        yield warning(f"{name}: {count} {what} since the watch began")
    if one.restarts:
        yield warning(f"{name} began anew {one.restarts} times since the watch began")
    if one.cut_off is not None:
        yield warning(
            f"{name} is a replica and received nothing from its primary, in {one.cut_off.looks} looks since {at_bucket(one.cut_off.since)}"
        )
    if one.unknown and one.looks > one.ill_looks:
        yield note(f"{name}: not known, which is not 0: {', '.join(one.unknown)}")
