"""What suspends a run and what a person fills in, through a real server and worker: the process ends, the answer comes by the request that the UI makes, and a new
process goes on from the top."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.states import State

from deployments.command.follow import follow_run, start_deployment
from deployments.local.platform import Platform
from tests.fix_platform import below
from tests.waiting import wait_until

# The first one waits for the platform to start and for a backup.
pytestmark = [pytest.mark.services, pytest.mark.xdist_group("platform")]
LIVE = "platform"
SWAP = {"environment": "local", "database": "app", "backup": "newest-decoded", "swap_live": True}


class Person:
    """Somebody before the UI: every request is one that a button of it makes."""

    def __init__(self, platform: Platform, client: SyncPrefectClient) -> None:
        self.platform, self.client = platform, client

    def start(self, deployment: str, **parameters: Any) -> UUID:
        return start_deployment(self.client, deployment, parameters)

    def state(self, run: UUID) -> State[Any]:
        state = self.client.read_flow_run(run).state
        assert state is not None
        return state

    def wait_for_form(self, run: UUID) -> dict[str, str]:
        """Wait until the run asks something; return its form's keys. Its process has ended then, too."""
        view = list(follow_run(self.client, run, every_seconds=0.3))[-1]
        assert (view.state_type, view.state_name) == ("PAUSED", "Suspended"), view.message
        keys = self.state(run).state_details.run_input_keyset
        assert keys is not None
        wait_until(lambda: not self.processes_of(run), "the suspended run's process ends", seconds=90)
        return dict(keys)

    def form(self, run: UUID) -> tuple[dict[str, Any], str]:
        """Wait until the run asks something; return the form's JSON schema and its text."""
        keys = self.wait_for_form(run)
        schema = self.client.request(
            "GET", "/flow_runs/{id}/input/{key}", path_params={"id": run, "key": keys["schema"]}
        )
        text = self.client.request(
            "GET", "/flow_runs/{id}/input/{key}", path_params={"id": run, "key": keys["description"]}
        )
        return schema.json(), text.json()

    def resume(self, run: UUID, **answer: str) -> tuple[str, str]:
        """Press Resume and Submit; return the server's answer and its reason."""
        answered = self.client.request(
            "POST", "/flow_runs/{id}/resume", path_params={"id": run}, json={"run_input": answer}
        ).json()
        return answered["status"], answered["details"].get("reason") or ""

    def retry(self, run: UUID) -> None:
        """Press Retry."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
        self.client.request(
            "POST", "/flow_runs/{id}/set_state", path_params={"id": run}, json={"state": state, "force": True}
        ).raise_for_status()

    def wait_for_end(self, run: UUID) -> State[Any]:
        view = list(follow_run(self.client, run, every_seconds=0.3))[-1]
        assert view.finished, view.state_name
        return self.state(run)

    def report(self, run: UUID) -> str:
        """The report that the run showed last."""
        return next(
            str(artifact.data)
            for artifact in self.client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
            if artifact.flow_run_id == run and artifact.type == "markdown"
        )

    def databases(self) -> dict[str, int]:
        with psycopg.connect(self.platform.postgres.admin_conninfo) as connection:
            return dict(connection.execute("SELECT datname::text, oid FROM pg_catalog.pg_database").fetchall())

    def processes_of(self, run: UUID) -> list[psutil.Process]:
        """The processes of a run that are there now."""
        found = []
        for process in below(self.platform.running.process_id):
            try:
                ours = process.environ().get("PREFECT__FLOW_RUN_ID") == str(run)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found


@pytest.fixture(scope="module")
def backed_up(platform: Platform) -> Iterator[Platform]:
    """The platform with one decoded backup; databases that the tests made are dropped afterwards."""
    from deployments.command.prefect_api import server_of

    with server_of(platform.running).client() as client:
        run = start_deployment(client, "nightly-backup/local", {"environment": "local"})
        last = list(follow_run(client, run, every_seconds=0.3))[-1]
        assert last.well, last.message
    yield platform
    with psycopg.connect(platform.postgres.admin_conninfo, autocommit=True) as connection:
        made = connection.execute(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE datname LIKE %s", (f"{LIVE}\\_%",)
        )
        for (name,) in made.fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def person(backed_up: Platform, platform_client: SyncPrefectClient) -> Person:
    return Person(backed_up, platform_client)


def only_required(schema: dict[str, Any]) -> set[str]:
    """The names of a form's fields; fails when one may be left out, or would be accepted blank."""
    fields = schema["properties"]
    assert set(schema["required"]) == set(fields)
    assert [name for name, field in fields.items() if "default" in field] == []
    assert [name for name, field in fields.items() if not (field["title"] and field["description"])] == []
    return set(fields)


def test_a_restore_without_a_backup_named_asks_shows_both_ages_and_takes_what_it_showed(person: Person) -> None:
    run = person.start("restore/local", environment="local", database="app", dry_run=True)
    schema, text = person.form(run)
    assert only_required(schema) == {"backup"}
    shown = next(line for line in text.splitlines() if line.startswith("- `newest-decoded`"))
    assert "loses everything written in the last" in shown
    assert "- `newest-proven`: there is none" in text
    status, reason = person.resume(run)
    assert (status, reason.partition("reason: ")[2]) == ("REJECT", "'backup' is a required property")
    assert person.resume(run, backup="the last good one")[0] == "ACCEPT"
    # What names no backup is asked for again, with what is allowed.
    _, again = person.form(run)
    assert "it is no choice" in again
    assert "Allowed: a backup id" in again
    assert person.resume(run, backup="newest-decoded")[0] == "ACCEPT"
    assert person.resume(run, backup="newest-decoded") == ("ABORT", "Cannot resume a flow run that is not paused.")
    ended = person.wait_for_end(run)
    assert ended.type == StateType.COMPLETED, ended.message
    backup_id = shown.split(": ")[1].split(",")[0]
    assert f"dry run: {backup_id} would become" in str(ended.message)


def test_a_swap_waits_without_a_process_and_goes_on_in_a_new_one_only_for_the_right_name(person: Person) -> None:
    before = person.databases()
    run = person.start("restore/local", **SWAP)
    schema, text = person.form(run)
    assert only_required(schema) == {"database_name", "approver", "reason"}
    copy, old = (
        next(word.strip("*.,") for word in text.replace("\\", "").split() if f"{LIVE}_{kind}_" in word)
        for kind in ("restored", "before")
    )
    assert f"live database **{LIVE}** on the server local" in text
    assert "recovery point (newest decoded backup): " in text
    assert "proof age (newest proven backup): there is none" in text
    assert person.databases().keys() == {*before, copy}

    # What is empty is refused by the server, before any process starts.
    for blank in ({}, {"database_name": LIVE, "approver": " ", "reason": "data was lost"}):
        assert person.resume(run, **blank)[0] == "REJECT"
    assert person.state(run).name == "Suspended"

    assert person.resume(run, database_name="app", approver="Jo", reason="data was lost")[0] == "ACCEPT"
    wait_until(lambda: person.processes_of(run), "a new process goes on", seconds=90)
    _, again = person.form(run)
    assert f"“app” was typed, and the live database is “{LIVE}”" in again
    assert "fill in the form anew" in again
    assert person.databases() == {**before, copy: person.databases()[copy]}

    copied = person.databases()[copy]
    assert person.resume(run, database_name=LIVE, approver="Jo Doe", reason="data was lost, INC-7")[0] == "ACCEPT"
    assert person.resume(run, database_name=LIVE, approver="Somebody else", reason="the same")[0] == "ABORT"
    ended = person.wait_for_end(run)
    assert ended.type == StateType.COMPLETED, ended.message
    assert person.databases() == {**before, LIVE: copied, old: before[LIVE]}
    report = person.report(run)
    assert "approver: Jo Doe" in report
    assert "reason: data was lost, INC-7" in report
    assert "Somebody else" not in report


def test_nobody_answers_and_nothing_is_swapped_and_a_retry_asks_anew(person: Person) -> None:
    before = person.databases()
    run = person.start("restore/local", **SWAP)
    person.wait_for_form(run)
    made = person.databases()
    let_it_expire(person, run)
    wait_until(lambda: person.state(run).type != StateType.PAUSED, "the server stops waiting", seconds=60)
    state = person.state(run)
    assert (state.type, state.message) == (StateType.FAILED, "The flow was paused and never resumed.")
    answer = {"database_name": LIVE, "approver": "Jo", "reason": "too late"}
    assert person.resume(run, **answer)[0] == "ABORT"
    # The copy is kept, the live database untouched (docs/restore.md).
    assert person.databases() == made
    assert len(made) == len(before) + 1

    person.retry(run)
    wait_until(lambda: person.state(run).type != StateType.FAILED, "the retry begins")
    keys = person.wait_for_form(run)
    assert person.databases() == made
    # The server is started anew while the run waits.
    person.platform.prefect.service.stop()
    person.platform.prefect.service.start()
    person.platform.prefect.wait_until_ready()
    assert person.wait_for_form(run) == keys
    assert person.resume(run, **{**answer, "reason": "still needed"})[0] == "ACCEPT"
    ended = person.wait_for_end(run)
    assert ended.type == StateType.COMPLETED, ended.message
    assert person.databases()[LIVE] not in before.values()


def test_an_approval_that_was_given_before_a_run_failed_approves_nothing_when_it_is_retried(person: Person) -> None:
    run = person.start("restore/local", **SWAP)
    person.wait_for_form(run)
    made = person.databases()
    copy = max(made, key=lambda name: made[name])
    login = psycopg.conninfo.make_conninfo(person.platform.postgres.admin_conninfo, dbname=copy)
    with psycopg.connect(login) as connection:
        connection.execute("INSERT INTO public.settings VALUES ('written while the copy waited')")
    assert person.resume(run, database_name=LIVE, approver="Jo", reason="data was lost")[0] == "ACCEPT"
    failed = person.wait_for_end(run)
    assert failed.type == StateType.FAILED
    assert "was changed since it was verified" in str(failed.message)
    assert "approver: Jo" in person.report(run)
    person.retry(run)
    wait_until(lambda: person.state(run).type != StateType.FAILED, "the retry begins")
    person.wait_for_form(run)
    assert person.databases() == made


def let_it_expire(person: Person, run: UUID) -> None:
    """Let the time pass that a form waits; all else of the state stays."""
    state = person.state(run)
    limit = state.state_details.pause_timeout
    assert limit is not None
    assert timedelta(hours=23) < limit - datetime.now(UTC) <= timedelta(hours=24)
    state.state_details.pause_timeout = limit - timedelta(hours=24)
    person.client.set_flow_run_state(run, state, force=True)
