"""A backup whose dump lacks an object of its database, where a backup is chosen to be restored: it counts for no age, and stands for no whole one."""

import pytest

from tasks.chosen_backup import ChosenBackup, find_backup, find_backup_to_drill, restore_options
from tests.fix_keeping import Keeping, id_of


def chosen(keeping: Keeping, wanted: str) -> ChosenBackup:
    return find_backup(keeping.store, keeping.environment, "app", keeping.keys, wanted)[0]


def told(backup_id: str) -> str:
    return f"{backup_id} does not count: its dump lacks table public.lost, which the database had"


@pytest.mark.parametrize("wanted", ["newest-decoded", "before:2100-01-01T00:00:00Z"])
def test_the_newest_whole_backup_is_taken_and_what_was_passed_over_is_told(keeping: Keeping, wanted: str) -> None:
    whole = keeping.add(id_of(2), "decoded")
    gapped = keeping.add(id_of(1), "decoded", lacks=("table public.lost",))
    found = chosen(keeping, wanted)
    assert found.backup_id == whole
    assert found.passed_over == (told(gapped),)
    options = restore_options(keeping.store, keeping.environment, "app", keeping.keys)
    assert [(one.choice, one.backup_id) for one in options] == [("newest-decoded", whole)]


def test_one_that_is_named_is_taken_and_what_it_lacks_is_told(keeping: Keeping) -> None:
    keeping.add(id_of(2), "decoded")
    gapped = keeping.add(id_of(1), "decoded", lacks=("table public.lost",))
    found = chosen(keeping, gapped)
    assert (found.backup_id, found.state, found.own) == (gapped, "decoded", told(gapped))


def test_a_drill_takes_it_to_find_out_what_it_is_worth(keeping: Keeping) -> None:
    keeping.add(id_of(2), "proven")
    gapped = keeping.add(id_of(1), "decoded", lacks=("table public.lost",))
    found, _ = find_backup_to_drill(keeping.store, keeping.environment, "app", keeping.keys)
    assert (found.backup_id, found.own) == (gapped, told(gapped))
