"""The checklist as a whole: every item of it is listed, none passes that was not looked at, none breaks the others."""

from typing import Any

import pytest

from core.release_checks import NEVER_WAIVED, ReleaseCheck, passed, stops
from tasks.kubernetes_client import KubernetesClient
from tasks.preflight_item import Preflight, asked
from tasks.release_preflight import ITEMS, check_rehearsal
from tests.fix_kubernetes import KubernetesApi
from tests.fix_object_store import environment_for
from tests.fix_preflight import preflight_for, release_with


def test_items_have_names_of_their_own_and_a_title() -> None:
    names = [item.name for item in ITEMS]
    assert len(set(names)) == len(names)
    assert not set(names) & NEVER_WAIVED
    assert all(item.title for item in ITEMS)


def test_without_any_settings_nothing_passes_but_what_was_seen(
    apps: tuple[KubernetesApi, KubernetesClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.s3_client.ATTEMPTS", 1)
    checks = [item.look(preflight_for(client=apps[1])) for item in ITEMS]
    assert [check.item for check in checks] == [item.name for item in ITEMS]
    assert not [check.item for check in checks if check.state == "passed"]
    assert {check.item for check in stops(checks)} == {"recovery-point", "proof-age", "rollback-target", "capacity"}
    assert all(check.found for check in checks)


def test_a_migration_that_nobody_rehearsed_is_said_so_and_never_passed() -> None:
    assert check_rehearsal(preflight_for()).state == "not-configured"
    migrating = release_with(migration={"database": "app", "command": ["migrate"], "secret": "database"})
    check = check_rehearsal(preflight_for(migrating, environment=environment_for("none", "http://127.0.0.1:9")))
    assert (check.state, "not rehearsed" in check.found) == ("not-configured", True)


@pytest.mark.parametrize(
    "error", [KeyError("data"), TypeError("'NoneType'"), ValueError("no number"), AttributeError("get")]
)
def test_an_answer_of_another_shape_is_a_failed_item(error: Exception) -> None:
    @asked("ci")
    def look(_preflight: Preflight) -> ReleaseCheck:
        raise error

    check = look(preflight_for())
    assert (check.state, type(error).__name__ in check.found) == ("failed", True)


def test_an_item_that_was_seen_is_handed_on_as_it_is() -> None:
    seen: Any = passed("ci", "good", checks=3)

    @asked("ci")
    def look(_preflight: Preflight) -> ReleaseCheck:
        return seen

    assert look(preflight_for()) is seen
