"""The rules by which a copy's objects are compared with the manifest's: whatever differs is told, and only that."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifest import Manifest, ObjectFacts
from core.object_facts import CHANGED_KIND, FORM, GroupKey, ObjectsSaid, Said, collect_groups, listed
from core.restore_record import Skipped
from core.restored_objects import NAMED_AT_MOST, compare_objects
from tests.test_restored_comparison import RESTORED, a_manifest

FUNCTIONS = GroupKey("owner and privileges", "function", "public")
STATES = GroupKey("state", "function", "public")
COMMENTS = GroupKey("comments", "function", "")
MEMBERS = GroupKey("owner and privileges", f"{CHANGED_KIND} function", "public")

keys = st.sampled_from([FUNCTIONS, STATES, COMMENTS, GroupKey("owner and privileges", "schema", "")])
# An object with an owner says so; other groups may say anything.
said = st.dictionaries(
    keys,
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.sets(st.sampled_from("xyz"), min_size=1).map(lambda s: tuple(sorted(s))),
        min_size=1,
    ),
)


def facts(groups: dict[GroupKey, Any], *, listed_at_most: int = 100, **more: Any) -> ObjectFacts:
    fields: dict[str, Any] = {"form": FORM, "not_validated": (), "not_enforced": (), "invalid_indexes": ()}
    return ObjectFacts(groups=collect_groups(groups, listed_at_most=listed_at_most), **(fields | more))


def recorded(objects: ObjectFacts | None) -> Manifest:
    return a_manifest().model_copy(update={"objects": objects})


def told(before: ObjectFacts | None, after: ObjectFacts, **restored: Any) -> dict[str, str]:
    findings = compare_objects(recorded(before), RESTORED.model_copy(update=restored), after)
    return {finding.text: finding.severity for finding in findings}


@given(said, said, st.sampled_from([0, 2, 100]), st.sampled_from([0, 2, 100]))
def test_there_is_a_mismatch_exactly_when_something_differs(
    one: dict[GroupKey, Said], other: dict[GroupKey, Said], limit: int, other_limit: int
) -> None:
    found = told(facts(one, listed_at_most=limit), facts(other, listed_at_most=other_limit))
    assert bool(found) == (one != other)
    assert set(found.values()) <= {"mismatch"}


@given(said)
def test_a_manifests_groups_keep_what_was_said(one: dict[GroupKey, Said]) -> None:
    assert listed(collect_groups(one)) == one
    stored = facts(one)
    assert ObjectFacts.model_validate_json(stored.model_dump_json()) == stored


def test_a_backup_that_recorded_nothing_is_told_by_a_note_and_another_form_too() -> None:
    for before in (None, facts({}).model_copy(update={"form": FORM + 1})):
        ((text, severity),) = told(before, facts({FUNCTIONS: {"f()": ("owner a",)}})).items()
        assert severity == "note"
        assert "were not compared but by number" in text


def test_each_difference_is_named() -> None:
    before = {
        FUNCTIONS: {"f()": ("owner a",), "gone()": ("owner a",)},
        STATES: {"f()": ("strict",), "gone()": ("strict",)},
    }
    after = {
        FUNCTIONS: {"f()": ("ALL to b by a", "owner a"), "more()": ("owner a",)},
        STATES: {"f()": ("strict", "volatile")},
    }
    assert told(facts(before), facts(after)) == {
        "function f() lacks “the usual privileges” and has “ALL to b by a”, which was not recorded": "mismatch",
        "function f() has “volatile”, which was not recorded": "mismatch",
        "function gone() is missing": "mismatch",
        "function more() is in the copy and was not in the snapshot": "mismatch",
    }


def test_a_few_are_named_and_the_rest_is_counted() -> None:
    many = {f"f{number}()": ("owner a",) for number in range(NAMED_AT_MOST + 7)}
    found = told(facts({FUNCTIONS: many}), facts({FUNCTIONS: dict.fromkeys(many, ("owner b",))}))
    assert len(found) == NAMED_AT_MOST + 1
    assert "7 more objects of the kind function in schema public differ in owner and privileges" in found
    found = told(facts({FUNCTIONS: many}, listed_at_most=5), facts({FUNCTIONS: dict.fromkeys(many, ("owner b",))}))
    assert list(found) == [
        "objects of the kind function in schema public differ in owner and privileges: 27 are in the copy, 27 were recorded, too many to be named"
    ]


def test_members_of_an_extension_that_another_role_made_are_the_environments() -> None:
    before: dict[GroupKey, Said] = {
        MEMBERS: {"f()": ("granted: ALL to b by its owner", "owner a"), "g()": ("owner a",)}
    }
    assert told(facts(before), facts({MEMBERS: {"f()": ("owner b",)}})) == {
        "changed privileges of function f(): the copy lacks “granted: ALL to b by its owner”; it was made by another role here": "environment"
    }
    assert told(facts(before), facts({MEMBERS: {"f()": ("owner a",)}})) == {
        "changed privileges of function f(): the copy lacks “granted: ALL to b by its owner”": "mismatch"
    }
    assert told(facts(before), facts({})) == {
        "changed privileges of function f(): the copy lacks “granted: ALL to b by its owner”": "mismatch"
    }


@pytest.mark.parametrize(
    "why", [{"partial": True}, {"skipped": (Skipped(entry="EXTENSION - vector", why="the server has none"),)}]
)
def test_of_a_part_what_is_there_must_have_its_owner_and_the_rest_is_said_to_be_unjudged(why: dict[str, Any]) -> None:
    before = {FUNCTIONS: {"f()": ("owner a",), "gone()": ("owner a",)}, STATES: {"f()": ("strict",)}}
    after = {FUNCTIONS: {"f()": ("owner b",)}}
    assert told(facts(before), facts(after), **why) == {
        "function f() lacks “owner a” and has “owner b”, which was not recorded": "mismatch",
        "not all entries of the dump were restored: 2 differences in objects that are not there, in states and in comments were not judged": "note",
    }


def test_a_key_that_is_no_longer_enforced_is_a_mismatch_and_the_other_way_round_a_note() -> None:
    found = told(facts({}, not_enforced=("s.t.both", "s.t.old")), facts({}, not_enforced=("s.t.both", "s.t.new")))
    assert list(found.values()) == ["mismatch", "note"]
    assert [text.split()[1] for text in found] == ["s.t.new", "s.t.old"]


def test_names_are_told_without_quotes_and_long_statements_by_their_hash() -> None:
    objects = ObjectsSaid()
    objects.say(STATES, 'public."json_object"()', "labels " + "x" * 1000)
    objects.say(STATES, "public.json_object()", "labels " + "x" * 999)
    ((name, statements),) = objects.said[STATES].items()
    assert name == "public.json_object()"
    assert len(set(statements)) == 2
    assert all(len(statement) <= 200 for statement in statements)
