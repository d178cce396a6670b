"""Negative controls on a restored copy: each damage is done, seen, and undone; a comparison that is blind is found out."""

# ruff: noqa: S608 - queries with names of ours

from collections.abc import Callable, Iterable

import pytest

from core import digest_comparison
from core.manifest import Table
from core.restore_record import Control
from tasks.negative_controls import database_controls
from tasks.verify_restored import verify_restored
from tests.fix_restored import Copy

NAMES = ["value changed", "values exchanged", "row duplicated"]


def controls(copy: Copy, rotation: int = 0, tables: Iterable[Table] | None = None) -> tuple[Control, ...]:
    manifest = copy.manifest
    if tables is not None:
        manifest = manifest.model_copy(update={"tables": tuple(tables)})
    return database_controls(copy.database, manifest, rotation=rotation, restored=copy.restored)


def only(copy: Copy, *names: str) -> tuple[Table, ...]:
    return tuple(table for table in copy.manifest.tables if table.name in names)


def test_each_damage_is_seen_and_the_copy_left_as_it_was(untouched_copy: Copy) -> None:
    tried = set()
    for rotation in range(6):
        found = controls(untouched_copy, rotation)
        assert [control.name for control in found] == NAMES
        assert all(control.detected for control in found), found
        assert len({control.on for control in found}) > 1
        tried |= {control.on for control in found}
    # Over the days all tables are tried that nothing stands in the way of.
    assert len(tried) == 6
    assert verify_restored(untouched_copy.database, untouched_copy.manifest, untouched_copy.restored).matches


# Each stands in the way in its own manner: keys referenced elsewhere and an identity column; rules that eat statements; published without a replica identity;
# partitions whose keys are their parent's; partitions loaded through their root; unlogged; row security.
@pytest.mark.parametrize("name", ["account", "payment", "kept", "log", "event_1", "secret", "cache", "old"])
def test_every_kind_of_table_can_be_damaged(untouched_copy: Copy, name: str) -> None:
    found = controls(untouched_copy, 3, only(untouched_copy, name))
    assert [control.name for control in found] == NAMES
    assert all(control.detected and control.on == f"public.{name}" for control in found), found


def test_partitions_by_hash_are_compared_as_one(untouched_copy: Copy) -> None:
    found = controls(untouched_copy, 1, only(untouched_copy, "changed_0", "changed_1"))
    assert all(control.detected for control in found), found


@pytest.mark.parametrize("name", ["empty", "no_columns", "same", "single"])
def test_a_table_that_cannot_take_part_is_said_to(untouched_copy: Copy, name: str) -> None:
    found = controls(untouched_copy, 0, only(untouched_copy, name))
    untouched = [control for control in found if control.how.startswith("no table could be damaged: ")]
    assert all(not control.detected for control in untouched)
    # A value can be changed even where all rows are equal; nothing can be exchanged.
    assert [control.name for control in found if control.detected] == (
        ["value changed"] if name in {"same", "single"} else []
    )
    assert len(untouched) == 3 - len([control for control in found if control.detected])


def test_tables_without_a_digest_cannot_show_damage(untouched_copy: Copy) -> None:
    counted = [
        table.model_copy(update={"mode": "counts", "digest": None, "digest_sql": None})
        for table in untouched_copy.manifest.tables
    ]
    assert not any(control.detected for control in controls(untouched_copy, 0, counted))


def test_a_blind_comparison_is_found_out(restored_copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_comparison, "differences", lambda *_arguments: ())
    # The verification is blind with it: both use the same function.
    restored_copy.run("UPDATE account SET balance = 0 WHERE id = 1")
    assert verify_restored(restored_copy.database, restored_copy.manifest, restored_copy.restored).matches
    found = controls(restored_copy)
    assert [control.detected for control in found] == [False, False, False]
    assert all("the digest went from" in control.how for control in found)


def test_a_digest_that_counts_only_is_found_out(untouched_copy: Copy) -> None:
    blind = [
        table.model_copy(
            update={"digest": "0", "digest_sql": f"SELECT count(*), '0' FROM ONLY public.\"{table.name}\" AS r"}
        )
        for table in only(untouched_copy, "account", "payment", "secret")
    ]
    found = controls(untouched_copy, 0, blind)
    assert [control.detected for control in found] == [False, False, False]
    assert all("the digest went from 0 to 0" in control.how for control in found)


def test_a_digest_that_forgets_a_column_or_adds_columns_up_is_found_out(untouched_copy: Copy) -> None:
    (table,) = only(untouched_copy, "payment")
    assert table.digest_sql is not None
    # Without the final mix values exchanged between two rows cancel out; nothing else does.
    sums = "coalesce(sum(hashint8extended(r.id, 0)::numeric + hashint8extended(r.account_id, 0) + hashint8extended(r.amount, 0)), 0)::text"
    query = f"SELECT count(*), {sums} FROM ONLY public.payment AS r"
    with untouched_copy.server.connect(untouched_copy.name) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    weak = table.model_copy(update={"digest_sql": query, "digest": row[1]})
    assert [control.detected for control in controls(untouched_copy, 0, [weak])] == [True, False, True]


def test_a_table_that_differs_already_proves_nothing(restored_copy: Copy) -> None:
    restored_copy.run("UPDATE account SET balance = 0 WHERE id = 1")
    found = controls(restored_copy, 0, only(restored_copy, "account"))
    assert not any(control.detected for control in found)
    assert all("it differs from the manifest before it is damaged" in control.how for control in found)


def test_who_is_no_superuser_tries_nothing(untouched_copy: Copy, fresh_role: Callable[..., tuple[str, str]]) -> None:
    name, password = fresh_role(untouched_copy.server)
    login = untouched_copy.server.database(untouched_copy.name, user=name, password=password)
    found = database_controls(login, untouched_copy.manifest, rotation=0, restored=untouched_copy.restored)
    assert [control.name for control in found] == NAMES
    assert not any(control.detected for control in found)
    assert f"{name} is not a superuser" in found[0].how
    assert not any(control.tried for control in found)


def test_triggers_and_checks_do_not_hide_a_damage(restored_copy: Copy) -> None:
    restored_copy.run(
        "CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "CREATE TRIGGER back BEFORE UPDATE ON secret FOR EACH ROW EXECUTE FUNCTION back()",
        "CREATE TRIGGER back BEFORE UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION back()",
        "ALTER TABLE payment ENABLE ALWAYS TRIGGER back",
    )
    assert all(control.detected for control in controls(restored_copy, 0, only(restored_copy, "secret")))
    # Here each UPDATE is undone: no damage, so no claim to have seen one.
    found = controls(restored_copy, 0, only(restored_copy, "payment"))
    assert [control.detected for control in found] == [False, False, True]
    assert "undid the damage" in found[0].how
