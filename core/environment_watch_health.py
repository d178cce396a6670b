"""The table [watch.health]: the health of what the release works with."""

from pydantic import Field

from core.section import OptionalSecret, Section


class WatchHealth(Section):
    """PostgreSQL and Redis, looked at in each tick of a watch. They advise: nothing of it sends a release back."""

    databases: bool = Field(
        True,
        description="Look at the databases of [databases]. How long other roles' transactions and statements last is shown to members of pg_read_all_stats alone.",
    )
    redis_url: OptionalSecret = Field(
        None,
        description="Secret reference: redis://USER:PASSWORD@HOST:PORT/DB, rediss:// with TLS, unix:///PATH. Empty: Redis is not looked at.",
    )
    connections_percent: int = Field(
        80,
        ge=1,
        le=100,
        description="Told from so many percent of the connections, of a database's server or of Redis.",
    )
    idle_in_transaction_seconds: int = Field(
        60, ge=1, le=86400, description="Told from such an age of a transaction whose session does nothing, in seconds."
    )
    statement_seconds: int = Field(
        300, ge=1, le=86400, description="Told from such an age of a running statement, in seconds."
    )
    replication_lag_seconds: int = Field(
        60, ge=1, le=86400, description="Told from such a lag, when a database is a replica, in seconds."
    )
    redis_memory_percent: int = Field(
        90, ge=1, le=100, description="Told from so many percent of Redis' maxmemory, where it has one."
    )
