"""The 24 hours after a release: a look each five minutes, and at the end a verdict. Runbook: docs/watch.md.

A look (tick) is short, and may be killed, late, doubled or out of order: what was seen lies in the bucket by (release, bucket), and the next one goes on from there.
Nothing here changes the cluster: a release that is worse is told, and where the environment says so the flow `rollback` is started, once.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from core import run_names
from core.errors import IntegrityError, NightshiftError
from core.evidence import Finding
from core.units import counted
from core.watch_counts import BUCKETS
from core.watch_decision import (
    BLIND,
    DEGRADED,
    OUTSIDE,
    ROLLBACK,
    SUSPECT,
    UNSCRAPED,
    act_on,
    final_judgement,
    how_it_ended,
)
from core.watch_notices import notices
from core.watch_record import WatchTick
from core.watch_report import Watched, ended_sentence, sentence_so_far
from core.watch_text import running_text
from flows.nightly_backup import EnvironmentName
from flows.run_names import named
from tasks.recording import Record, RunRecord, utc_now
from tasks.report_steps import begin_run, end_run
from tasks.watch_end import end_watch
from tasks.watch_events import emit_watch_event
from tasks.watch_stand import Stand
from tasks.watch_steps import Seen, ask_for_rollback, keep_tick, look, read_stand, show, why_no_way_back
from tasks.watch_sweep import begin_missing, open_watches, remind, stood_still

ReleaseId = Annotated[str, Field(pattern=r"^(r-[0-9a-f]{12})?$")]


@flow(name="post-deploy-watch", flow_run_name=named(run_names.post_deploy_watch), persist_result=False)
def post_deploy_watch(environment: EnvironmentName, release_id: ReleaseId = "") -> State[None]:
    """Look once at a release that came out within the last day, and judge all that was seen of it until now.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml. It needs a table [watch].
        release_id: Which release. Empty: a sweep: every watch that goes on, those that were never begun, and sign-offs that are open for too long.
    """
    run = begin_run(environment, flow="post-deploy-watch", run_id=str(flow_run.id), run_name=str(flow_run.name))
    try:
        return tick(run, release_id, utc_now()) if release_id else sweep(run, utc_now())
    except NightshiftError as error:
        return Failed(message=str(error))


def sweep(run: RunRecord, now: datetime) -> State[None]:
    """What the ticks leave undone. Failed when a watch stood still, a look failed, or a person must be reminded."""
    told: list[str] = []
    try:
        told += begin_missing(run.environment, now)
    except IntegrityError as error:
        # A record that was changed is told, and keeps no other watch from being looked at.
        told.append(str(error))
    failed = bool(told)
    for release_id in open_watches(run.environment):
        try:
            still = stood_still(read_stand(run.environment, release_id), now)
            state = tick(run, release_id, now)
        except NightshiftError as error:
            told.append(f"{release_id}: {error}")
            failed = True
            continue
        told += [one for one in (still, f"{release_id}: {state.message}") if one]
        failed |= bool(still) or state.is_failed()
    reminders = remind(run.environment, now)
    told += reminders
    message = "; ".join(told) or "no watch goes on"
    return Failed(message=message) if failed or reminders else Completed(message=message)


def tick(run: RunRecord, release_id: str, now: datetime) -> State[None]:
    """Look, judge, keep, and act on it; end the watch when its day is over or it was stopped."""
    stand = read_stand(run.environment, release_id)
    if stand.ended is not None:
        return Completed(message=f"ended already: {ended_sentence(stand.ended)}")
    seen = look(stand, run.run_id, now)
    keep_tick(stand, seen.tick)
    emit_watch_event(run.environment.name, release_id, "tick", closed=seen.tick.closed, verdict=seen.tick.verdict)

    told = act(run, stand, seen, now)
    if stand.is_over(seen.tick.closed) and not waits_for_prometheus(stand, seen, now):
        state = end(run, read_stand(run.environment, release_id), seen)
        if told is None or state.is_failed():
            return state
        # What this very look found is not hidden by how the watch ended.
        return Failed(name=told.name, message=f"{told.message}; {state.message}")
    watched = watched_by(stand, seen)
    show(run.environment, running_text(watched, run.environment.zone))
    return told or Completed(message=f"{seen.tick.closed} of {BUCKETS} buckets: {so_far(stand, watched)}")


def act(run: RunRecord, stand: Stand, seen: Seen, now: datetime) -> State[None] | None:
    """Tell what was found, each thing once, and ask for the rollback where the environment says so. None: there is nothing new."""
    settings, marks = stand.settings, {one.what for one in stand.marks}
    way_back, hours = "", stand.hours(now)
    if seen.trouble is not None and seen.trouble.lasts and settings.policy == "roll-back" and ROLLBACK not in marks:
        way_back = why_no_way_back(stand)
    what = act_on(
        seen.trouble,
        policy=settings.policy,
        hours=hours,
        roll_back_hours=settings.roll_back_hours,
        marks=marks,
        way_back=way_back,
    )
    if what == "nothing" or seen.trouble is None:
        return tell_unseen(run, stand, seen)
    record = Record(stand.release_id)
    by_hand = f"nightshift rollback {run.environment.name} --release {stand.release_id}"
    if stand.stopped is not None:
        by_hand = f"(it is not live any more: {stand.stopped.why})"
    advice = {
        "tell": f"Look at it, and take it back if need be: {by_hand}",
        "roll back": "Its rollback was asked for",
        "go forward": f"It cannot be taken back any more ({way_back or f'{hours:.0f} h after the release'}): release a mend",
    }[what]
    if what == "roll back":
        with record.step("ask for the rollback") as notes:
            try:
                notes.add(facts={"run": ask_for_rollback(stand, seen.trouble, run.run_id)})
            except NightshiftError as error:
                # The next tick asks again.
                notes.findings.append(Finding(severity="warning", text=str(error)))
                advice = f"Its rollback could not be asked for ({error}): take it back by hand, {by_hand}"
    with record.step("judge") as notes:
        facts = {"act": what, "policy": settings.policy, "bucket": seen.tick.closed, "reasons": list(seen.trouble.why)}
        words = "is worse than before" if seen.trouble.worse else "looks worse than before"
        worse = Finding(severity="error", text=f"the new version {words}: {seen.trouble.told}. {advice}")
        notes.add(facts=facts, findings=[worse, *seen.tick.findings])
    name, mark = ("Degraded", DEGRADED) if seen.trouble.worse else ("Suspect", SUSPECT)
    state = end_run(run, [record], {"release_id": stand.release_id}, name=name)
    stand.records.keep_mark(mark, seen.trouble.told, run.run_id)
    return state


def tell_unseen(run: RunRecord, stand: Stand, seen: Seen) -> State[None] | None:
    """Tell, once each time, what the watch does not see: neither a pass nor a reason to go back, and an alert of its own."""
    told = notices(seen.sight, blind_minutes=stand.settings.blind_minutes, coverage=stand.settings.coverage)
    new = [one for one in told if one.mark not in stand.names]
    if not new:
        return None
    record = Record(stand.release_id)
    for one in new:
        with record.step(one.step) as notes:
            text = one.text.format(since=f"{stand.time_of(one.since):%Y-%m-%d %H:%M} UTC")
            finding = Finding(severity="error", text=f"{text}: {one.why}")
            notes.add(facts={"since_bucket": one.since}, findings=[finding])
    state = end_run(run, [record], {"release_id": stand.release_id}, name=new[0].state)
    for one in new:
        stand.records.keep_mark(one.mark, one.why, run.run_id)
    return state


def end(run: RunRecord, stand: Stand, seen: Seen) -> State[None]:
    """The verdict. Only healthy, and a watch that another release ended, are Completed: everything else wants a person's eye."""
    judgement = final_judgement(seen.judgement, how_it_ended(stand.stopped), stand.marks)
    watched = replace(watched_by(stand, seen), judgement=judgement)
    sentence = end_watch(run, stand, watched, Record(stand.release_id))
    message, name = f"{stand.release_id}: {sentence}{warned(stand, seen.tick)}", judgement.verdict.capitalize()
    if judgement.verdict in {"healthy", "superseded"}:
        return Completed(name=name, message=message)
    return Failed(name=name, message=message)


def waits_for_prometheus(stand: Stand, seen: Seen, now: datetime) -> bool:
    """Whether the day is over and Prometheus, which is away, may still tell of it (backfill_hours)."""
    if stand.stopped is not None or "requests" not in seen.tick.unread or not seen.tick.metrics:
        return False
    return now < stand.time_of(BUCKETS) + timedelta(hours=stand.settings.backfill_hours)


def watched_by(stand: Stand, seen: Seen) -> Watched:
    """All that is known, for whoever tells it."""
    return Watched(
        stand.start,
        seen.counted.baseline,
        seen.tick,
        seen.judgement,
        stand.marks,
        seen.looked.findings,
        seen.looked.not_asked,
    )


def so_far(stand: Stand, watched: Watched) -> str:
    """The verdict of a day that is not over; what was told once stays in sight."""
    told = next((one for one in stand.marks if one.what == DEGRADED), None)
    if told is not None:
        return f"worse than before, as told at {told.at:%H:%M} UTC{warned(stand, watched.tick)}"
    return f"{sentence_so_far(watched)}{warned(stand, watched.tick)}"


def warned(stand: Stand, tick: WatchTick) -> str:
    """What was told, and the warnings, beside the verdict: they change nothing about it, and whoever reads it ought to know."""
    warnings = sum(one.severity == "warning" for one in tick.findings)
    found = [counted(warnings, "warning") + " of other sources"] if warnings else []
    found += [f"it looked worse at {one.at:%H:%M} UTC" for one in stand.marks if one.what == SUSPECT]
    for mark, words in _UNSEEN.items():
        found += [f"{words}, as told at {one.at:%H:%M} UTC" for one in stand.marks if one.what.startswith(mark)]
    return "".join(f"; {one}" for one in found)


_UNSEEN = {BLIND: "blind", UNSCRAPED: "not every Pod was scraped", OUTSIDE: "without an answer from outside"}
