"""`nightshift watches ENV`: how the watches of an environment stand that go on, and which end nobody signed off yet."""

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.table import Column, Table
from rich.text import Text

from core.redaction import redact
from core.units import human_duration
from core.watch_counts import BUCKETS
from core.watch_report import ended_sentence
from core.watch_standing import WatchStanding
from deployments.command.terminal import EXIT_NOT_WELL, EXIT_WAITS, console, print_json
from tasks.environments import load_environment
from tasks.watch_listing import ListedWatch, list_watches

_RED = {"degraded", "stands still"}
_REASONS = 2


def watches_command(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Show how the watches of an environment stand that go on, by their records in the bucket; and those that wait for a sign-off.

    Exit code 0: all is well; 1: one is degraded, suspect or blind, stands still, or its records were changed; 3: one ended, and waits to be signed off.

    Needs the bucket; no Prefect server and no cluster.
    """
    loaded = load_environment(environment)
    now = datetime.now(UTC)
    found = list_watches(loaded, now)
    if as_json:
        print_json({"environment": loaded.name, "watches": [_entry(one, now) for one in found]})
    else:
        _show(loaded.name, found, loaded.zone, now)
    if not all(one.well for one in found):
        raise typer.Exit(EXIT_NOT_WELL)
    raise typer.Exit(EXIT_WAITS if any(one.ended is not None for one in found) else 0)


def _show(environment: str, found: tuple[ListedWatch, ...], zone: ZoneInfo, now: datetime) -> None:
    if not found:
        console.print(f"{environment}: no watch goes on, and no sign-off is open")
        return
    table = Table(*(Column(name, no_wrap=True) for name in ("release", "since", "seen", "last look", "state")))
    for one in found:
        table.add_row(*_cells(one, zone, now))
    console.print(table)
    for one in found:
        console.print(Text(redact(f"{one.release_id}: {_verdict(one)}")), soft_wrap=True)
        console.print(Text(redact(f"  next: {_next(environment, one, zone)}")), soft_wrap=True)


def _cells(one: ListedWatch, zone: ZoneInfo, now: datetime) -> tuple[str | Text, ...]:
    if one.ended is not None:
        end = one.ended
        state = Text(f"{end.verdict}, not signed off", "yellow")
        return one.release_id, "", f"{end.closed} of {BUCKETS}", _at(end.at, zone), state
    if one.standing is None:
        return one.release_id, "", "", "", Text("not known", "red")
    stands = one.standing
    looked = "never" if stands.looked is None else f"{_ago(stands.looked, now)} ago"
    return (
        one.release_id,
        _at(stands.start.first, zone),
        f"{stands.closed} of {BUCKETS}",
        looked,
        Text(_state(stands), _colour(stands)),
    )


def _state(stands: WatchStanding) -> str:
    return ", ".join(stands.states) or ("ends" if stands.stopped else "goes on")


def _colour(stands: WatchStanding) -> str:
    if _RED & set(stands.states):
        return "red"
    return "yellow" if stands.states else "green"


def _verdict(one: ListedWatch) -> str:
    """The verdict, or that until now, in a sentence."""
    if one.problem:
        return one.problem
    if one.ended is not None:
        return ended_sentence(one.ended)
    return "" if one.standing is None else _verdict_of(one.standing)


def _verdict_of(stands: WatchStanding) -> str:
    told = [f"{mark.what} since {mark.at:%Y-%m-%d %H:%M} UTC: {mark.why}" for mark in stands.marks]
    if stands.blind_since is not None:
        told.append(f"blind since {stands.blind_since:%Y-%m-%d %H:%M} UTC")
    tick = stands.tick
    if tick is None or tick.verdict is None:
        told.append("nothing was seen yet")
    else:
        reasons = "; ".join(tick.reasons[:_REASONS])
        told.append(f"so far {tick.verdict}{f': {reasons}' if reasons else ''}")
    return "; ".join(told)


def _next(environment: str, one: ListedWatch, zone: ZoneInfo) -> str:
    """What happens next, or is to be done."""
    if one.problem:
        return "find out who changed it; the watch does not go on from what nightshift did not write"
    if one.ended is not None:
        return f"sign it off: the run of watch-sign-off/{environment} for {one.release_id} waits in the Prefect UI"
    return "" if one.standing is None else _next_of(one.standing, environment, zone)


def _next_of(stands: WatchStanding, environment: str, zone: ZoneInfo) -> str:
    until, release_id = f"it is watched until {_at(stands.ends, zone)}", stands.start.release_id
    if "stands still" in stands.states:
        by_hand = f"by hand: the deployment post-deploy-watch/{environment} with release_id {release_id}"
        return f"see that the Prefect server and worker run; {by_hand}"
    if stands.stopped:
        return f"it is ended by its next look: {stands.stopped}"
    if "degraded" in stands.states:
        return f"nightshift rollback {environment} --release {release_id}, or release a mend; {until}"
    if stands.closed >= BUCKETS:
        return "its day is over, and what Prometheus kept meanwhile is waited for (watch.backfill_hours)"
    if "blind" in stands.states:
        return f"look at Prometheus and its targets, what it kept is read afterwards; {until}"
    return f"a look every five minutes; {until}"


def _at(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%m-%d %H:%M")


def _ago(moment: datetime, now: datetime) -> str:
    return human_duration(max(0, round((now - moment).total_seconds())) * 1000)


def _entry(one: ListedWatch, now: datetime) -> dict[str, Any]:
    stands, end = one.standing, one.ended
    tick = stands.tick if stands is not None else None
    return {
        "release_id": one.release_id,
        "open": stands is not None,
        "well": one.well,
        "problem": one.problem,
        "image": stands.start.image if stands is not None else None,
        "since": stands.start.first if stands is not None else None,
        "until": stands.ends if stands is not None else None,
        "closed": stands.closed if stands is not None else end.closed if end is not None else None,
        "looked": stands.looked if stands is not None else None,
        "looked_seconds_ago": round((now - stands.looked).total_seconds()) if stands and stands.looked else None,
        "states": list(stands.states) if stands is not None else [],
        "blind_since": stands.blind_since if stands is not None else None,
        "stopped": stands.stopped if stands is not None else "",
        "verdict": end.verdict if end is not None else tick.verdict if tick is not None else None,
        "reasons": list(end.reasons if end is not None else tick.reasons if tick is not None else ()),
        "told": [{"what": mark.what, "at": mark.at, "why": mark.why} for mark in stands.marks] if stands else [],
        "unread": dict(tick.unread) if tick is not None else {},
        "waits_for_sign_off": end is not None,
    }
