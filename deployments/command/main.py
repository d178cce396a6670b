"""The `nightshift` command: its table of contents, and how it ends.

Only the module of the command that was asked for is imported: Prefect and boto3 take seconds, which neither `--help` nor `try` has to wait for.
"""

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from core.errors import ConfigurationError, NightshiftError
from deployments.command.terminal import EXIT_INTERRUPTED, fail, tell_error
from deployments.local.data_folder import data_root
from deployments.local.running import adopt_local_variables, find_running

# The environment `local` is the platform of `make try`, which sets these variables.
_NO_PLATFORM = "No platform runs on this machine: start one in another terminal, make try"
TRY_IT, SERVE, SET_UP = "Try it", "This machine", "Set up"
EVERY_DAY, RELEASE, PROVE = "Every day", "Release", "Prove"


@dataclass(frozen=True)
class Entry:
    """A line of the table of contents: `place` is MODULE:NAME of a function, or of a typer application with commands of its own.

    `own_platform`: it starts a platform itself; the user's Prefect settings and a platform that runs already do not concern it.
    """

    name: str
    panel: str
    place: str
    summary: str
    own_platform: bool = False


CONTENTS = (
    Entry(
        "demo",
        TRY_IT,
        "demo:demo_command",
        "Back up, drill and restore once, end to end, on this machine.",
        own_platform=True,
    ),
    Entry(
        "demo-release",
        TRY_IT,
        "demo_release:demo_release_command",
        "Release well, badly, and killed in the middle, on a Kubernetes cluster.",
        own_platform=True,
    ),
    Entry(
        "try",
        TRY_IT,
        "trial:try_command",
        "Start the same platform and leave it running until Ctrl-C.",
        own_platform=True,
    ),
    Entry(
        "up",
        SERVE,
        "machine:up_command",
        "Start server, worker and receiver, and keep them running.",
        own_platform=True,
    ),
    Entry("down", SERVE, "machine:down_command", "End what `up` started, runs too.", own_platform=True),
    Entry("status", SERVE, "machine:status_command", "Say what of it runs.", own_platform=True),
    Entry("init", SET_UP, "init:init_command", "Write a new environment's file, and check it."),
    Entry("check", SET_UP, "check:check_command", "Look whether an environment is ready."),
    Entry("automations", SET_UP, "automations:automations_command", "Put the automations on the Prefect server."),
    Entry("backup", EVERY_DAY, "backup:backup_command", "Back up an environment's databases now."),
    Entry("app-state-backup", EVERY_DAY, "app_state:app_state_command", "Back up application state with Velero now."),
    Entry("restore", EVERY_DAY, "restore:restore_command", "Restore a backup beside the live database, and prove it."),
    Entry("undo-swap", EVERY_DAY, "restore:undo_swap_command", "Give the name back to the database before a swap."),
    Entry("catalog", EVERY_DAY, "catalog:catalog_command", "List an environment's backups."),
    Entry("release", RELEASE, "release:release_command", "Bring a new version out, or back when it is not well."),
    Entry("rollback", RELEASE, "release:rollback_command", "Take the newest release back."),
    Entry("release-recovery", RELEASE, "release:recovery_command", "Bring what was left in the middle to its end."),
    Entry("releases", RELEASE, "releases:releases_command", "List an environment's releases, and what is open."),
    Entry("watches", RELEASE, "watches:watches_command", "Show how the watches after releases stand."),
    Entry("webhook", RELEASE, "webhook:webhook_command", "Listen to GitHub, and start what it asks for."),
    Entry("judge", PROVE, "judge:judge_command", "Replay a recorded day after a release to its verdict."),
    Entry("drill", PROVE, "drill:drill_command", "Rehearse a recovery, and mark the backup proven."),
    Entry("evidence", PROVE, "evidence:evidence_app", "Verify the chain of reports, or read one."),
    Entry("metrics", PROVE, "metrics:metrics_command", "Tell nightshift's own metrics to Prometheus."),
)


# What the disk, rights or a name may bring about; what is missing altogether (ENOENT) would be our mistake.
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
}


def main() -> None:
    """Run the command that the arguments name. An error that we know ends in one line and the exit code of deployments.command.terminal."""
    try:
        build_app(sys.argv[1:])()
    except NightshiftError as error:
        if "NIGHTSHIFT_LOCAL_" in error.found + error.on and find_running() is None:
            fail(ConfigurationError(error.attempted, error.on, error.found, _NO_PLATFORM))
        fail(error)
    except OSError as error:
        if error.errno not in _DISK or not error.filename:
            raise
        found, step = (
            error.strerror or str(error),
            "Look at the disk and at the rights, or set NIGHTSHIFT_DATA to another folder",
        )
        fail(ConfigurationError("write", str(error.filename), found, step))
    except KeyboardInterrupt:
        tell_error("ended by Ctrl-C")
        raise SystemExit(EXIT_INTERRUPTED) from None


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Given the arguments, return the application that can carry them out: the command that they name, and the others by name and summary only."""
    app = typer.Typer(
        name="nightshift",
        help="Night work for PostgreSQL, S3 and Kubernetes that proves what it did: Prefect flows for backups, restores, releases and watches.",
        no_args_is_help=True,
        add_completion=False,
        # A traceback with local variables could show a secret.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_nothing)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), "")
    for entry in CONTENTS:
        target = load(entry) if entry.name == wanted else _nothing
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=entry.name, rich_help_panel=entry.panel)
        else:
            summary = entry.summary if target is _nothing else None
            app.command(entry.name, rich_help_panel=entry.panel, help=summary)(target)
    return app


def load(entry: Entry) -> Callable[..., Any] | typer.Typer:
    """Given an entry, make this process ready for it and import what carries it out."""
    # Prefect's SDK would print a notice on a terminal and report its use to Prefect's makers.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if entry.own_platform:
        home = data_root() / "prefect-client"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ["PREFECT_HOME"] = str(home)
    else:
        # `nightshift catalog local` and the like find the platform that `nightshift try` runs in another terminal.
        adopt_local_variables()
    module, _, name = entry.place.partition(":")
    target: Callable[..., Any] | typer.Typer = getattr(importlib.import_module(f"deployments.command.{module}"), name)
    return target


def _nothing() -> None:
    """Stands for what is not needed."""
