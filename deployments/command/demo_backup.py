"""The demo's backup: started through the platform's server, followed, and shown. Apart from demo.py, since it imports Prefect, which takes seconds."""

import os
from collections.abc import Iterator

from core.errors import TemporaryError
from deployments.command.backup import FLOW, with_reason
from deployments.command.backup_result import read_result, save_result, show_result
from deployments.command.follow import RunView, follow_run, start_deployment
from deployments.command.prefect_api import server_of
from deployments.command.run_display import show_run
from deployments.command.terminal import tell_error
from deployments.local.platform import Platform
from deployments.local.running import LOCAL


def back_up(platform: Platform) -> bool:
    """Given a running platform, back up its database, show how it goes and what came of it, and return whether all is well."""
    server = server_of(platform.running)
    with server.client() as client:
        run_id = start_deployment(client, f"{FLOW}/{LOCAL}", {"environment": LOCAL})
        view = show_run(_watched(platform, follow_run(client, run_id, patience_seconds=20)))
        if not view.well:
            view = with_reason(client, view)
    if not view.well:
        tell_error(f"the backup is {view.state_name}: {view.message}. Logs: {platform.folder.logs}")
        return False
    os.environ.update(platform.variables)
    result = read_result(LOCAL)
    show_result(result, server.run_url(run_id), save_result(result, platform.folder.path))
    return True


def _watched(platform: Platform, views: Iterator[RunView]) -> Iterator[RunView]:
    """The views, for as long as all servers live; a server that died is the better error than one that does not answer."""
    try:
        for view in views:
            platform.check()
            yield view
    except TemporaryError:
        platform.check()
        raise
