"""The backup that a release takes before it migrates: what is not whole is no backup to migrate on."""

from types import SimpleNamespace
from typing import Any

import pytest

from core.backup_facts import backup_findings
from core.errors import PermanentError
from core.manifest import Coverage
from flows.release_runbook import back_up
from tasks.recording import Notes, Record
from tests.fix_keeping import id_of, sample_manifest

RUN: Any = SimpleNamespace(environment=SimpleNamespace(name="stage"))


def backing_up(monkeypatch: pytest.MonkeyPatch, *missing: str) -> str:
    """Have the nightly backup's steps come to their end with a dump that lacks these; return the backup's id."""
    coverage = Coverage(expected=len(missing) + 1, listed=1, missing=missing)
    manifest = sample_manifest(id_of(0)).model_copy(update={"coverage": coverage})

    def back_up_database(_environment: str, record: Record, _retention: str) -> None:
        with record.step("dump and digest") as notes:
            notes.add(facts={}, findings=backup_findings(manifest))
        record.finish(f"{manifest.backup_id}, 1 MiB stored, decoded")

    monkeypatch.setattr("flows.release_runbook.back_up_database", back_up_database)
    return manifest.backup_id


def test_a_whole_backup_lets_the_release_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    backup_id = backing_up(monkeypatch)
    assert back_up("app")(RUN, Notes()) == {"backup": backup_id}


def test_a_backup_whose_dump_lacks_an_object_stops_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    backing_up(monkeypatch, "table public.lost")
    notes = Notes()
    with pytest.raises(
        PermanentError, match=r"\(stage/app\): not in the dump although it should be: table public\.lost"
    ):
        back_up("app")(RUN, notes)
    assert notes.state == "failed"
