"""A swap whose process was killed between closing the live database and renaming it: the first thing that its Retry, or an undoing, does is to open that again."""

from core.evidence import Finding
from core.restore_record import WaitingCopy
from tasks.recording import Record, RunRecord
from tasks.report_steps import write_report
from tasks.swap_steps import open_left


def open_what_was_left(run: RunRecord, waiting: WaitingCopy, live: str, inputs: dict[str, object]) -> None:
    """Open the live database where a killed swap left it closed, and write that to the evidence at once, since the run's process ends while it waits for an answer.

    Raise PermanentError when another swap of it is going on, or it is closed for another reason.
    """
    if not (found := open_left(waiting, live)):
        return
    record = Record(waiting.database)
    with record.step("open the live database again") as notes:
        notes.add(facts={"live": live}, findings=[Finding(severity="warning", text=found)])
    record.finish(found)
    write_report(run, [record], inputs)
