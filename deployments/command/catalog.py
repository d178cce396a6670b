"""`nightshift catalog ENV`: which backups there are, what they are worth, and how old the newest good ones are."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.table import Table
from rich.text import Text

from core.catalogue import Catalogue, CatalogueEntry
from core.checks import Check
from core.environment import Environment
from core.errors import ConfigurationError, PermanentError
from core.keys import database_folder
from core.objectives import check_objectives
from core.units import counted, human_age, human_bytes, ratio_text
from deployments.command.terminal import EXIT_NOT_WELL, console, print_json
from tasks.catalogue import read_catalogue, require_own_folder
from tasks.environments import load_environment
from tasks.left_databases import left_databases
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tasks.stock import missed_backups
from tasks.trust import Examined, Examiner, gap_sentence

# Beside a state in the table; what it stands for is told below, since the table has no room for it in 80 columns.
PROVEN_BUT = "*"
_STATES = {"proven": "green", "decoded": "cyan", "uploaded": "yellow"}
_MARKS = {"passed": ("✔", "green"), "warning": ("✘", "red"), "failed": ("✘", "red")}


@dataclass(frozen=True)
class DatabaseView:
    """One database's backups: the catalogue as listed, what was examined of it, and how it stands against the objectives."""

    database: str
    folder: str
    catalogue: Catalogue
    examined: dict[str, Examined]
    objectives: tuple[Check, Check]
    folder_problem: str = ""
    missed: str = ""

    @property
    def problems(self) -> list[str]:
        """What is forged, damaged, gone or another environment's, a sentence each."""
        removed = [
            f"{entry.backup_id} was decoded once and has no manifest any more: somebody removed it"
            for entry in self.catalogue.incomplete
            if entry.manifest_removed
        ]
        bad = (examined.told for examined in self.examined.values() if examined.told)
        # Of a folder that is not ours the same is found at each backup: once is enough.
        told = [problem for problem in (self.folder_problem, self.missed) if problem]
        return [*told, *removed, *(problem for problem in bad if problem not in told)]

    @property
    def gaps(self) -> list[str]:
        """Which backups lack what their database had, a sentence each. They count for neither age."""
        told = (gap_sentence(backup_id, examined.gaps) for backup_id, examined in sorted(self.examined.items()))
        return [sentence for sentence in told if sentence]

    @property
    def well(self) -> bool:
        """Whether both objectives are met and nothing that was looked at is forged or damaged."""
        return not self.problems and all(check.state == "passed" for check in self.objectives)


def catalog_command(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
    ],
    database: Annotated[
        list[str] | None, typer.Option("--database", "-d", help="Only this database; may be given several times.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Show and verify so many of the newest backups of each database.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """List an environment's backups, rebuilt from the bucket alone. Exit code 1 when an objective is missed or a manifest is forged."""
    loaded = load_environment(environment)
    now = datetime.now(UTC)
    views = [view_database(loaded, name, now, limit) for name in _chosen(loaded, database or ())]
    well = all(view.well for view in views)
    left = list(left_databases(ObjectStore.open(loaded), loaded, signing_keys(loaded)))
    if as_json:
        databases = [as_document(view, now, limit) for view in views]
        print_json({"environment": loaded.name, "well": well, "databases": databases, "left_databases": left})
    else:
        for view in views:
            show(view, loaded.zone, now, limit)
        for sentence in left:
            console.print(Text.assemble(("!", "yellow"), f" {sentence}"))
    raise typer.Exit(0 if well else EXIT_NOT_WELL)


def view_database(environment: Environment, database: str, now: datetime, limit: int) -> DatabaseView:
    """Given an environment, a database's key, the time (aware) and how many backups to examine, return its view. Raise NightshiftError."""
    store = ObjectStore.open(environment)
    keys = signing_keys(environment)
    catalogue = read_catalogue(store, environment, database)
    folder_problem = ""
    try:
        require_own_folder(store, environment, database, keys)
    except PermanentError as error:
        folder_problem = str(error)
    examiner = Examiner(store, environment, database, keys)
    for entry in _newest(catalogue, limit):
        examiner.examine(entry)
    examiner.examine_marked(catalogue)
    # The two ages are told of backups whose signatures were seen, wherever in the catalogue those are.
    known = examiner.verified(catalogue, without_gaps=True)
    return DatabaseView(
        database=database,
        folder=f"s3://{store.bucket}/{database_folder(environment.prefix, database)}",
        catalogue=catalogue,
        examined=examiner.examined,
        objectives=check_objectives(
            environment.name, database, known, environment.objectives, now, reservations=examiner.reservations
        ),
        folder_problem=folder_problem,
        missed=missed_backups(store, environment, database, keys, catalogue=catalogue, now=now),
    )


def as_document(view: DatabaseView, now: datetime, limit: int) -> dict[str, Any]:
    """Given a database's view, return it for scripts: every backup, newest first; what was read of a manifest for the newest ones only."""
    return {
        "database": view.database,
        "folder": view.folder,
        "objectives": [check.model_dump(mode="json") for check in view.objectives],
        "problems": view.problems,
        "gaps": view.gaps,
        "backups": [_row(entry, view.examined.get(entry.backup_id), now) for entry in _newest(view.catalogue)],
        "verified_newest": limit,
        "incomplete": [entry.backup_id for entry in view.catalogue.incomplete],
        "foreign_objects": view.catalogue.foreign,
    }


def show(view: DatabaseView, zone: ZoneInfo, now: datetime, limit: int) -> None:
    """Print a database's backups as a table, newest first, then how the objectives stand and what is not well."""
    console.print(Text.assemble((view.database, "bold"), f" · {view.folder} · times in {zone.key}"))
    # Narrow enough for 80 columns, so that neither a state nor an id is ever cut.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("Backup", "Snapshot", "Age", "State"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Stored", "Ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in _newest(view.catalogue, limit):
        table.add_row(*_cells(entry, view.examined.get(entry.backup_id), zone, now))
    console.print(table)
    for note in reservation_notes(view, limit):
        console.print(f"  {note}")
    backups = len(view.catalogue.backups)
    if backups > limit:
        console.print(f"  and {counted(backups - limit, 'older one')} (--limit {backups} shows all)")
    _show_remains(view.catalogue)
    for check in view.objectives:
        console.print(Text.assemble(_MARKS[check.state], f" {check.name}: {check.found}"))
        if check.state != "passed" and check.next_step:
            console.print(f"  → {check.next_step}")
    for problem in (*view.gaps, *view.problems):
        console.print(Text.assemble(("✘", "red"), f" {problem}"))
    console.print()


def _show_remains(catalogue: Catalogue) -> None:
    if catalogue.incomplete:
        console.print(f"  {len(catalogue.incomplete)} unfinished: being made, or remains that a later run sweeps")
    if catalogue.foreign:
        console.print(f"  {counted(catalogue.foreign, 'object')} in the folder that nightshift did not write")


def reservation_notes(view: DatabaseView, limit: int) -> list[str]:
    """Given a database's view and how many backups are shown, return a line for each way in which a proof among them is not of all tables."""
    alike: dict[str, list[str]] = {}
    for entry in _newest(view.catalogue, limit):
        if text := _reservation(entry, view.examined.get(entry.backup_id)):
            alike.setdefault(text, []).append(entry.backup_id)
    return [
        f"{PROVEN_BUT} {text}" + (f" ({len(names)} backups, the newest {names[0]})" if len(alike) > 1 else "")
        for text, names in alike.items()
    ]


def _reservation(entry: CatalogueEntry, examined: Examined | None) -> str:
    """What a proof of this backup leaves out; empty for one that is whole, or none."""
    if entry.state != "proven" or examined is None or not examined.compared.reserved:
        return ""
    return f"proven, {examined.compared.short} of {examined.compared.all}: {examined.compared.reservation}"


def _chosen(environment: Environment, wanted: list[str] | tuple[()]) -> list[str]:
    unknown = sorted(set(wanted) - environment.databases.keys())
    if unknown:
        raise ConfigurationError(
            "read the catalogue",
            f"environment {environment.name}",
            f"no database {', '.join(unknown)}",
            f"It has: {', '.join(environment.databases)}",
        )
    return [name for name in environment.databases if not wanted or name in wanted]


def _newest(catalogue: Catalogue, limit: int | None = None) -> list[CatalogueEntry]:
    return list(reversed(catalogue.backups))[:limit]


def _row(entry: CatalogueEntry, examined: Examined | None, now: datetime) -> dict[str, Any]:
    manifest = examined.manifest if examined else None
    return {
        "backup_id": entry.backup_id,
        "snapshot_time": entry.snapshot_time.isoformat(),
        "age_hours": round((now - entry.snapshot_time).total_seconds() / 3600, 2),
        "state": entry.state,
        "verified_state": examined.worth if examined and manifest else None,
        "trusted": None if examined is None else not examined.told,
        "missing_objects": len(examined.gaps) if examined else None,
        "size_bytes": entry.size_bytes,
        "plain_bytes": manifest.plain_bytes if manifest else None,
        "tables": _tables(examined),
        "objects": len(entry.suffixes),
    }


def _tables(examined: Examined | None) -> dict[str, int] | None:
    """By what a drill compares its tables: a proof says nothing of the others."""
    if examined is None or examined.manifest is None:
        return None
    compared = examined.compared
    return {"compared": compared.full, "counted_only": compared.counts, "not_compared": compared.off}


def _cells(entry: CatalogueEntry, examined: Examined | None, zone: ZoneInfo, now: datetime) -> tuple[str | Text, ...]:
    manifest = examined.manifest if examined else None
    trusted = examined is None or not examined.problem
    word = "DAMAGED" if examined is not None and examined.worth == "damaged" else "NOT TRUSTED"
    mark = PROVEN_BUT if _reservation(entry, examined) else ""
    state = Text(f"{entry.state}{mark}", _STATES[entry.state]) if trusted else Text(word, "red")
    if trusted and examined and examined.gaps:
        state = Text(f"{entry.state}, gaps", "red")
    return (
        entry.backup_id,
        f"{entry.snapshot_time.astimezone(zone):%m-%d %H:%M}",
        human_age(now - entry.snapshot_time),
        state,
        human_bytes(entry.size_bytes),
        ratio_text(manifest.plain_bytes, manifest.stored_bytes) if manifest else "–",
    )
