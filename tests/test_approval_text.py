"""What the forms of suspended runs say: what is replaced, both ages, and nothing that a stranger's name turned into markup."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.callables import parameter_schema

from core.approval_text import choice_text, swap_text, undo_text
from core.backup_id import make_backup_id
from core.restore_choice import NEWEST_DECODED, NEWEST_PROVEN, Option
from core.swap_plan import Session, SwapPlan
from flows.app_state_backup import app_state_backup
from flows.approval import Approval, what_is_wrong
from flows.dr_drill import dr_drill
from flows.nightly_backup import nightly_backup
from flows.restore import restore
from flows.undo_swap import undo_swap

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
FLOWS = (nightly_backup, dr_drill, restore, undo_swap, app_state_backup)


def backup_of(hours: int) -> str:
    return make_backup_id(NOW - timedelta(hours=hours), hours.to_bytes(4, "big"))


def option(choice: str, hours: int, state: str) -> Option:
    return Option(
        choice=choice,
        backup_id=backup_of(hours),
        state=state,
        snapshot_time=NOW - timedelta(hours=hours),
        loses=f"everything written in the last {hours} h",
    )


def plan(*applications: str, live: str = "app", notes: tuple[str, ...] = ()) -> SwapPlan:
    sessions = tuple(
        Session(pid=number, database=live, user="api", application=name, state="idle", terminable=True)
        for number, name in enumerate(applications, start=1)
    )
    return SwapPlan(
        live=live,
        live_oid=1,
        copy_name="app_restored_0123abcd",
        copy_oid=2,
        old_name="app_before_0123abcd",
        restore_id="0123abcd",
        system_identifier="7",
        refusals=(),
        sessions=sessions,
        notes=notes,
        source="database app on db-1:5432",
    )


BOTH = (option(NEWEST_PROVEN, 27, "proven"), option(NEWEST_DECODED, 3, "decoded"))


def test_the_question_which_backup_names_both_with_what_each_loses_or_says_that_one_is_missing() -> None:
    text = choice_text(BOTH, "app", "app_restored_0123abcd on primary")
    assert f"- `newest-decoded` loses everything written in the last 3 h: {backup_of(3)}, decoded" in text
    assert f"- `newest-proven` loses everything written in the last 27 h: {backup_of(27)}, proven" in text
    assert "- `newest-proven`: there is none" in choice_text(BOTH[1:], "app", "x on y")
    # Prefect's dialog is narrow: a table's last column, what would be lost, was not to be seen in it.
    assert "|---" not in text


def test_the_approval_says_what_is_replaced_by_what_of_which_age_and_what_becomes_of_the_old_one() -> None:
    text = swap_text(plan("psql", notes=("one standby streams",)), backup_of(27), "primary", BOTH, NOW).replace(
        "\\", ""
    )
    for said in (
        "the live database **app** on the server primary",
        f"**app_restored_0123abcd** is the backup {backup_of(27)}, taken 2026-03-09 09:00:00 UTC (27 h ago)",
        "That backup is of: database app on db-1:5432, snapshot 2026-03-09 09:00:00 UTC.",
        "kept as **app_before_0123abcd**",
        f"recovery point (newest decoded backup): 3 h, {backup_of(3)}",
        f"proof age (newest proven backup): 27 h, {backup_of(27)}",
        "pid 1 (user api, application psql, idle)",
        "one standby streams",
        "Nothing happens until you do",
    ):
        assert said in text
    assert "there is none" in swap_text(plan(), backup_of(27), "primary", BOTH[1:], NOW)
    assert "Nobody is connected now" in swap_text(plan(), backup_of(27), "primary", BOTH, NOW)


def test_the_way_back_says_since_when_writing_is_given_up() -> None:
    text = undo_text(plan(), "primary", NOW - timedelta(minutes=20), NOW)
    assert "since the swap, 2026-03-10 11:40:00 UTC (20 min ago), is not in it" in text
    assert "since the swap is not in it" in undo_text(plan(), "primary", None, NOW)


def test_of_many_sessions_the_first_are_shown_and_the_others_counted() -> None:
    text = swap_text(plan(*(f"job {number}" for number in range(25))), backup_of(1), "primary", BOTH, NOW)
    assert ("job 9," in text, "job 10," in text, "and 15 more" in text) == (True, False, True)


@given(st.text(st.sampled_from("ab #*_`|<>[]()!\\\n"), min_size=1, max_size=30))
def test_no_name_of_a_session_or_database_becomes_markup(name: str) -> None:
    safe = swap_text(plan("x", live="x"), backup_of(1), "x", BOTH, NOW)
    text = swap_text(plan(name, live=name), backup_of(1), name, BOTH, NOW)
    assert len(text.splitlines()) == len(safe.splitlines())
    unescaped = re.compile(r"(?<!\\)(?:\\\\)*([`*_|<>\[\]])")
    assert len(unescaped.findall(text)) == len(unescaped.findall(safe))


@pytest.mark.parametrize(
    ("typed", "approver", "reason", "wrong"),
    [
        ("app", "Jo", "lost rows", ""),
        (" app ", "Jo", "lost rows", ""),
        ("App", "Jo", "lost rows", "“App” was typed, and the live database is “app”"),
        ("app", " ", "lost rows", "a field was left empty"),
        ("app", "Jo", "\n", "a field was left empty"),
    ],
)
def test_only_the_live_databases_name_with_approver_and_reason_approves(
    typed: str, approver: str, reason: str, wrong: str
) -> None:
    answer = Approval.model_construct(database_name=typed, approver=approver, reason=reason)
    assert what_is_wrong(answer, "app") == wrong


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_what_a_form_says_of_a_parameter_is_shown_as_it_was_written(flow: object) -> None:
    # The UI renders descriptions as Markdown: "_restored_" was shown without its underscores.
    for name, described in parameter_schema(flow).properties.items():  # type: ignore[arg-type]
        plain = re.sub(r"`[^`]*`", "", described["description"])
        assert not re.search(r"(?<![A-Za-z0-9])_\w|\w_(?![A-Za-z0-9])|\*", plain), name
