"""`nightshift catalog` and `nightshift evidence`, as a shell sees them: output and exit code, on a real S3 API."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from core.backup_id import is_backup_id
from core.errors import TemporaryError
from core.keys import MANIFEST, evidence_key, owner_key
from core.signature import SigningKey
from deployments.command import main
from deployments.command.catalog import catalog_command
from deployments.command.evidence import evidence_app
from tasks.catalogue import claim_folder
from tests.fix_keeping import DATA, PROVEN, STRANGE_KEY, Keeping, id_of
from tests.fix_object_store import S3Server
from tests.test_evidence import append

FILE = """
timezone = "Europe/Berlin"
[store]
bucket = "{bucket}"
endpoint_url = "{endpoint}"
access_key_id = "env:NIGHTSHIFT_TEST_S3_KEY"
secret_access_key = "env:NIGHTSHIFT_TEST_S3_SECRET"
[signing]
key = "env:NIGHTSHIFT_TEST_SIGNING_KEY"
[databases.app]
host = "127.0.0.1"
name = "app"
user = "backup"
"""

app = typer.Typer()
app.command("catalog")(catalog_command)
app.add_typer(evidence_app, name="evidence")


def run(*arguments: str, columns: str = "200") -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": columns})


def document(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture
def local(keeping: Keeping, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeping:
    """The environment `local` as a file, and its backups; the key of the file signs them."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", "the key that signs in these tests, long enough")
    (tmp_path / "local.toml").write_text(FILE.format(bucket=keeping.store.bucket, endpoint=s3_server.endpoint))
    return keeping


def test_the_catalogue_shows_backups_newest_first_with_both_ages(local: Keeping):
    old, new = local.add(id_of(1.5), "proven"), local.add(id_of(0.5), "decoded")
    result = run("catalog", "local")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if is_backup_id(line.split(" ")[0])]
    assert [new in lines[0], old in lines[1]] == [True, True]
    assert "decoded" in lines[0]
    assert "4.0 : 1" in lines[0]
    assert "times in Europe/Berlin" in result.stdout
    text = " ".join(result.stdout.split())
    assert f"the newest decoded backup, {new}, is 12 h old" in text
    assert f"the newest proven backup, {old}, is 36 h old" in text


def test_a_missed_objective_ends_with_one(local: Keeping):
    local.add(id_of(0.5), "decoded")
    result = run("catalog", "local")
    assert result.exit_code == 1
    assert "no backup is proven yet" in result.stdout
    local.add(id_of(0.6), "proven")
    assert run("catalog", "local").exit_code == 0


def test_an_empty_bucket_is_not_well(local: Keeping):
    result = run("catalog", "local", "--json")
    assert result.exit_code == 1
    (database,) = document(result)["databases"]
    assert database["backups"] == []


def test_the_document_tells_every_backup_and_verifies_the_newest(local: Keeping):
    ids = [local.add(id_of(days), "proven") for days in (3, 2, 1, 0.1)]
    local.put_data(id_of(0))
    result = run("catalog", "local", "--limit", "2", "--json")
    assert result.exit_code == 0, result.output
    (database,) = document(result)["databases"]
    rows = database["backups"]
    assert [row["backup_id"] for row in rows] == ids[::-1]
    assert [row["trusted"] for row in rows] == [True, True, None, None]
    assert [row["plain_bytes"] for row in rows] == [32, 32, None, None]
    assert len(database["incomplete"]) == 1
    assert "and 2 older ones" in run("catalog", "local", "--limit", "2").stdout


def test_a_planted_backup_neither_counts_nor_goes_unseen(local: Keeping):
    good = local.add(id_of(1), "proven")
    planted = local.add(id_of(0.1), "decoded", key=STRANGE_KEY)
    local.store.put(local.folder(planted) + PROVEN, b"{}")
    result = run("catalog", "local")
    assert result.exit_code == 1
    assert "NOT TRUSTED" in result.stdout
    assert f"the newest decoded backup, {good}" in result.stdout
    assert f"the newest proven backup, {good}" in result.stdout


def test_the_two_ages_are_verified_beyond_the_limit(local: Keeping):
    old = local.add(id_of(1.9), "proven")
    forged = local.add(id_of(1.5), "decoded")
    local.store.put(local.folder(forged) + PROVEN, b"{}")
    local.add(id_of(0.1), "decoded")
    result = run("catalog", "local", "--limit", "1")
    assert f"the newest proven backup, {old}" in result.stdout
    assert result.exit_code == 1


def test_when_very_many_are_forged_no_age_is_told_that_nobody_looked_at(local: Keeping):
    for number in range(30):
        forged = id_of(1, number)
        for suffix in (MANIFEST, PROVEN):
            local.store.put(local.folder(forged) + suffix, b"{}")
    result = run("catalog", "local", "--limit", "1", "--json")
    assert result.exit_code == 1
    (database,) = document(result)["databases"]
    assert "no backup is proven yet" in database["objectives"][1]["found"]
    assert len(database["problems"]) == 21


def test_an_unknown_database_is_named_with_those_there_are(local: Keeping):
    result = run("catalog", "local", "--database", "billing")
    assert "no database billing" in str(result.exception)
    assert "It has: app" in str(result.exception)


def test_s3_that_is_down_is_told_in_one_line_with_what_to_do(
    local: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tasks.s3_client.ATTEMPTS", 1)
    (tmp_path / "local.toml").write_text(FILE.format(bucket="backups", endpoint="http://127.0.0.1:9"))
    result = run("catalog", "local")
    assert isinstance(result.exception, TemporaryError)
    told = str(result.exception)
    assert "http://127.0.0.1:9 did not answer (Connection refused). Look at store.endpoint_url" in told
    # Neither the request nor how botocore calls it.
    assert "list-type" not in told
    assert "Could not connect" not in told


def test_whole_evidence_is_told_with_its_number_of_reports(local: Keeping):
    append(local)
    assert run("evidence", "verify", "local").stdout.endswith(": 1 report, whole\n")
    for _ in range(2):
        append(local)
    result = run("evidence", "verify", "local")
    assert (result.exit_code, "3 reports, all whole" in result.stdout) == (0, True)
    told = document(run("evidence", "verify", "local", "--json"))
    assert (told["reports"], told["whole"], told["problems"]) == (3, True, [])


def test_tampered_evidence_ends_with_one_and_names_the_report(local: Keeping):
    for _ in range(3):
        append(local)
    key = evidence_key("local", 2)
    local.store.put(key, local.store.get(key).replace(b"quiet-owl", b"loud-crow"))
    result = run("evidence", "verify", "local")
    assert result.exit_code == 1
    assert key in result.output
    assert "2 problems in 3 reports" in result.output
    told = run("evidence", "verify", "local", "--json")
    assert told.exit_code == 1
    assert document(told)["whole"] is False


def test_no_evidence_at_all_is_not_called_whole(local: Keeping):
    result = run("evidence", "verify", "local", "--json")
    assert result.exit_code == 1
    assert "there is no report" in document(result)["problems"][0]
    assert run("evidence", "verify", "local").output.endswith(": 1 problem in 0 reports\n")


def test_a_report_is_shown_by_number_or_the_newest(local: Keeping):
    for number in range(3):
        append(local, f"run-{number + 1}")
    shown = run("evidence", "show", "local")
    assert (shown.exit_code, "run-3" in shown.stdout) == (0, True)
    assert document(run("evidence", "show", "local", "2", "--json"))["run_id"] == "run-2"


def test_a_forged_report_is_not_shown(local: Keeping):
    local.keys = (SigningKey("hmac-sha256", "a key that is not the environment's own"),)
    append(local)
    result = run("evidence", "show", "local", "1")
    assert "does not know" in str(result.exception)
    assert "nightly-backup" not in result.stdout


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_a_backup_whose_data_is_not_all_there_does_not_count(local: Keeping, damage: str):
    old, new = local.add(id_of(0.9), "proven"), local.add(id_of(0.1), "decoded")
    if damage == "missing":
        local.store.delete([local.folder(new) + DATA])
    else:
        local.store.put(local.folder(new) + DATA, b"d")
    result = run("catalog", "local")
    text = " ".join(result.stdout.split())
    assert result.exit_code == 1
    assert "NOT TRUSTED" in text
    assert f"the newest decoded backup, {old}" in text


@pytest.mark.parametrize("state", ["decoded", "proven"])
def test_a_backup_whose_dump_lacks_an_object_counts_for_neither_age_and_is_told(local: Keeping, state: str):
    old, gapped = local.add(id_of(0.9), "proven"), local.add(id_of(0.1), state, lacks=("view public.lost",))
    result = run("catalog", "local")
    text = " ".join(result.stdout.split())
    assert f"{state}, gaps" in text
    assert f"{gapped} does not count: its dump lacks view public.lost" in text
    assert f"the newest decoded backup, {old}" in text
    assert f"the newest proven backup, {old}" in text
    assert result.exit_code == 0, "the older one, which is whole, meets both objectives"
    [row, older] = document(run("catalog", "local", "--json"))["databases"][0]["backups"]
    assert (row["missing_objects"], older["missing_objects"]) == (1, 0)


def test_an_environment_with_nothing_but_gaps_is_not_well(local: Keeping):
    local.add(id_of(0.1), "proven", lacks=("view public.lost",))
    result = run("catalog", "local")
    assert result.exit_code == 1
    assert "no backup is decoded yet" in result.stdout


def test_a_manifest_that_somebody_removed_is_not_taken_for_an_unfinished_backup(local: Keeping):
    local.add(id_of(0.5), "proven")
    robbed = local.add(id_of(0.1), "decoded")
    local.store.delete([local.folder(robbed) + MANIFEST])
    result = run("catalog", "local")
    assert result.exit_code == 1
    assert f"{robbed} was decoded once and has no manifest any more" in " ".join(result.stdout.split())


def test_another_environments_healthy_backup_is_named_as_its_own_and_nobody_is_told_to_remove_it(
    local: Keeping, tmp_path: Path
):
    local.add(id_of(0.5), "proven")
    text = (tmp_path / "local.toml").read_text()
    (tmp_path / "same.toml").write_text(text.replace("[store]", '[store]\nprefix = "local"'))
    result = run("catalog", "same", "--json")
    assert result.exit_code == 1
    [database] = document(result)["databases"]
    [problem] = database["problems"]
    assert "belongs to database 'app' of environment 'local'" in problem
    assert problem.endswith("Give environment 'same' another store.prefix or store.bucket")


def test_an_owner_of_whom_a_byte_was_changed_is_told_before_the_next_backup_is_refused(local: Keeping):
    local.add(id_of(0.5), "proven")
    assert run("catalog", "local").exit_code == 0
    owner = owner_key("local", "app")
    local.store.put(owner, local.store.get(owner).replace(b'"local"', b'"locaL"'))
    result = run("catalog", "local", "--json")
    assert result.exit_code == 1
    assert "could not verify the owner of the folder" in document(result)["databases"][0]["problems"][0]


def test_a_database_that_left_the_file_is_told_while_its_backups_are_there(local: Keeping):
    local.add(id_of(0.5), "proven")
    claim_folder(local.store, local.environment, "big", local.keys[0])
    prefixed = local.environment.store.model_copy(update={"prefix": "local"})
    other = local.environment.model_copy(update={"name": "other", "store": prefixed})
    claim_folder(local.store, other, "theirs", local.keys[0])
    assert document(run("catalog", "local", "--json"))["left_databases"] == []
    for name in ("big", "theirs"):
        local.store.put(f"local/{name}/{id_of(9)}/{MANIFEST}", b"{}")
    result = run("catalog", "local", "--json")
    assert result.exit_code == 0
    [sentence] = document(result)["left_databases"]
    folder = f"s3://{local.store.bucket}/local/big/"
    assert sentence.startswith(f"backups of big are there ({folder}), and the file has no databases.big")
    assert "! backups of big are there" in run("catalog", "local").stdout


def test_a_disk_that_cannot_be_written_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "/srv/nightshift")

    monkeypatch.setattr(main, "build_app", lambda _: no_room)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "/srv/nightshift" in capsys.readouterr().err
