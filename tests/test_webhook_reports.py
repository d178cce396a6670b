"""What becomes of what was accepted: runs, once each, and GitHub's deployments told how they go. Threads are left out: each round is called by hand."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.environment_webhook import WebhookGitHub
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.redaction import register_secret
from core.webhook_mapping import Start
from core.webhook_report import Told, answer_of, told_of
from deployments.webhook.audit import LONGEST_VALUE, Audit
from deployments.webhook.dispatcher import Dispatcher
from deployments.webhook.figures import Figures
from deployments.webhook.github_status import GitHubApi
from deployments.webhook.inbox import Inbox, opened
from deployments.webhook.prefect_runs import NotDeployedError
from deployments.webhook.reporter import Reporter
from tests.fix_web_script import Asked, Reply, WebScript
from tests.fix_webhook import signing_key
from tests.waiting import wait_until

DONE = told_of("COMPLETED", "Completed", "released")
RUNNING = told_of("RUNNING", "Running", "")


class ScriptedRuns:
    """Makes runs, or raises what a test says; `states` are what each run is told to be."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.failing: dict[str, NightshiftError] = {}
        self.states: dict[str, Told] = {}

    def make(self, start: Start) -> str:
        """Keep the key."""
        if start.key in self.failing:
            raise self.failing[start.key]
        self.made.append(start.key)
        return f"run-{start.key}"

    def ask(self) -> None:
        """It is there, unless a test says otherwise."""
        if "" in self.failing:
            raise self.failing[""]

    def look(self, runs: Sequence[tuple[str, Start]]) -> dict[str, Told]:
        """As the test says."""
        return {run_id: self.states.get(run_id, RUNNING) for run_id, _ in runs}

    def page(self, start: Start, run_id: str) -> str:
        """Its page."""
        return f"http://ui/runs/{run_id}/{start.flow}"


@dataclass
class Desk:
    """Inbox, dispatcher, reporter, and what GitHub was told: (deployment, state)."""

    inbox: Inbox
    github: GitHubApi
    web: WebScript
    folder: Path
    runs: ScriptedRuns = field(default_factory=ScriptedRuns)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.audit, figures = Audit(str(self.folder / "audit")), Figures()
        githubs = {"staging": self.github}
        self.dispatcher = Dispatcher(
            self.inbox,
            self.runs,
            lambda: githubs,
            lambda _name: 3600.0,
            audit=self.audit,
            figures=figures,
            clock=lambda: self.now,
        )
        self.dispatcher._rest = lambda _seconds: None  # type: ignore[method-assign]
        self.dispatcher._retrying.sleep = lambda _seconds: None
        self.reporter = Reporter(
            self.inbox, self.runs, lambda: githubs, audit=self.audit, figures=figures, clock=lambda: self.now
        )

    def accept(self, number: int, flow: str = "release", *, told: bool = True, **parameters: object) -> None:
        """Put something in."""
        start = Start(f"k{number}", "staging", flow, parameters, "acme/api", number if told else None)
        self.inbox.accept(start, None, self.now).result()
        self.now += 1

    def rounds(self, count: int = 1) -> None:
        """Dispatch and report."""
        for _ in range(count):
            self.dispatcher.once()
            self.reporter.once()
            self.now += 7200 if count > 1 else 1

    @property
    def told(self) -> list[tuple[int, str]]:
        """The deployments and states that GitHub heard of."""
        return [
            (int(one.path.split("/")[5]), one.document["state"])
            for one in self.web.asked
            if one.path.endswith("/statuses")
        ]


@pytest.fixture
def desk(tmp_path: Path, web_script: WebScript, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """All of it, GitHub's API scripted."""
    monkeypatch.setenv("GITHUB_TOKEN_OF_A_TEST", "ghp-token-of-a-test")
    web_script.always({"id": 1}, 201)
    with opened(tmp_path) as inbox:
        token = WebhookGitHub(api_url=web_script.address, token="env:GITHUB_TOKEN_OF_A_TEST")
        desk = Desk(inbox, GitHubApi(token), web_script, tmp_path)
        yield desk
        desk.audit.close()


def test_what_waits_for_a_deployment_that_the_server_lacks_holds_nothing_else_up_and_is_made_once_it_is_there(
    desk: Desk,
) -> None:
    lacking = NotDeployedError("start rollback/staging", "the server", "it has none", "Put it there")
    for number in range(1, 6):
        desk.accept(number, "rollback")
        desk.runs.failing[f"k{number}"] = lacking
    desk.accept(6)
    desk.rounds()
    assert desk.runs.made == ["k6"]
    assert len(desk.inbox.open("waiting")) == 5
    # Told once a round, not for each.
    assert (desk.folder / "audit").read_text().count("run postponed") == 1
    desk.runs.failing.clear()
    desk.rounds()
    assert desk.runs.made == ["k6", *(f"k{number}" for number in range(1, 6))]
    # It never came there: each is given up in its time, and is there again when it is sent again.
    desk.accept(7, "rollback", told=False)
    desk.runs.failing["k7"] = lacking
    desk.now += 7200
    desk.rounds()
    assert desk.inbox.open("waiting") == []
    del desk.runs.failing["k7"]
    desk.accept(7, "rollback", told=False)
    desk.rounds()
    assert desk.runs.made[-1] == "k7"


def test_a_deployment_hears_that_its_run_goes_on_and_how_it_ended_each_once(desk: Desk) -> None:
    desk.accept(1)
    desk.rounds()
    desk.rounds()
    desk.runs.states["run-k1"] = DONE
    desk.rounds()
    desk.rounds()
    assert desk.told == [(1, "in_progress"), (1, "success")]
    asked = desk.web.asked[-1]
    assert asked.path == "/repos/acme/api/deployments/1/statuses"
    assert asked.headers["authorization"] == "Bearer ghp-token-of-a-test"
    assert asked.document["log_url"] == "http://ui/runs/run-k1/release"
    assert desk.inbox.open("started") == desk.inbox.open("waiting") == []
    assert "ghp-token" not in (desk.folder / "audit").read_text()


def test_a_release_that_is_live_makes_the_one_before_inactive_and_a_rollback_itself(desk: Desk) -> None:
    for number in (1, 2):
        desk.accept(number)
        desk.runs.states[f"run-k{number}"] = DONE
        desk.rounds()
    assert desk.told == [(1, "success"), (2, "success"), (1, "inactive")]
    desk.accept(3, "rollback", told=False)
    desk.runs.states["run-k3"] = DONE
    desk.rounds()
    assert desk.told[3:] == [(2, "inactive")]


def test_the_one_before_is_told_later_and_later_too_and_not_given_up_within_minutes(desk: Desk) -> None:
    desk.accept(1)
    desk.runs.states["run-k1"] = DONE
    desk.rounds()
    refuse = Reply({"message": "Forbidden"}, 403)
    desk.web.reply = lambda asked: refuse if "/deployments/1/" in asked.path else Reply({"id": 1}, 201)
    desk.accept(2)
    desk.runs.states["run-k2"] = DONE
    for _ in range(60):
        desk.rounds()
        desk.now += 4
    # Five minutes: told after 10, 20, 40, 80, 160 s.
    assert desk.told.count((1, "inactive")) == 5
    desk.web.always({"id": 1}, 201)
    desk.now += 7200
    desk.rounds()
    assert desk.told.count((1, "inactive")) == 6
    assert desk.inbox.open("started") == []
    assert desk.told.count((2, "success")) == 1


def test_one_whose_place_was_taken_while_an_earlier_could_not_be_told_stays_inactive(desk: Desk) -> None:
    gone = Reply({"message": "Not Found"}, 404)
    for number in (1, 2, 3):
        desk.accept(number)
        desk.runs.states[f"run-k{number}"] = DONE
        desk.rounds()
        # Somebody deleted the first deployment on GitHub.
        desk.web.reply = lambda asked: gone if "/deployments/1/" in asked.path else Reply({"id": 1}, 201)
    for _ in range(5):
        desk.rounds()
    assert [one for one in desk.told if one[0] != 1] == [(2, "success"), (3, "success"), (2, "inactive")]
    assert [one.start.key for one in desk.inbox.open("started")] == ["k3"]


def test_a_release_that_waited_while_another_was_made_takes_its_place(desk: Desk) -> None:
    for number, state in ((1, told_of("PAUSED", "Suspended", "")), (2, DONE)):
        desk.accept(number)
        desk.runs.states[f"run-k{number}"] = state
        desk.rounds()
    # The first is approved only now.
    desk.rounds()
    desk.runs.states["run-k1"] = DONE
    desk.rounds()
    desk.rounds()
    assert desk.told == [(1, "in_progress"), (2, "success"), (1, "success"), (2, "inactive")]
    assert desk.inbox.open("started") == []


def test_of_two_that_ended_unseen_the_later_one_is_live(desk: Desk) -> None:
    for number in (1, 2):
        desk.accept(number)
    desk.dispatcher.once()
    desk.runs.states = {"run-k1": DONE, "run-k2": DONE}
    desk.rounds()
    desk.rounds()
    assert desk.told == [(1, "success"), (2, "success"), (1, "inactive")]


def test_a_release_takes_the_place_of_releases_alone(desk: Desk) -> None:
    for number, flow in ((1, "nightly-backup"), (2, "dr-drill"), (3, "release")):
        desk.accept(number, flow)
        desk.runs.states[f"run-k{number}"] = DONE
        desk.rounds()
    assert desk.told == [(1, "success"), (2, "success"), (3, "success")]


def test_a_release_that_failed_leaves_the_one_before_active(desk: Desk) -> None:
    for number, state in ((1, DONE), (2, told_of("FAILED", "RolledBack", "it went back"))):
        desk.accept(number)
        desk.runs.states[f"run-k{number}"] = state
        desk.rounds()
    assert desk.told == [(1, "success"), (2, "failure")]


def test_a_github_that_is_away_is_told_later_and_keeps_no_run_from_being_made(desk: Desk) -> None:
    desk.web.always({"message": "no"}, 502)
    desk.accept(1)
    desk.rounds(2)
    desk.accept(2)
    desk.rounds(2)
    assert desk.runs.made == ["k1", "k2"]
    desk.web.asked.clear()
    desk.web.always({"id": 1}, 201)
    desk.rounds(2)
    assert sorted(desk.told) == [(1, "in_progress"), (2, "in_progress")]


def test_what_github_refuses_is_given_up_in_the_end(desk: Desk) -> None:
    desk.web.always({"message": "Not Found"}, 404)
    desk.accept(1)
    desk.rounds(60)
    assert len(desk.told) == 40
    assert desk.inbox.open("started") == []


def test_what_fails_as_nobody_foresaw_holds_up_nothing_and_is_tried_again(desk: Desk) -> None:
    make = desk.runs.make

    def odd(start: Start) -> str:
        if start.key == "k1":
            raise ValueError("an answer that nobody foresaw")
        return make(start)

    desk.runs.make = odd  # type: ignore[method-assign]
    desk.accept(1)
    desk.accept(2)
    desk.rounds()
    assert desk.runs.made == ["k2"]
    assert [one.start.key for one in desk.inbox.open("waiting")] == ["k1"]
    assert "ValueError: an answer that nobody foresaw" in (desk.folder / "audit").read_text()
    desk.runs.make = make  # type: ignore[method-assign]
    desk.rounds()
    assert desk.runs.made == ["k2", "k1"]


def test_what_the_server_does_not_start_is_told_and_holds_up_nothing(desk: Desk) -> None:
    desk.runs.failing["k1"] = PermanentError(
        "start release/staging", "server", "it knows no such deployment", "Deploy it"
    )
    desk.accept(1)
    desk.accept(2)
    desk.rounds()
    assert desk.runs.made == ["k2"]
    assert (1, "error") in desk.told


def test_what_was_given_up_is_started_when_it_comes_again_though_github_cannot_be_told_of_it(desk: Desk) -> None:
    desk.runs.failing["k1"] = PermanentError("start release/staging", "server", "422", "Mend it")
    desk.web.always({"message": "Resource not accessible"}, 403)
    desk.accept(1)
    desk.rounds()
    assert desk.runs.made == []
    del desk.runs.failing["k1"]
    [given_up] = desk.inbox.open("started")
    assert desk.inbox.accept(given_up.start, None, desk.now).result() == "accepted"
    desk.rounds(5)
    assert desk.runs.made == ["k1"]
    [goes_on] = desk.inbox.open("started")
    assert goes_on.run_id == "run-k1"


@pytest.mark.parametrize("kind", [TemporaryError, ConfigurationError])
def test_what_may_be_started_later_waits_and_only_so_long_as_it_may(desk: Desk, kind: type[NightshiftError]) -> None:
    desk.runs.failing = {f"k{number}": kind("reach", "server", "it is away") for number in (1, 2)}
    desk.accept(1)
    desk.rounds()
    assert len(desk.inbox.open("waiting")) == 1
    del desk.runs.failing["k1"]
    desk.rounds()
    assert desk.runs.made == ["k1"]
    desk.accept(2)
    desk.now += 3601
    del desk.runs.failing["k2"]
    desk.rounds()
    assert desk.runs.made == ["k1"]
    assert (2, "error") in desk.told


def test_what_waits_for_an_environment_that_is_listened_to_no_longer_is_given_up_with_that_reason(desk: Desk) -> None:
    desk.dispatcher._start_within = lambda _name: 0.0
    desk.accept(1)
    desk.dispatcher.once()
    [given_up] = desk.inbox.open("started")
    assert given_up.note == "staging is not listened to any more"
    assert desk.runs.made == []


def test_a_kill_between_the_run_and_its_note_asks_for_the_same_key_again(desk: Desk) -> None:
    desk.accept(1)
    (delivery,) = desk.inbox.open("waiting")
    desk.runs.make(delivery.start)
    desk.rounds()
    assert desk.runs.made == ["k1", "k1"]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (("SCHEDULED", "Late", ""), "queued"),
        (("PENDING", "Pending", ""), "queued"),
        (("RUNNING", "Running", ""), "in_progress"),
        (("PAUSED", "Suspended", ""), "in_progress"),
        (("COMPLETED", "Completed", "released"), "success"),
        (("COMPLETED", "Completed", ""), "error"),
        (("FAILED", "RolledBack", "x"), "failure"),
        (("CRASHED", "Crashed", "x"), "error"),
        (("CANCELLED", "Cancelled", "x"), "failure"),
    ],
)
def test_only_the_flows_own_word_is_a_success(state: tuple[str, str, str], told: str) -> None:
    assert told_of(*state).state == told


def test_a_dry_run_is_no_deployment() -> None:
    assert told_of("COMPLETED", "Completed", "shown", dry_run=True).state == "inactive"


def test_a_github_app_signs_in_by_its_key(web_script: WebScript, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = signing_key("app").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    monkeypatch.setenv("APP_KEY_OF_A_TEST", pem)

    def reply(asked: Asked) -> Reply:
        bearer = asked.headers["authorization"].removeprefix("Bearer ")
        if asked.path == "/app/installations/7/access_tokens":
            assert jwt.decode(bearer, signing_key("app").public_key(), algorithms=["RS256"], issuer="5")
            return Reply({"token": "ghs-installation"}, 201)
        return Reply({"id": 1}, 201 if bearer == "ghs-installation" else 401)

    web_script.reply = reply
    settings = WebhookGitHub(
        api_url=web_script.address, app_id=5, installation_id=7, private_key="env:APP_KEY_OF_A_TEST"
    )
    GitHubApi(settings).tell("acme/api", 1, DONE, "http://ui")
    assert [one.path for one in web_script.asked] == [
        "/app/installations/7/access_tokens",
        "/repos/acme/api/deployments/1/statuses",
    ]
    monkeypatch.setenv("APP_KEY_OF_A_TEST", "no key")
    with pytest.raises(ConfigurationError, match="PEM"):
        GitHubApi(settings).tell("acme/api", 1, DONE, "http://ui")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("waiting", "", ""), "queued"),
        (("started", "", ""), "queued"),
        (("started", "", "the server has no such flow"), "error"),
        (("started", "in_progress: running", ""), "in_progress"),
        (("ended", "success", "done"), "success"),
        (("ended", "failure", "the old version serves again"), "failure"),
        (("ended", "not told", "GitHub was not told: 401"), "error"),
        # Its run was made, and nobody follows it.
        (("ended", "", ""), "error"),
    ],
)
def test_a_job_hears_nothing_better_than_what_is_known(row: tuple[str, str, str], told: str) -> None:
    state, message = answer_of(*row)
    assert state == told
    assert message or row[1] == "success"


def test_who_has_nothing_to_do_is_not_taken_for_stuck(desk: Desk) -> None:
    desk.reporter._round_seconds = 0.01
    idle = desk.dispatcher.beat = desk.reporter.beat = time.monotonic() - 3600
    threads = [threading.Thread(target=one.work, daemon=True) for one in (desk.dispatcher, desk.reporter)]
    for thread in threads:
        thread.start()
    desk.dispatcher.wake()
    try:
        wait_until(lambda: min(desk.dispatcher.beat, desk.reporter.beat) > idle + 60, "both say that they are there")
    finally:
        desk.dispatcher.end()
        desk.reporter.end()
        for thread in threads:
            thread.join(20)


def test_a_server_that_is_away_or_does_not_know_us_is_told_once_and_so_is_its_return(desk: Desk) -> None:
    desk.runs.failing[""] = ConfigurationError("ask", "http://server", "the server answered 401", "Give the password")
    for _ in range(3):
        desk.dispatcher.ask()
    assert desk.dispatcher._figures.server_up._value.get() == 0
    desk.runs.failing.clear()
    for _ in range(3):
        desk.dispatcher.ask()
    assert desk.dispatcher._figures.server_up._value.get() == 1
    told = (desk.folder / "audit").read_text()
    assert (told.count("prefect away"), told.count("prefect back"), told.count("answered 401")) == (1, 1, 1)


def test_a_secret_at_the_end_of_what_the_audit_log_keeps_is_masked_before_it_is_cut(tmp_path: Path) -> None:
    register_secret("a-secret-of-the-audit-test")
    audit = Audit(str(tmp_path / "audit"))
    audit.tell("dispatcher failed", reason=f"{'x' * (LONGEST_VALUE - 12)}a-secret-of-the-audit-test")
    audit.close()
    assert "a-secret" not in (tmp_path / "audit").read_text()
