"""The tables of an environment's file that restores, drills and application state need. Backups alone need none of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.section import Name, OptionalSecret, OptionalText, Section


class RestoreServer(Section):
    """A PostgreSQL server on which restores make databases: [servers.NAME]."""

    host: str = Field(min_length=1, description="Host name or address; or the folder of a Unix socket.")
    port: int = Field(5432, ge=1, le=65535, description="Port of a direct connection, not a pooler's.")
    user: str = Field(
        min_length=1,
        max_length=63,
        description="Role that makes databases (CREATEDB, CREATEROLE, or superuser). A dump's functions run as this role while it is restored.",
    )
    password: OptionalSecret = Field(
        None, description="Secret reference. Empty: no password (peer, certificate, IAM proxy)."
    )
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="As libpq's sslmode."
    )
    sslrootcert: OptionalText = Field(None, description="Path of the CA file for verify-ca and verify-full.")
    maintenance_database: str = Field(
        "postgres", min_length=1, max_length=63, description="Database to connect to while others are made and renamed."
    )


class Restore(Section):
    """How restores go about it."""

    jobs: int = Field(2, ge=1, le=32, description="pg_restore's parallel jobs.")
    spool_directory: OptionalText = Field(
        None,
        description="Local folder for the fetched dump while it is restored. Empty: the temporary folder. Without the space a restore streams with one job.",
    )
    spool_reserve_mib: int = Field(1024, ge=16, description="So much of the spool's disk is left free.")
    drain_seconds: int = Field(
        60, ge=1, le=3600, description="Swap: how long sessions of the live database may take to end by themselves."
    )
    approval_hours: int = Field(24, ge=1, le=168, description="Swap: how long the run waits for its approval.")


class Invariant(Section):
    """A fact that must hold in every restored copy: SQL and the value that it must give."""

    name: str = Field(min_length=1, description="What it says, for the report.")
    database: Name = Field(description="Which of [databases.NAME] it is asked of.")
    sql: str = Field(
        min_length=1,
        description="A query that gives one row of one column; run read-only, with a time-out of five minutes.",
    )
    expected: str = Field(description="The value as text, as psql prints it.")


class ScratchPod(Section):
    """The Pod that a drill with scratch = "pod" makes and removes."""

    namespace: str = Field("nightshift-drills", description="Namespace of the Pod; must exist.")
    image: str = Field("postgres:16", description="Image with initdb and postgres of the dump's major or newer.")
    context: OptionalText = Field(
        None, description="Context of the kubeconfig. Empty: its current one, or the Pod's own service account."
    )
    memory: str = Field("1Gi", description="Memory limit, as Kubernetes writes it.")
    cpu: str = Field("1", description="CPU limit, as Kubernetes writes it.")
    disk: str = Field("10Gi", description="Size limit of the volume (emptyDir) that holds the cluster.")
    start_seconds: int = Field(180, ge=10, le=3600, description="How long the Pod may take to be ready.")


class Drill(Section):
    """The daily rehearsal of a restore."""

    scratch: Literal["embedded", "server", "pod"] = Field(
        "embedded",
        description="Where the copy is restored. embedded: a server that the worker starts. server: one of [servers.NAME]. pod: a Pod.",
    )
    server: OptionalText = Field(
        None, description='scratch = "server": its name in [servers.NAME]. Never a configured source.'
    )
    tuned: bool = Field(
        True,
        description="embedded, pod: fsync off and wal_level minimal; quicker, and the recovery time is then only indicative.",
    )
    require_isolation: bool = Field(
        False,
        description="embedded: fail rather than restore where the scratch server cannot be kept from the network and from secrets.",
    )
    invariants: tuple[Invariant, ...] = Field((), description="Facts that must hold in the copy.")
    smoke_command: tuple[str, ...] = Field(
        (),
        description="Program and arguments run against the copy (PGHOST … in its environment, nothing else); must exit 0.",
    )
    smoke_seconds: int = Field(300, ge=1, le=86400, description="How long the smoke command may take.")
    pod: ScratchPod = Field(default_factory=ScratchPod, description='scratch = "pod": the Pod.')

    @model_validator(mode="after")
    def _server_agrees(self) -> "Drill":
        if (self.scratch == "server") != (self.server is not None):
            raise ValueError("server goes with scratch = 'server', and that with it")
        return self


class BackupCopy(Section):
    """A copy of the bucket in another region, kept by S3 replication, that drills may read instead: [copy_store]."""

    bucket: str = Field(min_length=3, max_length=63, description="The copy's bucket; the prefix is the same.")
    region: str = Field("us-east-1", description="Its AWS region.")
    endpoint_url: OptionalText = Field(None, description="Address of an S3 service other than AWS. Empty: AWS.")
    access_key_id: OptionalSecret = Field(None, description="Secret reference. Empty: as [store].")
    secret_access_key: OptionalSecret = Field(None, description="Secret reference; goes with access_key_id.")


class AppState(Section):
    """The cluster's application state, backed up by Velero: [app_state]."""

    namespaces: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="Namespaces to back up.")
    excluded_kinds: tuple[str, ...] = Field(
        ("events", "events.events.k8s.io"), description="Resources to leave out, as Velero's excludedResources."
    )
    storage_location: str = Field("default", description="Velero's BackupStorageLocation; must be Available.")
    ttl_hours: int = Field(720, ge=1, description="How long Velero keeps the backup.")
    velero_namespace: str = Field("velero", description="Where Velero runs.")
    context: OptionalText = Field(
        None, description="Context of the kubeconfig. Empty: its current one, or the Pod's own service account."
    )
    timeout_minutes: int = Field(
        60, ge=1, le=1440, description="A backup or restore that takes longer is stuck: a failure."
    )
    drill_namespace: str = Field(
        "nightshift-app-state-drill", description="Scratch namespace that a drill restores into and removes."
    )
