"""A proof of a backup some of whose tables nobody compares: it counts, and is nowhere shown without saying so."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from core.backup_facts import backup_facts, backup_findings, retention_rows
from core.catalogue import Catalogue, CatalogueEntry
from core.compared_tables import compared_tables
from core.environment import Objectives
from core.objectives import check_objectives
from core.restore_choice import options_text
from core.restore_record import Proven
from tasks.catalogue import read_catalogue
from tasks.chosen_backup import find_backup, restore_options
from tasks.trust import Examiner
from tests.fix_keeping import Keeping, id_of, prune, sample_manifest, sample_table
from tests.test_keeping_commands import document, local, run

__all__ = ["local"]

SOME = (
    *(sample_table(f"full_{number}", "full") for number in range(3)),
    sample_table("log", "counts"),
    *(sample_table(f"cache_{number}", "off") for number in range(7)),
)
SHORT = "8 tables not compared"


def test_the_tables_that_are_not_compared_are_counted_and_named() -> None:
    compared = compared_tables(SOME)
    assert (compared.full, compared.counts, compared.off, compared.all) == (3, 1, 7, 11)
    assert compared.short == SHORT
    assert compared.reservation == (
        "neither rows nor content (digests = off): public.cache_0, public.cache_1, public.cache_2, public.cache_3, public.cache_4 and 2 more;"
        " only the number of rows (digests = counts): public.log"
    )
    whole = compared_tables(SOME[:3])
    assert whole.short == whole.reservation == ""
    assert compared_tables(SOME[:4]).short == "1 table not compared"


def test_the_catalogue_shows_no_proof_without_what_it_leaves_out(local: Keeping) -> None:
    whole = local.add(id_of(0.6), "proven", tables=SOME[:3])
    decoded = local.add(id_of(0.1), "decoded", tables=SOME)
    assert SHORT not in run("catalog", "local").stdout
    some = local.add(id_of(0.5), "proven", tables=SOME)
    result = run("catalog", "local")
    assert result.exit_code == 0, result.output
    lines = {line.split(" ")[0]: line for line in result.stdout.splitlines()}
    assert ["proven*" in lines[name] for name in (some, whole, decoded)] == [True, False, False]
    text = " ".join(result.stdout.split())
    assert f"* proven, {SHORT} of 11: neither rows nor content (digests = off): public.cache_0" in text
    assert f"the newest proven backup, {some} ({SHORT}), is 12 h old" in text
    rows = {row["backup_id"]: row for row in document(run("catalog", "local", "--json"))["databases"][0]["backups"]}
    assert rows[some]["tables"] == {"compared": 3, "counted_only": 1, "not_compared": 7}
    assert rows[whole]["tables"] == {"compared": 3, "counted_only": 0, "not_compared": 0}
    assert rows[some]["state"] == "proven"


def test_the_table_fits_a_narrow_terminal(local: Keeping) -> None:
    some = local.add(id_of(0.5), "proven", tables=SOME)
    result = run("catalog", "local", columns="80")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(some)]
    assert "proven*" in line


def test_the_retention_keeps_such_a_proof_and_says_what_it_leaves_out(keeping: Keeping) -> None:
    some = keeping.add(id_of(40), "proven", tables=SOME)
    keeping.add(id_of(1)), keeping.add(id_of(2)), keeping.add(id_of(3))
    rows = {row["backup"]: row for row in retention_rows(prune(keeping).plan)}
    assert (rows[some]["decision"], rows[some]["why"]) == ("keep", f"newest proven ({SHORT})")


def test_the_forms_in_which_a_backup_is_chosen_say_it(keeping: Keeping) -> None:
    some, decoded = keeping.add(id_of(2), "proven", tables=SOME), keeping.add(id_of(1), "decoded", tables=SOME)
    choices = restore_options(keeping.store, keeping.environment, "app", keeping.keys)
    assert [(one.backup_id, one.shown_state) for one in choices] == [(some, f"proven, {SHORT}"), (decoded, "decoded")]
    assert f"| {some} | proven, {SHORT} |" in options_text(choices, "app")
    chosen, _ = find_backup(keeping.store, keeping.environment, "app", keeping.keys, "newest-proven")
    assert (chosen.state, chosen.shown_state) == ("proven", f"proven, {SHORT}")


def test_it_is_known_of_a_proof_that_does_not_say_so_itself(keeping: Keeping) -> None:
    # Older state objects have no `compared`: the fixture's have none.
    some = keeping.add(id_of(1), "proven", tables=SOME)
    examiner = Examiner(keeping.store, keeping.environment, "app", keeping.keys)
    examined = examiner.examine(read_catalogue(keeping.store, keeping.environment, "app").entries[0])
    assert (examined.worth, examined.compared.short) == ("proven", SHORT)
    assert examiner.reservations == {some: SHORT}


def test_the_state_objects_of_older_proofs_are_read() -> None:
    fields = {
        "backup_id": "b",
        "manifest_sha256": "0" * 64,
        "proven_at": datetime.now(UTC),
        "scratch": "embedded",
        "server_version": "16.4",
        "tables": 1,
        "rows": 1,
        "restore_ms": 1,
        "indicative": True,
        "controls": ({"name": "value changed", "on": "a", "detected": True, "how": "x"},),
    }
    older = Proven.model_validate(fields)
    assert (older.compared, older.controls[0].tried) == (None, True)
    newer = older.model_copy(update={"compared": compared_tables(SOME)})
    assert Proven.model_validate(json.loads(newer.model_dump_json())) == newer


def test_the_nightly_report_says_which_tables_no_drill_compares() -> None:
    manifest = sample_manifest(id_of(1)).model_copy(update={"tables": SOME})
    assert backup_facts(manifest)["tables_with_digest"] == "3 of 11"
    (note,) = backup_findings(manifest)
    assert note.severity == "note"
    assert note.text.startswith(f"{SHORT} by a drill or restore: neither rows nor content")
    assert backup_findings(manifest.model_copy(update={"tables": SOME[:3]})) == ()


@pytest.mark.parametrize("hours", [1, 100])
def test_the_age_of_such_a_proof_counts(hours: int) -> None:
    now = datetime.now(UTC)
    entry = CatalogueEntry(id_of(hours / 24), "proven", 1, 0, ())
    point, proof = check_objectives(
        "e", "app", Catalogue((entry,)), Objectives(), now + timedelta(seconds=1), reservations={entry.backup_id: SHORT}
    )
    assert SHORT in proof.found
    assert SHORT not in point.found
    assert (proof.state == "passed") == (hours < 48)
