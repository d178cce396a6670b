"""How fast and how lean the nightly backup is, against bare pg_dump and against dump-then-gzip-then-upload.

    .venv/bin/python -m benchmarks.backup --mib 1024 --pairs 5

Everything runs on this machine: PostgreSQL, the S3 stand-in (moto, which takes its share of the processors), the Prefect server and the flow, which is run
as a worker runs it: a process of its own. The first round is a warm-up and not counted. The database is the sample plus generated rows (generated_database.py).

Memory is compared with one run of a stream ten times as long. What it could grow with fills up within the first hundreds of MiB: parts under way, blocks read ahead.

A round: bare, without digests, bare, with digests, bare, the old way. Each backup is compared with the mean of the bare dumps right before and after it:
shared machines change their speed from minute to minute. The old way computes no digests, so its bar is against the backup without them.
"""

import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg.conninfo import make_conninfo

from benchmarks.generated_database import generate, multiply
from benchmarks.measuring import Ratio, finish, median_ratio, own_peak_bytes, timed
from core.environment import Environment
from core.evidence import Report
from core.keys import backup_folder
from deployments.local.platform import Platform
from tasks.clients import find_clients
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.postgres import libpq_environment
from tasks.secrets import signing_keys

MIB = 1024 * 1024
# The sample database, with all its oddities, is there too; it is small beside the generated rows.
SAMPLE_ROWS = 200
# To complete an upload, moto copies the whole object five times, in memory that it asks the system for anew each time: after a dump of 1 GiB that alone took 0.8 to
# 1.1 s, in which nothing else happens. It keeps memory that it once had (glibc manual, "Memory Allocation Tunables"), and the copies take a fifth of that.
STAND_IN = {
    "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(1 << 40),
    "GLIBC_TUNABLES": f"glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold={1 << 40}:glibc.malloc.hugetlb=1",
}
RUN_FLOW = "from flows.nightly_backup import nightly_backup; nightly_backup('local', retention='skip')"


@dataclass
class Runs:
    """Figures of each counted round, in seconds and bytes."""

    bare_beside_without: list[float] = field(default_factory=list)
    bare_beside_with: list[float] = field(default_factory=list)
    without_digests: list[float] = field(default_factory=list)
    with_digests: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    old_way: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    stored_bytes: int = 0
    plain_bytes: int = 0
    gzip_bytes: int = 0


class Bench:
    """The platform under measurement."""

    def __init__(self, platform: Platform, scratch: Path) -> None:
        self.platform, self.scratch = platform, scratch
        os.environ.update(platform.variables)
        self.flow_environment = {
            **os.environ,
            "PREFECT_API_URL": platform.prefect.api_url,
            "PREFECT_API_AUTH_STRING": platform.prefect.auth_string,
            "PREFECT_LOGGING_LEVEL": "WARNING",
        }

    @property
    def environment(self) -> Environment:
        return load_environment("local")

    def bare(self) -> float:
        """pg_dump >/dev/null, as an operator would run it."""
        return timed([self.pg_dump], environment=self.client_environment).wall_seconds

    @property
    def pg_dump(self) -> str:
        return str(find_clients(int(self.platform.postgres.version.split(".")[0])).pg_dump)

    @property
    def client_environment(self) -> dict[str, str]:
        return libpq_environment(self.environment.databases["app"])

    def old_way(self) -> tuple[float, int]:
        """pg_dump > file; gzip file; upload it with boto3's transfer manager, which `aws s3 cp` uses too. Seconds, and bytes stored."""
        plain = self.scratch / "dump.sql"
        seconds = timed([self.pg_dump], environment=self.client_environment, stdout=str(plain)).wall_seconds
        seconds += timed(["gzip", str(plain)]).wall_seconds
        packed = plain.with_suffix(".sql.gz")
        size = packed.stat().st_size
        store = self.platform.store
        copy = (
            "import boto3,sys; boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id=sys.argv[2],"
            " aws_secret_access_key=sys.argv[3]).upload_file(sys.argv[4], sys.argv[5], 'old-way')"
        )
        seconds += timed(
            [sys.executable, "-c", copy, store.endpoint_url, store.key_id, store.secret_key, str(packed), store.bucket]
        ).wall_seconds
        packed.unlink()
        return seconds, size

    def backup(self, digests: str) -> tuple[Report, int]:
        """One run of the flow; its report, and its process's peak memory in bytes. The backup is removed again."""
        variables = {**self.flow_environment, "NIGHTSHIFT_LOCAL__DATABASES__APP__DIGESTS": digests}
        peak_bytes = own_peak_bytes(RUN_FLOW, variables)
        environment = self.environment
        store = ObjectStore.open(environment)
        _, report = read_report(store, environment, signing_keys(environment))
        backup_id = next(step.facts["backup_id"] for step in report.steps if "backup_id" in step.facts)
        store.remove_folder(backup_folder(environment.prefix, "app", backup_id))
        return report, peak_bytes


def make_platform(folder: Path, **more: Any) -> Platform:
    """A platform with a small sample, not started yet. Its S3 stand-in keeps objects in memory: the disks of a real S3 are not this machine's."""
    return Platform(folder, rows=SAMPLE_ROWS, preferred_port=0, store_variables=STAND_IN, **more)


def fill(platform: Platform, size_bytes: int) -> None:
    """Add generated rows to the platform's database."""
    generate(make_conninfo(platform.postgres.admin_conninfo, dbname="platform"), size_bytes=size_bytes)


def fill_tenfold(platform: Platform) -> None:
    """Make the platform's database, filled before, ten times as large."""
    multiply(make_conninfo(platform.postgres.admin_conninfo, dbname="platform"), 10)


def backup_seconds(report: Report) -> float:
    """From the first task to the committed manifest."""
    steps = {step.name: step for step in report.steps}
    first, last = steps["check before"], steps["commit the manifest"]
    return (last.started - first.started).total_seconds() + last.duration_ms / 1000


def decode_seconds(report: Report) -> float:
    """Reading back and decoding."""
    return next(step.duration_ms for step in report.steps if step.name == "read back and decode") / 1000


def one_round(bench: Bench, runs: Runs, *, counted: bool) -> None:
    """One of each, in turn."""
    bare = [bench.bare()]
    off, _ = bench.backup("off")
    bare.append(bench.bare())
    full, peak = bench.backup("full")
    bare.append(bench.bare())
    old, gzip_bytes = bench.old_way()
    facts = next(step.facts for step in full.steps if "stored_bytes" in step.facts)
    runs.stored_bytes, runs.plain_bytes, runs.gzip_bytes = facts["stored_bytes"], facts["plain_bytes"], gzip_bytes
    print(
        f"bare {', '.join(f'{seconds:.1f}' for seconds in bare)} s · without digests {backup_seconds(off):.1f} s · with {backup_seconds(full):.1f} s"
        f" · decode {decode_seconds(full):.1f} s · old way {old:.1f} s · peak {peak / MIB:.0f} MiB{'' if counted else ' (warm-up)'}",
        flush=True,
    )
    if counted:
        runs.bare_beside_without.append(statistics.mean(bare[:2]))
        runs.bare_beside_with.append(statistics.mean(bare[1:]))
        runs.without_digests.append(backup_seconds(off))
        runs.with_digests.append(backup_seconds(full))
        runs.decode.append(decode_seconds(full))
        runs.old_way.append(old)
        runs.peak_bytes.append(peak)


def measure(mib: int, pairs: int) -> tuple[Runs, float]:
    """All rounds at this size; and the peak memory (bytes) of one run at ten times of it."""
    runs = Runs()
    with tempfile.TemporaryDirectory(prefix="nightshift-benchmark-") as folder:
        scratch = Path(folder)
        with make_platform(scratch / "platform") as platform:
            fill(platform, mib * MIB)
            bench = Bench(platform, scratch)
            for number in range(pairs + 1):
                one_round(bench, runs, counted=number > 0)
            fill_tenfold(platform)
            longer, tenfold_peak = bench.backup("full")
            print(f"ten times as long: {backup_seconds(longer):.1f} s · peak {tenfold_peak / MIB:.0f} MiB", flush=True)
    return runs, tenfold_peak


def main(
    mib: Annotated[int, typer.Option(help="Size of the dump in MiB, about.", min=8)] = 1024,
    pairs: Annotated[int, typer.Option(help="Counted rounds.", min=1)] = 5,
) -> None:
    """Measure the nightly backup."""
    runs, tenfold_peak = measure(mib, pairs)
    peak = max(runs.peak_bytes)
    ratios = [
        Ratio(
            "backup without digests ÷ bare pg_dump", median_ratio(runs.without_digests, runs.bare_beside_without), 1.25
        ),
        Ratio("backup with digests ÷ bare pg_dump", median_ratio(runs.with_digests, runs.bare_beside_with), 1.75),
        Ratio("decode ÷ bare pg_dump", median_ratio(runs.decode, runs.bare_beside_with), 0.6),
        Ratio(
            "dump; gzip; upload ÷ backup without digests",
            median_ratio(runs.old_way, runs.without_digests),
            4.0,
            at_most=False,
        ),
        Ratio("stored bytes ÷ gzip's", runs.stored_bytes / runs.gzip_bytes, 0.7),
        Ratio("peak memory of the flow's process", max(peak, tenfold_peak) / MIB, 384, unit="MiB"),
        Ratio("peak memory of a stream ten times as long ÷ peak memory", tenfold_peak / peak, 1.15),
    ]
    context = {
        "dump": f"{runs.plain_bytes / MIB:.0f} MiB plain, {runs.stored_bytes / MIB:.0f} MiB stored, {runs.gzip_bytes / MIB:.0f} MiB gzip",
        "rounds": pairs,
        "dump; gzip; upload ÷ backup with digests": f"{median_ratio(runs.old_way, runs.with_digests):.2f}",
        "median bare pg_dump": f"{statistics.median(runs.bare_beside_without):.1f} s",
        "processors": os.cpu_count(),
    }
    finish("backup", ratios, context)


if __name__ == "__main__":
    typer.run(main)
