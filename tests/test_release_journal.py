"""The journal of a release: whoever deletes or edits it changes nothing about how the release ends."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import IntegrityError
from core.release_journal import Entry, Event, Journal, check_signatures, with_entry
from core.release_plan import release_id_of
from core.signature import SigningKey
from tests.fix_kill_proxy import KillProxy
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.fix_release_child import crashed_run, kill_at_write
from tests.test_release_kills import serving

pytestmark = pytest.mark.xdist_group("release-journal")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = SigningKey("hmac-sha256", "a signing key of more than thirty-two characters")
EVENTS: tuple[Event, ...] = ("opened", "intent", "done", "failed", "compensate", "closed")

events = st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(["", "one", "two"])), max_size=6)


def journal_of(written: list[tuple[Event, str]], key: SigningKey = KEY, **changed: Any) -> Journal:
    given = {"environment": "stage", "release_id": "r-1", "plan_id": "r-1", "plan_sha256": "a" * 64, "flow_run_id": "x"}
    journal = Journal.model_validate(given | changed)
    for event, step in written:
        facts: dict[str, str | int] = {"outcome": "released"} if event == "closed" else {}
        journal = with_entry(journal, key, at=NOW, fence=1, holder="r-1", event=event, step=step, facts=facts)
    return journal


def is_believed(journal: Journal) -> bool:
    try:
        check_signatures(journal, [KEY], on="it")
    except IntegrityError:
        return False
    return True


# The rules


@given(written=events)
def test_what_was_written_is_believed_and_read_back_the_same(written: list[tuple[Event, str]]) -> None:
    journal = journal_of(written)
    assert is_believed(journal)
    assert Journal.model_validate_json(journal.model_dump_json()) == journal
    assert is_believed(Journal.model_validate_json(journal.model_dump_json()))
    assert journal.is_open == (not written or written[-1][0] != "closed")
    assert journal.goes_back == any(event == "compensate" for event, _ in written)
    for step in ("one", "two"):
        last = [event for event, its in written if its == step]
        assert journal.is_done(step) == (last[-1:] == ["done"])


@given(written=events.filter(bool), data=st.data())
def test_any_edit_but_cutting_off_the_end_is_found(written: list[tuple[Event, str]], data: st.DataObject) -> None:
    journal = journal_of(written)
    entries, number = list(journal.entries), data.draw(st.integers(0, len(written) - 1))
    edit = data.draw(st.sampled_from(["taken out", "repeated", "field", "swapped", "other journal", "other key"]))
    if edit == "taken out":
        entries.pop(number)
        if number == len(written) - 1:
            # Nothing of what is left says so: recovery never concludes from a missing entry.
            assert is_believed(journal.model_copy(update={"entries": tuple(entries)}))
            return
    elif edit == "repeated":
        entries.insert(number, entries[number])
    elif edit == "field":
        name, value = data.draw(
            st.sampled_from(
                [("fence", 7), ("holder", "r-2"), ("step", "three"), ("facts", {"a": "b"}), ("at", datetime(2025, 1, 1, tzinfo=UTC))]
            )
        )  # fmt: skip
        entries[number] = entries[number].model_copy(update={name: value})
    elif edit == "swapped":
        other = data.draw(st.integers(0, len(written) - 1))
        entries[number], entries[other] = entries[other], entries[number]
        if number == other:
            return
    elif edit == "other journal":
        entries[number] = journal_of(written, release_id="r-2").entries[number]
    else:
        entries[number] = journal_of(written, SigningKey("hmac-sha256", "another key of more than thirty-two characters")).entries[number]  # fmt: skip
    assert not is_believed(journal.model_copy(update={"entries": tuple(entries)})), edit


@pytest.mark.parametrize("changed", [{"plan_sha256": "b" * 64}, {"plan_id": "r-2"}, {"kind": "rollback"}, {"environment": "production"}])  # fmt: skip
def test_the_head_of_a_journal_is_signed_too(changed: dict[str, str]) -> None:
    assert not is_believed(journal_of([("opened", "")]).model_copy(update=changed))


# Deleted or edited while a release runs

Edit = Callable[[list[Any]], list[Any]]


def change_entry(entries: list[Any]) -> list[Any]:
    entries[1]["step"] = "something else"
    return entries


EDITS: dict[str, Edit] = {
    "changed": change_entry,
    "taken out": lambda entries: [*entries[:1], *entries[2:]],
    "cut off": lambda entries: entries[:-1],
    "older": lambda entries: entries[:2],
    "emptied": lambda _entries: [],
}


class Journals:
    """The ConfigMap of the only journal, as somebody with kubectl has it."""

    def __init__(self, kubernetes: KubernetesApi) -> None:
        self.kubernetes = kubernetes

    @property
    def name(self) -> str:
        (name,) = [key[3] for key in self.kubernetes.snapshot() if key[1] == "configmaps" and "nightshift-r-" in key[3]]
        return name

    def delete(self) -> None:
        self.kubernetes.delete("v1", "configmaps", "nightshift", self.name)

    def edit(self, edit: Edit) -> None:
        place = ("v1", "configmaps", "nightshift", self.name)
        stored = json.loads(self.kubernetes.read(*place)["data"]["journal.json"])
        stored["entries"] = edit(stored["entries"])
        self.kubernetes.merge(*place, {"data": {"journal.json": json.dumps(stored)}})


@pytest.fixture
def somebody(kubernetes: KubernetesApi) -> Journals:
    return Journals(kubernetes)


def warnings(stage: Stage) -> list[str]:
    return [found.text for one in stage.reports()[-1].steps for found in one.findings if found.severity == "warning"]


@pytest.mark.services
@pytest.mark.parametrize("edit", ["deleted", *EDITS])
def test_what_somebody_does_to_the_journal_of_a_release_that_runs_is_put_right_and_told(
    stage: Stage, kubernetes: KubernetesApi, somebody: Journals, edit: str
) -> None:
    act = somebody.delete if edit == "deleted" else lambda: somebody.edit(EDITS[edit])
    kubernetes.after("PATCH", "/deployments/hello", lambda *_: act(), skip=1)
    state = stage.release("v2")
    assert state.is_completed(), state.message
    (journal,) = stage.journals()
    assert journal.outcome == "released"
    assert [one.number for one in journal.entries] == list(range(1, len(journal.entries) + 1))
    (told,) = [one for one in warnings(stage) if "journal" in one]
    wanted = {"deleted": "deleted the journal; it was made again", "cut off": "older state", "older": "older state", "emptied": "older state"}  # fmt: skip
    assert wanted.get(edit, "edited the journal; it was put right") in told
    assert stage.reports()[-1].verdict == "passed with warnings"


@pytest.mark.services
@pytest.mark.parametrize("edit", ["deleted", *EDITS, "garbage"])
@pytest.mark.parametrize("number", [9, 13])
def test_what_somebody_does_to_the_journal_of_a_killed_release_does_not_mislead_the_recovery(  # noqa: PLR0917 - fixtures
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy, somebody: Journals, edit: str, number: int
) -> None:
    run_id, killed = kill_at_write(stage, kill_proxy, number, "after", run_id=crashed_run())
    assert killed
    if edit == "deleted":
        somebody.delete()
    elif edit == "garbage":
        kubernetes.merge("v1", "configmaps", "nightshift", somebody.name, {"data": {"journal.json": "{}"}})
    else:
        somebody.edit(EDITS[edit])
    state = stage.recover()
    assert state.is_completed(), state.message
    assert f"{release_id_of(run_id)}: brought back to the old version" in str(state.message)
    assert serving(stage) == stage.image_of("worker") == stage.image("v1")
    (journal,) = stage.journals()
    assert journal.outcome == "rolled back"
    assert not stage.lease_holder()
    unnoticed = {"cut off", "older", "emptied"}
    assert any("by the signed plan and by what is seen" in one for one in warnings(stage)) == (edit not in unnoticed)
    assert "is open" in str(stage.recover().message)


@pytest.mark.parametrize("closed_too", [False, True])
def test_an_entry_that_says_closed_and_was_not_written_by_nightshift_closes_nothing(
    stage: Stage, kill_proxy: KillProxy, somebody: Journals, kubernetes: KubernetesApi, closed_too: bool
) -> None:
    _, killed = kill_at_write(stage, kill_proxy, 9, "after", run_id=crashed_run())
    assert killed
    forged = Entry(number=9, at=NOW, fence=1, holder="r-1", event="closed", facts={"outcome": "released"})
    somebody.edit(lambda entries: [*entries, json.loads(forged.model_dump_json())])
    if closed_too:
        label = {"metadata": {"labels": {"nightshift.dev/journal": "closed"}}}
        kubernetes.merge("v1", "configmaps", "nightshift", somebody.name, label)
    state = stage.recover()
    assert "brought back" in str(state.message), state.message
    assert serving(stage) == stage.image("v1")


def test_a_journal_of_another_release_in_its_place_is_not_believed(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy
) -> None:
    assert stage.release("v2").is_completed()
    (closed,) = [one for key, one in kubernetes.snapshot().items() if key[1] == "configmaps" and "journal.json" in one.get("data", {})]  # fmt: skip
    run_id, killed = kill_at_write(stage, kill_proxy, 9, "after", "v3", run_id=str(uuid4()), commit="3" * 40)
    assert killed
    name = f"nightshift-{release_id_of(run_id)}"
    kubernetes.merge("v1", "configmaps", "nightshift", name, {"data": closed["data"]})
    state = stage.recover()
    assert state.is_completed(), state.message
    assert release_id_of(run_id) in str(state.message)
    assert serving(stage) == stage.image_of("worker") == stage.image("v2")
    assert all(not one.is_open for one in stage.journals())
