"""Runs on the platform of a demo: started, shown on the terminal while they go on, and their reports. Imports Prefect, which takes seconds."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from core.errors import TemporaryError
from core.evidence import Report
from deployments.command.follow import RunView, follow_run, start_deployment
from deployments.command.prefect_api import Server
from deployments.command.run_display import show_run
from deployments.command.run_flow import with_reason
from deployments.local.platform import Platform
from deployments.local.running import LOCAL
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys


def start(server: Server, flow: str, parameters: Mapping[str, Any]) -> UUID:
    """Start a flow of the environment `local` and return the run's id."""
    with server.client() as client:
        return start_deployment(client, f"{flow}/{LOCAL}", {"environment": LOCAL, **parameters})


def follow(
    platform: Platform,
    server: Server,
    run_id: UUID,
    *,
    at_each_view: Callable[[], None] = lambda: None,
    every_seconds: float = 1.0,
) -> RunView:
    """Show a run until its end and return how it ended. `at_each_view` is called each time that the run was looked at."""

    def watched(views: Iterator[RunView]) -> Iterator[RunView]:
        # For as long as all servers live: a server that died is the better error than one that does not answer.
        try:
            for view in views:
                platform.check()
                at_each_view()
                yield view
        except TemporaryError:
            platform.check()
            raise

    with server.client() as client:
        view = show_run(watched(follow_run(client, run_id, patience_seconds=20, every_seconds=every_seconds)))
        return view if view.well else with_reason(client, view)


def newest_report() -> tuple[str, Report]:
    """Where the newest report lies, and the report."""
    environment = load_environment(LOCAL)
    return read_report(ObjectStore.open(environment), environment, signing_keys(environment))


def report_of(run_id: UUID) -> Report:
    """The report of a run: the newest, or one before when another run ended later. Raise PermanentError when there is none."""
    _, report = newest_report()
    environment = load_environment(LOCAL)
    while report.run_id != str(run_id):
        _, report = read_report(
            ObjectStore.open(environment), environment, signing_keys(environment), report.sequence - 1
        )
    return report
