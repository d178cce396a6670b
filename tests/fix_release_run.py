"""A flow run as Prefect keeps it, a release's most of all: begun and begun again in this process, as a worker does after an approval or a Retry."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry

from core.release_plan import release_id_of
from flows.release import release
from tests.fix_release import NEXT_COMMIT, SKIPPED, Stage
from tests.waiting import PREFECT_SECONDS


class FlowRun:
    """A flow run. `deployed`: it is one of a deployment's, which alone can be suspended."""

    def __init__(
        self,
        flow: Flow[..., Any],
        parameters: dict[str, Any],
        *,
        state: State[Any] | None = None,
        deployed: bool = False,
    ) -> None:
        self.flow, self.parameters = flow, parameters
        with get_client(sync_client=True) as prefect:
            if deployed:
                deployment = prefect.create_deployment(prefect.create_flow(flow), name="stage")
                self.id: UUID = prefect.create_flow_run_from_deployment(deployment, parameters=parameters).id
            else:
                self.id = prefect.create_flow_run(flow, parameters=parameters, state=state).id

    @property
    def state(self) -> State[Any]:
        """Its state, as Prefect has it."""
        with get_client(sync_client=True) as prefect:
            found = prefect.read_flow_run(self.id).state
        assert found is not None
        return found

    def retry(self) -> None:
        """Press Retry."""
        with get_client(sync_client=True) as prefect:
            prefect.set_flow_run_state(self.id, AwaitingRetry(), force=True)

    def go(self) -> State[Any]:
        """Begin it, or begin it again, and return its state afterwards."""
        with get_client(sync_client=True) as prefect:
            run = prefect.read_flow_run(self.id)
        # Suspended: its process would end here.
        with suppress(Pause):
            run_flow(self.flow, flow_run=run, parameters=self.parameters, return_type="state")
        return self.state

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A request of the UI about it, and its answer."""
        address = f"{PREFECT_API_URL.value()}/flow_runs/{self.id}/{path}"
        for pause in (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 0.0):
            answer = httpx.request(method, address, json=body, timeout=PREFECT_SECONDS)
            # SQLite is busy with what the run told just before, and for longer beside other tests.
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(pause)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def resume(self, **answer: str) -> str:
        """Press Resume and Submit; return what the server says: ACCEPT, REJECT, ABORT."""
        return str(self.ask("POST", "resume", {"run_input": answer})["status"])

    def force(self, kind: str, name: str) -> str:
        """Set its state past all rules."""
        body = {"state": {"type": kind, "name": name}, "force": True}
        return str(self.ask("POST", "set_state", body)["status"])

    def shown(self) -> str:
        """The text of the form that it waits with."""
        keys = self.state.state_details.run_input_keyset
        assert keys is not None
        return str(self.ask("GET", f"input/{keys['description']}"))


class Run(FlowRun):
    """A flow run of the release."""

    def __init__(
        self, stage: Stage, image: str = "v2", *, state: State[Any] | None = None, deployed: bool = False
    ) -> None:
        stage.write()
        parameters: dict[str, Any] = {
            "environment": "stage",
            "image": stage.digest(image),
            "commit": NEXT_COMMIT,
            "migrate": False,
            "skip_checks": SKIPPED,
            "requested_by": "the test",
        }
        super().__init__(release, parameters, state=state, deployed=deployed)

    @property
    def release_id(self) -> str:
        """The release's id."""
        return release_id_of(str(self.id))
