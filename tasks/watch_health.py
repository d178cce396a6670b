"""One look at the databases of an environment and at its Redis, side by side, within two seconds. Reads only; whoever does not answer by then is away."""

import threading
import time
from collections.abc import Callable
from typing import Any, LiteralString
from urllib.parse import unquote, urlsplit

from core.container_trouble import cut
from core.environment import Database, Environment
from core.environment_watch_health import WatchHealth
from core.errors import NightshiftError, PermanentError
from core.redaction import register_secret
from core.watch_health import HealthLook, Limits, ServerLook, State
from tasks.postgres import describe, open_connection, translated
from tasks.secrets import resolve

SECONDS = 2.0
_REDIS_SECONDS = 1.0
_WORDS = 200
REDIS = "Redis"
# A server that is starting, ending or recovering speaks, too, and is away all the same.
_NOT_YET = "the database system is"
_FULL = "max number of clients reached"
# What is not of our own account's: a session of the watch is none of the application's.
_PREPARE: LiteralString = (
    "SET search_path = pg_catalog; SET statement_timeout = '1500ms'; SET lock_timeout = '1500ms'; SET TimeZone = 'UTC'"
)
# Sessions by pg_stat_database, which everybody may read; times of sessions by pg_stat_activity, which shows others' only to pg_read_all_stats. nightshift's own are
# left out: a backup is one long transaction. Without a WAL receiver nothing tells how far behind a replica is but the age of what it replayed last
# (PostgreSQL manual, "Recovery Information Functions").
_FIGURES: LiteralString = """
WITH activity AS (
  SELECT state, xact_start, query_start FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name NOT LIKE 'nightshift%'
)
SELECT
  (SELECT sum(numbackends) FROM pg_stat_database),
  current_setting('max_connections')::int,
  pg_has_role(current_user, 'pg_read_all_stats', 'usage'),
  (SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM activity WHERE state LIKE 'idle in transaction%'),
  (SELECT max(extract(epoch FROM clock_timestamp() - query_start)) FROM activity WHERE state = 'active'),
  (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()),
  pg_postmaster_start_time()::text,
  pg_is_in_recovery(),
  CASE WHEN NOT pg_is_in_recovery() THEN NULL
       WHEN EXISTS (SELECT FROM pg_stat_wal_receiver) AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
       ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END,
  EXISTS (SELECT FROM pg_stat_wal_receiver)
"""


class _Unread(Exception):  # noqa: N818 - no error: it is said
    """What could not be looked at for a reason of ours."""


def look_at_health(environment: Environment, settings: WatchHealth, *, seconds: float = SECONDS) -> HealthLook:
    """Given an environment and the table [watch.health], look at its databases and its Redis. Never raises: what does not answer is found away."""
    asked: dict[str, Callable[[], ServerLook]] = {}
    unread: list[str] = []
    if settings.databases:
        for name, database in environment.databases.items():
            asked[f"database {name}"] = _asking(_database_look, f"database {name}", database)
    else:
        unread.append("databases: watch.health.databases is false")
    if settings.redis_url is not None:
        asked[REDIS] = _asking(_redis_look, REDIS, settings.redis_url)
    else:
        unread.append("Redis: watch.health.redis_url is empty")
    looks: dict[str, ServerLook] = {}
    threads = [
        threading.Thread(target=_ask, args=(name, ask, looks, unread), daemon=True) for name, ask in asked.items()
    ]
    ends = time.monotonic() + seconds
    for one in threads:
        one.start()
    for one in threads:
        one.join(max(0.0, ends - time.monotonic()))
    late = f"it did not answer within {seconds:g} s"
    settled, told = dict(looks), tuple(unread)
    servers = [
        settled.get(name) or ServerLook(name=name, state="away", why=late)
        for name in asked
        if not any(one.startswith(f"{name}: ") for one in told)
    ]
    return HealthLook(servers=tuple(servers), limits=Limits.of(settings), unread=told)


def _asking(look: Callable[[str, Any], ServerLook], name: str, what: Any) -> Callable[[], ServerLook]:
    return lambda: look(name, what)


def _ask(name: str, ask: Callable[[], ServerLook], looks: dict[str, ServerLook], unread: list[str]) -> None:
    try:
        looks[name] = ask()
    except _Unread as error:
        unread.append(f"{name}: {cut(error, _WORDS)}")


def _database_look(name: str, database: Database) -> ServerLook:
    try:
        with (
            open_connection(
                database, application_name="nightshift watch", connect_timeout_seconds=round(SECONDS)
            ) as connection,
            translated("look at its health", describe(database)),
        ):
            connection.execute(_PREPARE)
            began = time.monotonic()
            connection.execute("SELECT 1")
            answered = time.monotonic() - began
            row = connection.execute(_FIGURES).fetchone()
        return _of_row(name, row or (), answered)
    except NightshiftError as error:
        if error.attempted == "resolve a secret":
            raise _Unread(str(error)) from error
        return ServerLook(name=name, state=_state_of(error), why=cut(error.found, _WORDS))
    except (ValueError, TypeError, IndexError) as error:
        why = f"it answered in an unknown form ({type(error).__name__}): is it PostgreSQL?"
        return ServerLook(name=name, state="refused", why=why)


def _state_of(error: NightshiftError) -> State:
    """While connecting there is no SQLSTATE; a server that says FATAL speaks."""
    speaks = isinstance(error, PermanentError) or "FATAL" in error.found
    return "refused" if speaks and _NOT_YET not in error.found else "away"


def _of_row(name: str, row: tuple[Any, ...], answered: float) -> ServerLook:
    backends, most, sees_all, idle, statement, deadlocks, started, replica, lag, receives = row

    def seconds(figure: Any) -> int | None:
        return int(figure or 0) if sees_all else None

    return ServerLook(
        name=name,
        state="well",
        answer_ms=round(answered * 1000),
        connections=int(backends),
        connections_max=int(most),
        idle_in_transaction_seconds=seconds(idle),
        statement_seconds=seconds(statement),
        replication_lag_seconds=max(0, int(lag)) if replica and lag is not None else None,
        cut_off=bool(replica) and not receives,
        counters={} if deadlocks is None else {"deadlocks": int(deadlocks)},
        epoch=str(started),
    )


def _redis_look(name: str, reference: str) -> ServerLook:
    import redis  # noqa: PLC0415 - a tick without Redis need not load it
    from redis import exceptions as errors  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    url = _redis_url(reference)
    try:
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=_REDIS_SECONDS,
            socket_timeout=_REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
    except (ValueError, TypeError) as error:
        # Not chained: it may hold a part of the address, and with it the password.
        raise _Unread(f"watch.health.redis_url is no address of Redis ({type(error).__name__})") from None
    refusals = (errors.AuthenticationError, errors.AuthorizationError, errors.MaxConnectionsError)
    try:
        with client:
            began = time.monotonic()
            client.ping()
            answered = time.monotonic() - began
            return _of_info(name, client.info(), answered)
    except (errors.RedisError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        speaks = isinstance(error, refusals) or _FULL in str(error)
        away = isinstance(error, errors.ConnectionError | errors.TimeoutError | OSError) and not speaks
        why = cut(f"{type(error).__name__}: {error}", _WORDS)
        return ServerLook(name=name, state="away" if away else "refused", kind="redis", why=why)


def _redis_url(reference: str) -> str:
    try:
        url = resolve(reference).get_secret_value().strip()
        password = urlsplit(url).password
    except NightshiftError as error:
        raise _Unread(str(error)) from error
    except ValueError:
        raise _Unread("watch.health.redis_url is no address of Redis") from None
    if password:
        register_secret(password)
        register_secret(unquote(password))
    return url


def _of_info(name: str, info: Any, answered: float) -> ServerLook:
    def figure(key: str) -> int | None:
        value = info.get(key)
        return int(value) if isinstance(value, int | float) and value >= 0 else None

    counters = {"evicted keys": figure("evicted_keys"), "rejected connections": figure("rejected_connections")}
    return ServerLook(
        name=name,
        state="well",
        kind="redis",
        answer_ms=round(answered * 1000),
        connections=figure("connected_clients"),
        connections_max=figure("maxclients"),
        memory_bytes=figure("used_memory"),
        memory_max_bytes=figure("maxmemory"),
        counters={key: value for key, value in counters.items() if value is not None},
        epoch=str(info.get("run_id") or "")[:40],
    )
