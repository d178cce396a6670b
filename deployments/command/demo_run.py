"""What the demo runs through the platform's server: a backup, a drill that proves it, a drill of a damaged copy that must refuse it, and a restore
side by side. Apart from demo.py, since it imports Prefect, which takes seconds."""

import os
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from core.evidence import Report
from core.keys import backup_folder
from core.objectives import check_objectives
from core.units import human_duration
from deployments.command.backup_result import read_result, save_result, show_result
from deployments.command.follow import RunView
from deployments.command.platform_runs import follow, newest_report, report_of, start
from deployments.command.prefect_api import Server, server_of
from deployments.command.terminal import console, tell_error
from deployments.local.platform import Platform
from deployments.local.running import LOCAL
from tasks.catalogue import read_catalogue
from tasks.chosen_backup import find_backup
from tasks.environments import load_environment
from tasks.object_store import ObjectStore
from tasks.recording import utc_now
from tasks.secrets import signing_keys

DATABASE = "app"
RESTORED = "platform_restored"


def demonstrate(platform: Platform) -> bool:
    """Given a running platform, run all of it, show how it goes and what came of it, and return whether all is well."""
    os.environ.update(platform.variables)
    server = server_of(platform.running)
    backup = _run(platform, server, "nightly-backup", {})
    if backup is None:
        return False
    result = read_result(LOCAL)
    copy = save_result(result, platform.folder.path)
    drill = _run(platform, server, "dr-drill", {})
    if drill is None:
        return False
    _, drilled = newest_report()
    backup_id = result.databases[0].entry.backup_id
    damage_a_copy(backup_id)
    console.rule("the same backup, one byte of a copy flipped; and, beside it, a restore", align="left")
    # Neither needs the other: two processors do both at a time.
    damaged_id = start(server, "dr-drill", {"backup": backup_id, "read_from_copy": True})
    restored_id = start(server, "restore", {"database": DATABASE, "backup": "newest-proven", "target": RESTORED})
    damaged = follow(platform, server, damaged_id)
    if damaged.well or "SHA-256" not in damaged.message:
        tell_error(f"the drill did not refuse a damaged copy: {damaged.state_name}: {damaged.message}")
        return False
    restored = follow(platform, server, restored_id)
    if not restored.well:
        tell_error(f"restore is {restored.state_name}: {restored.message}. Logs: {platform.folder.logs}")
        return False
    show_result(read_result(LOCAL), copy)
    _show_proof(drilled, damaged, report_of(restored.run_id))
    return True


def damage_a_copy(backup_id: str) -> None:
    """Copy a backup into the bucket that stands for another region, one byte of its dump flipped."""
    environment = load_environment(LOCAL)
    source, copied = ObjectStore.open(environment), ObjectStore.open(environment.reading_the_copy())
    _, manifest = find_backup(source, environment, DATABASE, signing_keys(environment), backup_id)
    damaged = manifest.archive.parts[0].segments[0].key
    folder = backup_folder(environment.prefix, DATABASE, backup_id)
    for item in source.list(folder):
        content = bytearray(source.get(item.key))
        if item.key == folder + damaged:
            content[len(content) // 2] ^= 1
        copied.put(item.key, bytes(content))


def _run(platform: Platform, server: Server, flow: str, parameters: Mapping[str, Any]) -> RunView | None:
    """Run a flow; None, and a line on what happened, when it did not complete."""
    view = follow(platform, server, start(server, flow, parameters))
    if view.well:
        return view
    tell_error(f"{flow} is {view.state_name}: {view.message}. Logs: {platform.folder.logs}")
    return None


def _show_proof(drilled: Report, damaged: RunView, restored: Report) -> None:
    facts = {step.name: step.facts for step in drilled.steps}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    judged = facts["judge"]
    table.add_row(
        "drill", f"{judged['tables_compared']} tables, {judged['rows']:,} rows compared by digest on {judged['server']}"
    )
    table.add_row(
        "recovery time", f"{human_duration(judged['recovery_ms'])} from request to first verified query (indicative)"
    )
    for control in facts["negative controls"]["controls"]:
        table.add_row(
            "control", f"{control['damage']} on {control['on']}: {'seen' if control['detected'] else 'NOT SEEN'}"
        )
    table.add_row("damaged copy", f"refused: {damaged.message}")
    made = next(step.facts for step in restored.steps if step.name == "restore and verify")
    table.add_row(
        "restored", f"{made['database']} beside the live database, verified, in {human_duration(made['recovery_ms'])}"
    )
    environment = load_environment(LOCAL)
    catalogue = read_catalogue(ObjectStore.open(environment), environment, DATABASE)
    for check in check_objectives(LOCAL, DATABASE, catalogue, environment.objectives, utc_now()):
        table.add_row(check.name.partition(": ")[2], check.found)
    console.rule("proof", align="left")
    console.print(table)
