"""Whether the database that is backed up is the one that the backups so far are of, and that nothing else is taken for it."""

from typing import Any

import pytest

from core.backup_source import check_source, name_difference, source_differences, source_topic, swap_refusals
from core.manifest import Manifest, Server
from tests.fix_keeping import id_of, sample_manifest


def server(**changes: Any) -> Server:
    return sample_manifest(id_of(1)).server.model_copy(update=changes)


def taken(days_ago: float, **changes: Any) -> Manifest:
    manifest = sample_manifest(id_of(days_ago))
    return manifest.model_copy(update={"server": server(**changes)})


def test_another_name_and_another_server_are_told_apart() -> None:
    now = server(database_name="big", system_identifier="8")
    assert [(one.what, one.recorded, one.now) for one in source_differences(server(), now)] == [
        ("name", "app", "big"),
        ("server", "7", "8"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"database_oid": 99},
        {"host": "standby", "port": 5433, "timeline": 2},
        {"version": "17.1", "version_number": 170001},
        {"system_identifier": "unknown"},
    ],
    ids=str,
)
def test_a_swap_a_failover_and_a_role_that_may_not_ask_are_no_difference(changes: dict[str, Any]) -> None:
    assert source_differences(server(), server(**changes)) == ()
    assert source_differences(server(**changes), server()) == ()
    assert check_source("app", [taken(1)], server(**changes)).state == "passed"


def test_a_database_of_another_name_is_a_warning_that_says_what_to_correct() -> None:
    check = check_source("app", [taken(1)], server(database_name="big"))
    assert (check.name, check.state) == ("app: source", "warning")
    assert check.found == (
        "the backups of app so far are of the database app on 127.0.0.1:5432; app now is the database big on 127.0.0.1:5432"
    )
    assert "correct name in [databases.app]" in check.next_step


def test_one_night_of_the_wrong_name_does_not_end_the_warning() -> None:
    older, wrong = taken(2), taken(1, database_name="big")
    still = check_source("app", [older, wrong], server(database_name="big"))
    assert still.state == "warning"
    assert still.found.startswith(f"the backup {older.backup_id} is of the database app on ")
    # And when the name was corrected it says that the newest backup is of the other.
    corrected = check_source("app", [older, wrong], server())
    assert corrected.found.startswith("the backups of app so far are of the database big on ")
    assert f"{wrong.backup_id} would bring back the other database" in corrected.next_step


def test_a_new_server_is_a_warning_until_the_next_backup() -> None:
    moved = server(system_identifier="8", host="new")
    check = check_source("app", [taken(1)], moved)
    assert check.state == "warning"
    assert "another server, new:5432 (system 8, was 7)" in check.found
    assert check_source("app", [taken(2), taken(1, system_identifier="8")], moved).state == "passed"


def test_without_a_backup_there_is_nothing_to_compare_with() -> None:
    assert check_source("app", [], server()).state == "passed"


def test_a_backup_of_a_database_of_another_name_replaces_none_unless_that_name_was_accepted() -> None:
    assert name_difference(server(), "app") == ()
    assert swap_refusals(server(), "app", ()) == ()
    (difference,) = name_difference(server(), "big")
    assert difference.stops
    assert str(difference) == (
        "backup of the database app: the name big in the live database, the name app in the copy (the backup is of the database app on 127.0.0.1:5432)"
    )
    (refusal,) = swap_refusals(server(), "big", [source_topic("other")])
    assert "--backup-of app" in refusal
    assert swap_refusals(server(), "big", [source_topic("app")]) == ()
