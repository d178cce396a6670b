"""What a person reads before answering a suspended run: Markdown for its form. Names and what servers tell of their sessions are escaped: nobody's application name
becomes a heading or a link in the form that decides over a database."""

from collections.abc import Sequence
from datetime import datetime

from core.backup_id import snapshot_time_of
from core.report_text import escape_markdown
from core.restore_choice import ALLOWED, NEWEST_DECODED, NEWEST_PROVEN, Option
from core.swap_plan import SwapPlan
from core.units import human_age

_LONGEST_LIST = 10


def choice_text(choices: Sequence[Option], database: str, becomes: str) -> str:
    """Given what can be restored, the database's name and what it becomes (`NAME on SERVER`), return the question which backup is meant.

    A list and no table: Prefect's dialog is narrow and cuts off a table's last column.
    """
    found = {one.choice: one for one in choices}
    lines = [
        f"Which backup of **{escape_markdown(database)}**? It becomes a new database, {escape_markdown(becomes)}; nothing is overwritten.",
        "",
    ]
    for choice in (NEWEST_DECODED, NEWEST_PROVEN):
        one = found.get(choice)
        lines.append(
            f"- `{choice}` loses {one.loses}: {one.backup_id}, {one.shown_state}"
            if one
            else f"- `{choice}`: there is none"
        )
    return "\n".join(
        [*lines, "", f"Allowed: {ALLOWED}. A name that stands above means the backup that stands beside it."]
    )


def swap_text(plan: SwapPlan, backup_id: str, server: str, choices: Sequence[Option], now: datetime) -> str:
    """Given a plan, the backup that the copy was made of, the server's name, what could be restored instead (`options`) and the time, return what the swap does."""
    live, copied, old = (escape_markdown(name) for name in (plan.live, plan.copy_name, plan.old_name))
    snapshot = snapshot_time_of(backup_id)
    lines = [
        f"Let a restored copy take the place of the live database **{live}** on the server {escape_markdown(server)}?",
        "",
        f"- The copy **{copied}** is the backup {backup_id}, taken {_moment(snapshot, now)}; restored and compared.",
        *(
            [f"- That backup is of: {escape_markdown(plan.source)}, snapshot {snapshot:%Y-%m-%d %H:%M:%S} UTC."]
            if plan.source
            else []
        ),
        f"- Everything written to **{live}** since then is not in the copy. It stays in the old database, which is kept as **{old}**.",
        f"- {_ages(choices, now)}",
        *_what_happens(plan),
    ]
    return "\n".join(
        [*lines, "", f"Type the live database's name, **{live}**, to let it happen. Nothing happens until you do."]
    )


def undo_text(plan: SwapPlan, server: str, swapped_at: datetime | None, now: datetime) -> str:
    """Given the plan of a swap back, the server's name, when the swap was made (None: its process ended before it could tell) and the time, return what it does."""
    live, before, old = (escape_markdown(name) for name in (plan.live, plan.copy_name, plan.old_name))
    since = "the swap" if swapped_at is None else f"the swap, {_moment(swapped_at, now)},"
    lines = [
        f"Give the name **{live}** on the server {escape_markdown(server)} back to the database that served before the swap?",
        "",
        f"- **{before}** becomes **{live}** again, as it was at the swap.",
        f"- Everything written to **{live}** since {since} is not in it. It stays in the other database, which is kept as **{old}**.",
        *_what_happens(plan),
    ]
    return "\n".join(
        [*lines, "", f"Type the live database's name, **{live}**, to let it happen. Nothing happens until you do."]
    )


def _what_happens(plan: SwapPlan) -> list[str]:
    lines = [f"- {escape_markdown(str(difference))}" for difference in plan.differences]
    lines += [f"- {escape_markdown(note)}" for note in plan.notes]
    if not plan.sessions:
        return [*lines, "- Nobody is connected now."]
    shown = [f"  - {escape_markdown(str(session))}" for session in plan.sessions[:_LONGEST_LIST]]
    if (more := len(plan.sessions) - len(shown)) > 0:
        shown.append(f"  - and {more} more")
    return [*lines, "- Sessions that are given time to leave, then ended:", *shown]


def _ages(choices: Sequence[Option], now: datetime) -> str:
    found = {one.choice: one for one in choices}
    told = []
    for name, choice in (
        ("recovery point (newest decoded backup)", NEWEST_DECODED),
        ("proof age (newest proven backup)", NEWEST_PROVEN),
    ):
        one = found.get(choice)
        told.append(
            f"{name}: "
            + (f"{human_age(now - one.snapshot_time)}, {one.backup_id}{_but(one)}" if one else "there is none")
        )
    return f"Now: {'; '.join(told)}."


def _but(one: Option) -> str:
    return f", {one.reservation}" if one.reservation else ""


def _moment(moment: datetime, now: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({human_age(now - moment)} ago)"
