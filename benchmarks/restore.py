"""How fast and how lean a drill's restore is, against bare pg_restore of a file that lies ready on the disk.

    .venv/bin/python -m benchmarks.restore --mib 1024 --pairs 5

A drill fetches from S3, checks every sum, decompresses, restores and digests; bare is `pg_restore -j 2` of an uncompressed custom-format file into a server with
default settings. The drill's own scratch server is tuned, as drills are by default. Everything runs on this machine, the S3 stand-in (moto) too. The first pair is
a warm-up and not counted.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg.conninfo import make_conninfo

from benchmarks.backup import MIB, Bench, fill, fill_tenfold, make_platform
from benchmarks.measuring import Ratio, finish, median_ratio, own_peak_bytes, timed
from core.environment import Environment
from core.evidence import Report
from tasks.catalogue import read_catalogue, read_manifest
from tasks.clients import find_clients
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.postgres import libpq_environment
from tasks.scratch import open_scratch
from tasks.secrets import signing_keys

BACK_UP = "from flows.nightly_backup import nightly_backup; nightly_backup('local', retention='skip')"
DRILL = "from flows.dr_drill import dr_drill; dr_drill('local')"


@dataclass
class Runs:
    """Figures of each counted round, in seconds and bytes."""

    bare: list[float] = field(default_factory=list)
    drill: list[float] = field(default_factory=list)
    controls: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    plain_bytes: int = 0


def newest_report(environment: Environment) -> Report:
    """The report of what ran last."""
    return read_report(ObjectStore.open(environment), environment, signing_keys(environment))[1]


def bare(bench: Bench, archive: Path, scratch: Path) -> float:
    """Seconds of pg_restore -j 2 into a new database of a server with default settings."""
    environment = bench.environment
    settings = environment.model_copy(update={"drill": environment.drill.model_copy(update={"tuned": False})})
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    entry = read_catalogue(store, environment, "app").backups[-1]
    manifest, _ = read_manifest(store, environment, "app", entry.backup_id, keys)
    with open_scratch(settings, manifest, run_id="benchmark", work_parent=scratch) as server:
        login = make_conninfo(host=server.login.host, port=server.login.port, user=server.login.user, dbname="postgres")
        with psycopg.connect(login, autocommit=True) as connection:
            connection.execute("CREATE DATABASE bare TEMPLATE template0")
        into = libpq_environment(server.login.model_copy(update={"name": "bare"}))
        pg_restore = find_clients(int(bench.platform.postgres.version.split(".")[0])).pg_restore
        command = [
            str(pg_restore),
            "-j",
            "2",
            "--no-owner",
            "--no-privileges",
            "-n",
            "bench",
            "-d",
            "bare",
            str(archive),
        ]
        with psycopg.connect(make_conninfo(login, dbname="bare"), autocommit=True) as connection:
            connection.execute("CREATE SCHEMA bench")
        return timed(command, environment=into).wall_seconds


def drill(bench: Bench) -> tuple[dict[str, Any], Report, int]:
    """One run of the flow in a process of its own: the facts of its judgement, its report, and its peak memory in bytes."""
    peak_bytes = own_peak_bytes(DRILL, bench.flow_environment)
    report = newest_report(bench.environment)
    if report.flow != "dr-drill" or report.verdict == "failed":
        sys.exit(f"the drill failed: {[finding.text for step in report.steps for finding in step.findings]}")
    return next(step.facts for step in report.steps if step.name == "judge"), report, peak_bytes


def one_round(bench: Bench, runs: Runs, archive: Path, scratch: Path, *, counted: bool) -> None:
    """One of each, in turn."""
    plain = bare(bench, archive, scratch)
    facts, report, peak = drill(bench)
    seconds = facts["recovery_ms"] / 1000
    controls = next(step.duration_ms for step in report.steps if step.name == "negative controls") / 1000
    runs.plain_bytes = facts["plain_bytes"]
    print(
        f"bare {plain:.1f} s · drill {seconds:.1f} s · controls {controls:.1f} s · peak {peak / MIB:.0f} MiB{'' if counted else ' (warm-up)'}",
        flush=True,
    )
    if counted:
        runs.bare.append(plain)
        runs.drill.append(seconds)
        runs.controls.append(controls)
        runs.peak_bytes.append(peak)


def measure(mib: int, pairs: int) -> tuple[Runs, int]:
    """All rounds at this size; and the peak memory (bytes) of one drill at ten times of it."""
    runs = Runs()
    with tempfile.TemporaryDirectory(prefix="nightshift-benchmark-") as folder:
        scratch = Path(folder)
        # The scratch servers run as another user, where we are root.
        scratch.chmod(0o755)
        with make_platform(scratch / "platform") as platform:
            fill(platform, mib * MIB)
            bench = Bench(platform, scratch)
            archive = scratch / "bare.pgdump"
            with archive.open("wb") as out:
                subprocess.run(
                    [bench.pg_dump, "-Fc", "-Z0", "-n", "bench"], env=bench.client_environment, stdout=out, check=True
                )
            timed([sys.executable, "-c", BACK_UP], environment=bench.flow_environment)
            for number in range(pairs + 1):
                one_round(bench, runs, archive, scratch, counted=number > 0)
            fill_tenfold(platform)
            timed([sys.executable, "-c", BACK_UP], environment=bench.flow_environment)
            facts, _, tenfold_peak = drill(bench)
            print(
                f"ten times as long: {facts['recovery_ms'] / 1000:.1f} s · peak {tenfold_peak / MIB:.0f} MiB",
                flush=True,
            )
    return runs, tenfold_peak


def main(
    mib: Annotated[int, typer.Option(help="Size of the dump in MiB, about.", min=8)] = 1024,
    pairs: Annotated[int, typer.Option(help="Counted rounds.", min=1)] = 5,
) -> None:
    """Measure the drill's restore."""
    runs, tenfold_peak = measure(mib, pairs)
    peak = max(runs.peak_bytes)
    ratios = [
        Ratio("drill's restore ÷ bare pg_restore -j 2", median_ratio(runs.drill, runs.bare), 1.4),
        Ratio("negative controls ÷ drill's restore", median_ratio(runs.controls, runs.drill), 0.1),
        Ratio("peak memory of the flow's process", max(peak, tenfold_peak) / MIB, 384, unit="MiB"),
        Ratio("peak memory of a dump ten times as long ÷ peak memory", tenfold_peak / peak, 1.15),
    ]
    context = {
        "dump": f"{runs.plain_bytes / MIB:.0f} MiB plain",
        "rounds": pairs,
        "median bare pg_restore": f"{statistics.median(runs.bare):.1f} s",
        "processors": os.cpu_count(),
    }
    finish("restore", ratios, context)


if __name__ == "__main__":
    typer.run(main)
