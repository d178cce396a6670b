"""A Prefect server of a test's own that can be stopped, killed and started again with the data that it had."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deployments.local.data_folder import DataFolder
from deployments.local.prefect_server import WORK_POOL, PrefectServer
from tasks.watch_events import What, watch_resource
from tests.waiting import PREFECT_SECONDS, wait_until

# As the flow is called: nobody runs it here.
WATCH = """
from prefect import flow

@flow(name="post-deploy-watch")
def post_deploy_watch(environment: str, release_id: str = "") -> None:
    pass
"""


class RestartingPrefect:
    """The server; no worker."""

    def __init__(self, prefect: PrefectServer) -> None:
        self.prefect = prefect
        self.rest = httpx.Client(
            base_url=prefect.api_url, auth=(prefect.user, prefect.password), trust_env=False, timeout=PREFECT_SECONDS
        )

    def restart(self) -> None:
        """Stop it as an update would, and start it again."""
        self.prefect.service.stop()
        self.prefect.service.start()
        self.prefect.wait_until_ready()

    def deploy_watches(self, folder: Path, triggers: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Given a folder and a trigger for each environment, deploy post-deploy-watch with them by `prefect deploy`, and return environment → the deployment's id."""
        (folder / "watch.py").write_text(WATCH)
        entries = [
            {
                "name": environment,
                "entrypoint": "watch.py:post_deploy_watch",
                "parameters": {"environment": environment},
                "schedules": [],
                "triggers": [trigger],
                "work_pool": {"name": WORK_POOL},
            }
            for environment, trigger in triggers.items()
        ]
        file = folder / "prefect.yaml"
        file.write_text(yaml.safe_dump({"name": "nightshift", "pull": [], "deployments": entries}))
        self.prefect.deploy({}, prefect_file=file, names="*/*")
        return {
            environment: self.rest.get(f"/deployments/name/post-deploy-watch/{environment}")
            .raise_for_status()
            .json()["id"]
            for environment in triggers
        }

    def tell(self, environment: str, release_id: str, what: What) -> datetime:
        """Tell an event of a watch, as tasks.watch_events does, and return when."""
        now = datetime.now(UTC)
        event = {
            "occurred": now.isoformat(),
            "event": f"nightshift.watch.{what}",
            "resource": watch_resource(environment, release_id),
            "related": [],
            "payload": {},
            "id": str(uuid.uuid4()),
        }
        self.rest.post("/events", json=[event]).raise_for_status()
        # A server on SQLite that is to write two things at once writes one, and may lose the other's event.
        time.sleep(0.3)
        return now

    def has_told(self, event: str) -> bool:
        """Whether an event of this name stands in the server's feed."""
        return bool(self.post("/events/filter", {"filter": {"event": {"name": [event]}}})["events"])

    def runs(self, deployment_id: str) -> list[dict[str, Any]]:
        """The parameters of the runs that were made of a deployment."""
        found = self.post("/flow_runs/filter", {"deployments": {"id": {"any_": [deployment_id]}}})
        return [one["parameters"] for one in found]

    def post(self, path: str, document: dict[str, Any]) -> Any:
        """Send a document. A server on SQLite answers 503 when two write at once: again."""
        answers: list[httpx.Response] = []

        def taken() -> bool:
            answers.append(self.rest.post(path, json=document))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(taken, f"the server takes {path}")
        return answers[-1].raise_for_status().json()


@pytest.fixture
def restarting_prefect(tmp_path: Path) -> Iterator[RestartingPrefect]:
    """A server for one test."""
    data = DataFolder(tmp_path / "data")
    data.claim()
    prefect = PrefectServer(data, preferred_port=0)
    try:
        prefect.start()
        prefect.wait_until_ready()
        server = RestartingPrefect(prefect)
        with server.rest:
            yield server
    finally:
        prefect.service.stop()
        data.release()
