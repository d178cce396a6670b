"""The end of a watch: its pictures, the question to a person, its report, and then that it ended. Killed in between, the next look does it again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from prefect import get_run_logger
from prefect.artifacts import create_image_artifact, create_markdown_artifact

from core import grafana_annotation
from core.errors import NightshiftError
from core.evidence import Finding
from core.watch_decision import how_it_ended
from core.watch_evidence import final_steps
from core.watch_record import WatchEnd
from core.watch_report import Watched, verdict_sentence, watch_artifact_key
from core.watch_text import final_text
from tasks.grafana_annotations import annotate
from tasks.recording import Notes, Record, RunRecord, utc_now
from tasks.report_steps import write_report
from tasks.watch_charts import charts
from tasks.watch_events import emit_watch_event
from tasks.watch_schedule import ask_for_sign_off, remove_schedule
from tasks.watch_stand import Stand


def end_watch(run: RunRecord, stand: Stand, watched: Watched, record: Record) -> str:
    """End a watch whose day is over, or that was stopped, and return its verdict in a sentence. Raise when the bucket does not take its report or its end."""
    environment, how = run.environment, how_it_ended(stand.stopped)
    for one in final_steps(watched, how, environment.zone):
        with record.step(one.name) as notes:
            notes.add(facts=one.facts, findings=one.findings)
    unless(record, "draw", lambda notes: draw(stand, watched, notes))
    sentence = verdict_sentence(watched)
    unless(record, "annotate", lambda notes: show_in_grafana(stand, watched, sentence, notes))
    if watched.judgement.verdict in {"healthy", "superseded"}:
        record.finish(sentence)
    key = write_report(run, [record], {"release_id": stand.release_id})
    with suppress(Exception):
        text = final_text(watched, how, environment.zone, f"s3://{environment.store.bucket}/{key}")
        create_markdown_artifact(text, key=watch_artifact_key(environment.name), description=sentence[:200])
    stand.records.keep(
        WatchEnd(
            environment=environment.name,
            release_id=stand.release_id,
            how=how,
            verdict=watched.judgement.verdict,
            reasons=watched.judgement.reasons,
            closed=watched.tick.closed,
            at=utc_now(),
            report=key,
            doubted=bool(watched.judgement.doubts),
        )
    )
    emit_watch_event(environment.name, stand.release_id, "ended", verdict=watched.judgement.verdict)
    # The form shows the end, so this comes after it; what is not done here, the next sweep does.
    try:
        if how == "the day is over" and stand.settings.sign_off:
            ask_for_sign_off(environment.name, stand.release_id, 0)
        tidy(stand)
    except NightshiftError as error:
        get_run_logger().warning("the watch of %s ended, and not all is done: %s", stand.release_id, error)
    return sentence


def draw(stand: Stand, watched: Watched, notes: Notes) -> None:
    """Show the pictures in the UI."""
    pods = watched.tick.sources.get("pods") or {}
    restarts = [(int(bucket), int(number)) for bucket, number in pods.get("restarts_by_bucket") or ()]
    drawn = charts(watched, stand.environment.zone, restarts=restarts if pods else None)
    for name, address in drawn.items():
        create_image_artifact(address, key=f"watch-{name}-{stand.environment.name}", description=f"{stand.release_id}")
    notes.add(facts={"pictures": sorted(drawn)})


def show_in_grafana(stand: Stand, watched: Watched, sentence: str, notes: Notes) -> None:
    """Show the whole watch with its verdict as an annotation, where the environment has a Grafana."""
    settings, start = stand.settings.grafana, stand.start
    if settings is None:
        return
    last = stand.time_of(max(1, watched.tick.closed))
    about = grafana_annotation.watched(start.environment, start.release_id, start.first, last, sentence)
    notes.findings.append(annotate(settings, about))


def unless(record: Record, name: str, action: Callable[[Notes], None]) -> None:
    """Do what the verdict does not hang on; when it fails, that is a finding."""
    with record.step(name) as notes:
        try:
            action(notes)
        except NightshiftError as error:
            notes.findings.append(Finding(severity="warning", text=str(error)))
        except Exception as error:  # noqa: BLE001 - whatever a picture or the UI has: the verdict is told all the same
            notes.findings.append(Finding(severity="warning", text=f"{type(error).__name__}: {error}"[:500]))


def tidy(stand: Stand) -> None:
    """Remove the schedule and the ticks that the last one holds all of. What stays of them does nothing."""
    remove_schedule(stand.environment.name, stand.release_id)
    stand.records.forget_ticks(stand.records.names())
