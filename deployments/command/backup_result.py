"""What a backup came to, read from S3: the manifest, the state, the retention's plan and the newest report; for people, and as files that stay."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from core.catalogue import CatalogueEntry
from core.compared_tables import compared_tables
from core.environment import Environment
from core.errors import PermanentError
from core.evidence import Report
from core.manifest import Manifest
from core.report_text import render_report
from core.retention import Plan, plan_retention
from core.units import human_bytes, human_duration
from deployments.command.terminal import console
from tasks.catalogue import read_catalogue, read_manifest
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys

_TABLES_SHOWN = 15


@dataclass(frozen=True)
class DatabaseResult:
    """The newest backup of one database, and the retention's plan for all of them."""

    database: str
    entry: CatalogueEntry
    manifest: Manifest
    plan: Plan


@dataclass(frozen=True)
class Result:
    """The newest backup of each database of an environment, and the newest report with its key."""

    environment: Environment
    databases: tuple[DatabaseResult, ...]
    report_key: str
    report: Report

    @property
    def report_address(self) -> str:
        """Where the report lies."""
        return f"s3://{self.environment.store.bucket}/{self.report_key}"


def read_result(environment_name: str) -> Result:
    """Given an environment, read its newest backups and its newest report from S3, signatures checked. Raise PermanentError when a database has no backup."""
    environment = load_environment(environment_name)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    databases = []
    for database in environment.databases:
        catalogue = read_catalogue(store, environment, database)
        if not catalogue.backups:
            raise PermanentError("read the backup", f"{environment_name}/{database}", "there is none in the bucket")
        entry = catalogue.backups[-1]
        manifest, _ = read_manifest(store, environment, database, entry.backup_id, keys)
        plan = plan_retention(catalogue.entries, environment.retention, datetime.now(UTC), environment.zone)
        databases.append(DatabaseResult(database, entry, manifest, plan))
    report_key, report = read_report(store, environment, keys)
    return Result(environment, tuple(databases), report_key, report)


def save_result(result: Result, folder: Path) -> Path:
    """Write the report (JSON and Markdown) and the manifests below folder, and return the Markdown's path: they outlive the platform's S3."""
    text = folder / "report.md"
    text.write_text(render_report(result.report, result.environment.zone, result.report_address))
    (folder / "report.json").write_text(_as_json(result.report.model_dump(mode="json")))
    for database in result.databases:
        (folder / f"manifest-{database.database}.json").write_text(_as_json(database.manifest.model_dump(mode="json")))
    return text


def show_result(result: Result, copy: Path) -> None:
    """Print the result as tables."""
    for database in result.databases:
        _show_database(database)
    report = result.report
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    seconds = human_duration(int((report.finished - report.started).total_seconds() * 1000))
    table.add_row("verdict", f"{report.verdict} ({seconds})")
    table.add_row("evidence", f"{result.report_address} (report {report.sequence}, signed)")
    table.add_row("a copy", str(copy))
    console.print(table)


def _show_database(result: DatabaseResult) -> None:
    manifest, entry = result.manifest, result.entry
    ratio = manifest.plain_bytes / max(manifest.stored_bytes, 1)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("backup", Text(entry.backup_id, "bold"))
    facts.add_row(
        "state", f"{entry.state} (read back from S3, decoded, counted)" if entry.state == "decoded" else _proof(result)
    )
    facts.add_row(
        "size",
        f"{human_bytes(manifest.plain_bytes)} dumped, {human_bytes(manifest.stored_bytes)} stored: {ratio:.1f} times smaller",
    )
    facts.add_row(
        "from",
        f"{manifest.server.database_name}, PostgreSQL {manifest.server.version}, with pg_dump {manifest.tools.pg_dump}",
    )
    facts.add_row(
        "objects",
        f"{manifest.coverage.expected} in the catalogue, {len(manifest.coverage.missing)} missing in the dump",
    )
    console.rule(f"{manifest.environment} / {result.database}", align="left")
    console.print(facts)
    console.print(_tables(manifest))
    console.print(_plan(result.plan))


def _proof(result: DatabaseResult) -> str:
    """A proof is not shown without what it leaves out."""
    short = compared_tables(result.manifest.tables).short if result.entry.state == "proven" else ""
    return f"{result.entry.state}, {short}" if short else result.entry.state


def _tables(manifest: Manifest) -> Table:
    table = Table(title="tables, largest first", title_justify="left", box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("rows", justify="right")
    table.add_column("digest", style="dim")
    ordered = sorted(manifest.tables, key=lambda one: (-(one.rows or 0), one.qualified))
    for one in ordered[:_TABLES_SHOWN]:
        table.add_row(one.qualified, "–" if one.rows is None else f"{one.rows:,}", one.digest or "–")
    rest = ordered[_TABLES_SHOWN:]
    if rest:
        table.add_row(f"… and {len(rest)} more", f"{sum(one.rows or 0 for one in rest):,}", "in the manifest")
    return table


def _plan(plan: Plan) -> Table:
    table = Table(title="retention plan", title_justify="left", box=None, pad_edge=False)
    for name in ("backup", "", "reason"):
        table.add_column(name)
    for decision in plan.decisions:
        table.add_row(decision.backup_id, "keep" if decision.keep else "delete", decision.reason)
    return table


def _as_json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
