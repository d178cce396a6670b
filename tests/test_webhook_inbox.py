"""The inbox: what it has said yes to is on disk, once."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.webhook_mapping import Start
from deployments.webhook.inbox import Token, opened


def start(key: str = "a", **parameters: object) -> Start:
    """Something to be started."""
    return Start(key, "staging", "release", {"environment": "staging", **parameters}, "acme/api", 7)


def test_fifty_equal_deliveries_at_once_are_one(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        barrier, outcomes = threading.Barrier(50), []

        def deliver() -> None:
            barrier.wait()
            outcomes.append(inbox.accept(start(), None, 1.0).result())

        threads = [threading.Thread(target=deliver) for _ in range(50)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert sorted(outcomes) == ["accepted"] + ["repeated"] * 49
        assert len(inbox.open("waiting")) == 1


def test_a_delivery_that_was_done_is_still_known_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        inbox.accept(start(), Token("jti", 100.0), 1.0).result()
        inbox.set_started("a", "run")
        inbox.set_reported("a", "success")
        inbox.set_ended("a", "", 2.0)
    with opened(tmp_path) as inbox:
        assert inbox.accept(start(), None, 3.0).result() == "repeated"
        assert inbox.accept(start(image="other"), None, 3.0).result() == "other parameters"
        assert inbox.accept(start("b"), Token("jti", 100.0), 3.0).result() == "token used"
        assert inbox.open("waiting") == []


def test_a_delivery_that_was_given_up_before_a_run_was_made_is_taken_in_again(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        for key in ("a", "made"):
            inbox.accept(start(key), None, 1.0).result()
        inbox.set_never_made("a", "no deployment")
        inbox.set_reported("a", "error")
        inbox.set_ended("a", "no deployment", 2.0)
        inbox.set_made("made", "run", 2.0)
        assert inbox.accept(start(image="other"), Token("jti", 100.0), 3.0).result() == "other parameters"
        assert inbox.accept(start("made"), None, 3.0).result() == "repeated"
        assert inbox.accept(start(), None, 3.0).result() == "accepted"
        assert inbox.accept(start(), None, 4.0).result() == "repeated"
        [waiting] = inbox.open("waiting")
        assert (waiting.received, waiting.note, waiting.reported) == (3.0, "", "")


def test_what_was_given_up_is_taken_in_again_as_the_mended_rule_has_it(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        inbox.accept(start(image="wrong"), None, 1.0).result()
        inbox.set_ended("a", "the flow does not take it", 2.0)
        assert inbox.accept(start(image="right"), None, 3.0).result() == "accepted"
        [waiting] = inbox.open("waiting")
        assert waiting.start.parameters["image"] == "right"
        inbox.set_started("a", "run")
        # Of what was started a rule that changed since makes no second run.
        assert inbox.accept(start(image="another"), None, 4.0).result() == "other parameters"


def test_what_was_given_up_is_taken_in_again_before_github_has_heard_of_it(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        inbox.accept(start(), None, 1.0).result()
        inbox.set_never_made("a", "no deployment")
        assert inbox.accept(start(), None, 2.0).result() == "accepted"
        # What becomes of telling that the one of before was given up says nothing of this one.
        inbox.set_reported("a", "error", 1.0)
        inbox.set_ended("a", "no deployment", 2.0, 1.0)
        [waiting] = inbox.open("waiting")
        assert (waiting.received, waiting.note, waiting.reported) == (2.0, "", "")
        inbox.set_started("a", "run")
        inbox.set_reported("a", "success", 2.0)
        inbox.set_ended("a", "done", 3.0, 2.0)
        assert inbox.open("started") == []


def test_a_token_that_is_refused_leaves_no_delivery_and_one_that_is_used_is_kept_past_its_end(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        inbox.accept(start(), Token("jti", 100.0), 1.0).result()
        inbox.forget(0.0, 100.0 + 86400)
        assert inbox.accept(start("b"), Token("jti", 100.0), 1.0).result() == "token used"
        inbox.forget(0.0, 101.0 + 86400)
        assert inbox.accept(start("b"), Token("jti", 100.0), 1.0).result() == "accepted"


def test_what_ended_long_ago_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        for key in "abc":
            inbox.accept(start(key), None, 1.0).result()
        inbox.set_ended("a", "", 10.0)
        inbox.set_made("b", "run", 20.0)
        inbox.forget(15.0, 0.0)
        assert [inbox.accept(start(key), None, 2.0).result() for key in "abc"] == ["accepted", "repeated", "repeated"]


def test_what_github_shows_as_active_is_kept_until_a_later_release_takes_its_place(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        for key, received in (("live", 1.0), ("later", 1000.0)):
            inbox.accept(start(key), None, received).result()
        inbox.set_started("live", "run")
        inbox.set_reported("live", "success")
        inbox.set_ended("live", "", 2.0)
        inbox.forget(999.0, 999.0)
        inbox.set_started("later", "run-2")
        [later] = inbox.open("started")
        assert [one.start.key for one in inbox.succeeded_before(later)] == ["live"]
        inbox.set_reported("live", "inactive")
        inbox.forget(999.0, 999.0)
        assert inbox.find("live") is None


def test_who_went_away_before_the_commit_does_not_stop_the_others(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        hold, go = threading.Event(), threading.Event()

        def slow(_connection: sqlite3.Connection) -> None:
            hold.set()
            go.wait(20)

        inbox.submit(slow)
        hold.wait(20)
        gone, waits = inbox.accept(start("gone"), None, 1.0), inbox.accept(start("waits"), None, 1.0)
        assert gone.cancel()
        go.set()
        assert waits.result(20) == "accepted"
        assert [one.start.key for one in inbox.open("waiting")] == ["waits"]


def test_a_change_that_fails_takes_no_other_along(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        bad = inbox.submit(lambda connection: connection.execute("INSERT INTO nothing VALUES (1)"))
        good = inbox.accept(start(), None, 1.0)
        assert good.result(20) == "accepted"
        with pytest.raises(sqlite3.OperationalError):
            bad.result(20)


def test_a_second_receiver_is_turned_away(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigurationError, match="another receiver"), opened(tmp_path):
        pass
    with opened(tmp_path):
        pass


def test_each_commit_is_synced(tmp_path: Path) -> None:
    with opened(tmp_path) as inbox:
        asked = ("journal_mode", "synchronous")
        found = [
            inbox.submit(lambda c, name=name: c.execute(f"PRAGMA {name}").fetchone()[0]).result() for name in asked
        ]
        assert found == ["wal", 2]


_WRITER = """
import sys
from pathlib import Path
from core.webhook_mapping import Start
from deployments.webhook.inbox import Inbox
inbox = Inbox(Path(sys.argv[1]))
for number in range(100_000):
    inbox.accept(Start(str(number), "staging", "release", {}, "acme/api"), None, float(number)).result()
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_said_to_be_in(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        last = 0
        for line in child.stdout:
            last = int(line)
            if last >= 200:
                os.kill(child.pid, signal.SIGKILL)
                break
        last = max([last, *(int(line) for line in child.stdout if line.endswith("\n"))])
    with opened(tmp_path) as inbox:
        assert [one.start.key for one in inbox.open("waiting", 100_000)][: last + 1] == [
            str(n) for n in range(last + 1)
        ]
