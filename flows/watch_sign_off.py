"""A person signs a release's day off; then the old colour is let go. Runbook: docs/watch.md."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.nightly_backup import EnvironmentName
from flows.release_recovery import ReleaseId


@flow(name="watch-sign-off", flow_run_name="sign {release_id} off in {environment}", persist_result=False)
def watch_sign_off(environment: EnvironmentName, release_id: ReleaseId) -> State[None]:
    """Ask a person to sign off the day after a release, keep the answer, and retire the old side.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        release_id: Of which release.
    """
    raise NotImplementedError
