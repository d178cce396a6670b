"""Runs on the Prefect server, as the dispatcher makes and the reporter reads them."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from core.errors import ConfigurationError, TemporaryError
from core.run_names import name_before
from core.webhook_mapping import Start
from core.webhook_report import GONE, Told, told_of
from deployments.command.follow import read_markdown
from deployments.command.prefect_api import Server, deploy_command, find_server
from tasks.bounded_call import call_within

TAG = "webhook"
MOST_AT_ONCE = 100
# For the question whether the server is there: who asks also makes the runs. Prefect's client would wait for minutes.
ASK_SECONDS = 10.0


class NotDeployedError(ConfigurationError):
    """The server lacks the deployment of one flow and environment: theirs wait until it is there, nobody else's do."""


class Runs(Protocol):
    """What the receiver needs of Prefect."""

    def make(self, start: Start) -> str:
        """Make the run, or find the one that was made of the same key; return its id.

        Raise TemporaryError or ConfigurationError when it may be made later, PermanentError when the server does not make it.
        """

    def look(self, runs: Sequence[tuple[str, Start]]) -> dict[str, Told]:
        """Given runs (id, what started it), return by id what is to be told of each."""

    def ask(self) -> None:
        """Ask the server, for seconds, for something that it tells only to whom it knows. Raise TemporaryError or ConfigurationError when it does not answer."""

    def page(self, start: Start, run_id: str) -> str:
        """The run's page in the UI."""


class PrefectRuns:
    """The real ones."""

    def __init__(self, environment: str) -> None:
        self._environment = environment

    def make(self, start: Start) -> str:
        """See Runs."""
        name = f"{start.flow}/{start.environment}"
        server = self._server()
        with server.client() as client:
            try:
                deployment = client.read_deployment_by_name(name)
            except ObjectNotFound as error:
                raise _not_deployed(start, server) from error
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=name_before(start.flow, start.environment, start.parameters),
                parameters=dict(start.parameters),
                idempotency_key=f"webhook/{start.key}",
                tags=[TAG],
            )
            return str(run.id)

    def look(self, runs: Sequence[tuple[str, Start]]) -> dict[str, Told]:
        """See Runs."""
        found: dict[str, Told] = {}
        with self._server().client() as client:
            for begin in range(0, len(runs), MOST_AT_ONCE):
                part = dict(runs[begin : begin + MOST_AT_ONCE])
                wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(one) for one in part]))
                read = {str(run.id): run for run in client.read_flow_runs(flow_run_filter=wanted, limit=MOST_AT_ONCE)}
                for run_id, start in part.items():
                    state = read[run_id].state if run_id in read else None
                    found[run_id] = GONE if state is None else _told(client, run_id, start, state)
        return found

    def ask(self) -> None:
        """See Runs."""
        server = self._server()

        def read() -> None:
            with server.client() as client:
                client.read_flows(limit=1)

        # One more try: a server on SQLite answers 503 to many at once.
        patience = {PREFECT_API_REQUEST_TIMEOUT: ASK_SECONDS, PREFECT_CLIENT_MAX_RETRIES: 1}
        try:
            with temporary_settings(patience):
                call_within(ASK_SECONDS, read)
        except TimeoutError as error:
            found = f"it did not answer within {ASK_SECONDS:g} s"
            raise TemporaryError("ask the Prefect server", server.api_url, found, "Check its health") from error

    def page(self, start: Start, run_id: str) -> str:  # noqa: ARG002 - one server for all
        """See Runs."""
        return self._server().run_url(run_id)

    def _server(self) -> Server:
        return find_server(self._environment)


def _told(client: SyncPrefectClient, run_id: str, start: Start, state: State) -> Told:
    report = f"{start.flow}-{start.environment}"
    has_report = state.is_completed() and bool(read_markdown(client, UUID(run_id), report))
    dry_run = bool(start.parameters.get("dry_run"))
    return told_of(state.type.value, state.name or "", state.message or "", dry_run=dry_run, has_report=has_report)


def _not_deployed(start: Start, server: Server) -> NotDeployedError:
    return NotDeployedError(
        f"start {start.flow}/{start.environment}",
        server.api_url,
        "the server has no such deployment",
        f"Give {start.environment} one of {start.flow} in prefect.yaml, then: {deploy_command(start.environment)}",
    )
