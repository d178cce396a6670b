"""Releases with a migration on the real node, killed before and after their writes: the database is migrated once or not at all, and what serves goes with it."""

from collections import Counter

import pytest

from tasks.release_left_open import find_left_open
from tests.fix_kill_proxy import Counts, KillProxy, every_write
from tests.fix_lab_migration import Lab
from tests.fix_release import COMMIT, NEXT_COMMIT, serving
from tests.fix_release_child import kill_at_write
from tests.fix_release_migration import applied
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]

BLUE_GREEN = {
    "strategy": "blue-green",
    "drain_seconds": 0,
    "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
}
MOST_WRITES = 90


def notes_or_makes_job(method: str, path: str, _body: bytes) -> bool:
    """Whether a write is one to the journal or makes a Job: no other comes between them, and none of them twice, however long a Job takes."""
    return "/configmaps" in path or (method == "POST" and path.partition("?")[0].endswith("/jobs"))


class Rounds:
    """Releases of one of two versions after the other, each with a migration of its own, each killed and brought to its end."""

    def __init__(self, lab: Lab, proxy: KillProxy, compatibility: str) -> None:
        lab.stage.settings["release"] |= {"backup": False, "settle_seconds": 0}
        self.lab, self.proxy, self.compatibility = lab, proxy, compatibility
        self.live, self.following = ("v1", COMMIT), ("v2", NEXT_COMMIT)
        self.rounds = 0

    def release(self, number: int, when: str, counts: Counts = every_write) -> tuple[bool, bool, str]:
        """Release, killed at a write (0: never), and see it ended. Return whether it was killed, whether it came to be live, and which write that was."""
        stage = self.lab.stage
        self.rounds += 1
        name = f"m_{self.rounds}"
        # A second run would fail at its first statement.
        self.lab.migrates(f"CREATE TABLE {name} ()", applied(name))
        image, commit = self.following
        _, killed = kill_at_write(
            stage,
            self.proxy,
            number,
            when,
            image,
            commit=commit,
            migrate=True,
            adopt=True,
            schema_compatibility=self.compatibility,
            counts=counts,
        )
        at = f"killed {when} write {number}, {' '.join(self.proxy.writes[-1])}" if killed else "not killed"
        if killed:
            wait_until(lambda: self._recovered(at), f"{at}: it is recovered", seconds=90)
        return killed, self._settled(name, at), at

    def _recovered(self, at: str) -> bool:
        state = self.lab.stage.recover()
        assert state.is_completed(), f"{at}: {state.message}"
        return "its migration still runs" not in str(state.message)

    def _settled(self, name: str, at: str) -> bool:
        """Hold what must be so at every end, and return whether the new version is live."""
        stage = self.lab.stage
        assert not stage.lease_holder(), at
        assert all(not one.is_open for one in stage.journals()), at
        assert find_left_open(stage.client, stage.environment) == (), f"{at}: there is still something to do"
        for journal in stage.journals():
            done = Counter(one.step for one in journal.entries if one.event == "done")
            assert set(done.values()) <= {1}, f"{at}: done twice: {done}"
            assert len(self.lab.jobs(journal.release_id)) <= 1, f"{at}: a second Job"
        names = self.lab.applied()
        assert len(names) == len(set(names)), f"{at}: migrated twice: {names}"
        # A release without a Job has migrated nothing, and each Job did its work.
        assert len(names) == len(self.lab.jobs()), f"{at}: {names}"
        image = serving(stage)
        is_live = image == stage.image(self.following[0])
        assert is_live or image == stage.image(self.live[0]), f"{at}: {image} serves"
        assert name in names or not is_live, f"{at}: the new version without its migration"
        if is_live:
            self.live, self.following = self.following, self.live
        return is_live

    def has_migrated(self) -> bool:
        """Whether the last release did."""
        return f"m_{self.rounds}" in self.lab.applied()


@pytest.fixture
def rounds(lab: Lab, kill_proxy: KillProxy) -> Rounds:
    """Rounds of releases whose migration is breaking: there is no way back once it was begun, and none forward before."""
    return Rounds(lab, kill_proxy, "breaking")


def test_killed_around_its_migration_it_goes_back_as_long_as_no_job_was_made_and_forward_from_then_on(
    rounds: Rounds,
) -> None:
    killed, is_live, _ = rounds.release(0, "after")
    assert (killed, is_live) == (False, True)
    counted = [(method, path) for method, path in rounds.proxy.writes if notes_or_makes_job(method, path, b"")]
    made = next(number for number, (_, path) in enumerate(counted, start=1) if "/configmaps" not in path)
    # Its intent written and no Job; a Job that is not noted; noted and waited for; ended and not judged; judged.
    for number, when in (
        (made - 1, "after"),
        (made, "after"),
        (made + 2, "after"),
        (made + 3, "before"),
        (made + 3, "after"),
    ):
        killed, is_live, at = rounds.release(number, when, notes_or_makes_job)
        assert killed
        has_job = (number, when) != (made - 1, "after")
        assert (rounds.has_migrated(), is_live) == (has_job, has_job), at
    steps = [one.step for one in rounds.lab.stage.journals()[-1].entries if one.event == "done"]
    assert steps[1] == "judge the migration, attempt 1"


@pytest.mark.platform
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("when", "strategy"), [("before", "rolling"), ("after", "rolling"), ("after", "blue-green")])
def test_killed_at_any_write_it_ends_with_its_migration_once_or_not_at_all(
    lab: Lab, kill_proxy: KillProxy, when: str, strategy: str
) -> None:
    lab.stage.settings["release"] |= BLUE_GREEN if strategy == "blue-green" else {}
    rounds = Rounds(lab, kill_proxy, "backward")
    ends: Counter[tuple[bool, bool]] = Counter()
    for number in range(1, MOST_WRITES):
        killed, is_live, _ = rounds.release(number, when)
        if not killed:
            break
        ends[rounds.has_migrated(), is_live] += 1
    assert not killed
    assert set(ends) == {(False, False), (True, False), (True, True)}
