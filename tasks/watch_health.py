"""One look at the databases of an environment and at its Redis, side by side, within two seconds. Reads only; whoever does not answer by then is away."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, LiteralString
from urllib.parse import unquote, urlsplit

from core.container_trouble import cut
from core.environment import Environment
from core.environment_database import Database
from core.environment_watch_health import WatchHealth
from core.errors import NightshiftError, PermanentError
from core.redaction import register_secret
from core.watch_health import HealthLook, Limits, ServerLook, State
from tasks.postgres import describe, open_connection, translated
from tasks.secrets import resolve
from tasks.side_by_side import ask_all

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


def look_at_health(environment: Environment, settings: WatchHealth, *, seconds: float = SECONDS) -> HealthLook:
    """Given an environment and the table [watch.health], look at its databases and its Redis. Never raises: what does not answer is found away."""
    asks: dict[str, Callable[[], ServerLook | str]] = {}
    unread: list[str] = []
    if settings.databases:
        asks = {f"database {name}": partial(_database_look, name, one) for name, one in environment.databases.items()}
    else:
        unread.append("databases: watch.health.databases is false")
    if settings.redis_url is not None:
        asks[REDIS] = partial(_redis_look, settings.redis_url)
    else:
        unread.append("Redis: watch.health.redis_url is empty")
    answers, servers = ask_all(asks, seconds=seconds), list[ServerLook]()
    for name in asks:
        answer = answers.get(name) or ServerLook(name=name, state="away", why=f"it did not answer within {seconds:g} s")
        if isinstance(answer, ServerLook):
            servers.append(answer)
        else:
            unread.append(f"{name}: {cut(answer, _WORDS)}")
    return HealthLook(servers=tuple(servers), limits=Limits.of(settings), unread=tuple(unread))


def _database_look(key: str, database: Database) -> ServerLook | str:
    """What is found, or why it was not looked at for a reason of our own."""
    name = f"database {key}"
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
            return str(error)
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


def _redis_look(reference: str) -> ServerLook | str:
    """As `_database_look`."""
    import redis  # noqa: PLC0415 - a tick without Redis need not load it
    from redis import exceptions as errors  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    try:
        url = _redis_url(reference)
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=_REDIS_SECONDS,
            socket_timeout=_REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
    except NightshiftError as error:
        return str(error)
    except (ValueError, TypeError) as error:
        # Its text may hold a part of the address, and with it the password.
        return f"watch.health.redis_url is no address of Redis ({type(error).__name__})"
    refusals = (errors.AuthenticationError, errors.AuthorizationError, errors.MaxConnectionsError)
    try:
        with client:
            began = time.monotonic()
            client.ping()
            answered = time.monotonic() - began
            return _of_info(client.info(), answered)
    except (errors.RedisError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        speaks = isinstance(error, refusals) or _FULL in str(error)
        away = isinstance(error, errors.ConnectionError | errors.TimeoutError | OSError) and not speaks
        why = cut(f"{type(error).__name__}: {error}", _WORDS)
        return ServerLook(name=REDIS, state="away" if away else "refused", kind="redis", why=why)


def _redis_url(reference: str) -> str:
    """The address; its password is a secret by itself. Raise ValueError when it is none."""
    url = resolve(reference).get_secret_value().strip()
    if password := urlsplit(url).password:
        register_secret(password)
        register_secret(unquote(password))
    return url


def _of_info(info: Any, answered: float) -> ServerLook:
    def figure(key: str) -> int | None:
        value = info.get(key)
        return int(value) if isinstance(value, int | float) and value >= 0 else None

    counters = {"evicted keys": figure("evicted_keys"), "rejected connections": figure("rejected_connections")}
    return ServerLook(
        name=REDIS,
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
