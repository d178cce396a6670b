"""What the auth string of a Prefect server guards, and what somebody who has it can do: through a real server and its worker."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from deployments.local.platform import Platform
from tests.fix_refusals import require_refusals
from tests.waiting import wait_until

# The first one waits for the platform to start.
pytestmark = [pytest.mark.services, pytest.mark.xdist_group("platform")]


class Patient(httpx.HTTPTransport):
    """Asks again while a server on SQLite has no time to write (503)."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        busy = retry_if_result(lambda answer: answer.status_code == httpx.codes.SERVICE_UNAVAILABLE)
        return Retrying(retry=busy, stop=stop_after_delay(90), wait=wait_fixed(0.5))(super().handle_request, request)


@pytest.fixture
def rest(platform: Platform) -> Iterator[httpx.Client]:
    """Requests of somebody who has the auth string and nothing else."""
    prefect = platform.prefect
    login = (prefect.user, prefect.password)
    with httpx.Client(base_url=prefect.api_url, auth=login, trust_env=False, timeout=60, transport=Patient()) as client:
        yield client


def test_without_the_auth_string_no_route_of_the_api_and_no_websocket_is_open(platform: Platform) -> None:
    require_refusals(platform.prefect.api_url, platform.prefect.auth_string)


def test_who_has_the_auth_string_runs_any_command_on_a_worker_and_reads_what_it_knows(
    platform: Platform, rest: httpx.Client, tmp_path: Path
) -> None:
    deployment = rest.get("/deployments/name/nightly-backup/probe-well").raise_for_status().json()
    key = platform.variables["NIGHTSHIFT_LOCAL_SIGNING_KEY"]
    of_run, of_deployment = tmp_path / "of a run", tmp_path / "of a deployment"

    def variables(file: Path) -> dict[str, str]:
        script = f"printenv NIGHTSHIFT_LOCAL_SIGNING_KEY > {shlex.quote(str(file))}"
        return {"command": shlex.join(["sh", "-c", script])}

    def start_and_see(body: dict[str, Any], file: Path) -> None:
        made = rest.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).raise_for_status().json()
        wait_until(
            lambda: file.exists() and file.read_text().strip() == key, f"the command {file.name} ran", seconds=90
        )
        # The flow did not run, so nothing else tells of its end, and the deployment's only slot stays taken.
        over = {"state": {"type": "CANCELLED"}, "force": True}
        rest.post(f"/flow_runs/{made['id']}/set_state", json=over).raise_for_status()

    start_and_see({"job_variables": variables(of_run)}, of_run)
    own = {"job_variables": deployment["job_variables"]}
    changed = {"job_variables": {**own["job_variables"], **variables(of_deployment)}}
    rest.patch(f"/deployments/{deployment['id']}", json=changed).raise_for_status()
    try:
        start_and_see({}, of_deployment)
    finally:
        rest.patch(f"/deployments/{deployment['id']}", json=own).raise_for_status()


def test_who_has_the_auth_string_reads_secret_blocks(rest: httpx.Client) -> None:
    kind = rest.get("/block_types/slug/secret").raise_for_status().json()["id"]
    schemas = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    schema = rest.post("/block_schemas/filter", json=schemas).raise_for_status().json()[0]["id"]
    made = {"name": "of-a-test", "block_type_id": kind, "block_schema_id": schema, "data": {"value": "hidden"}}
    block = rest.post("/block_documents/", json=made).raise_for_status().json()["id"]
    try:
        read = rest.get(f"/block_documents/{block}", params={"include_secrets": True}).raise_for_status().json()
        assert read["data"] == {"value": "hidden"}
    finally:
        rest.delete(f"/block_documents/{block}").raise_for_status()
