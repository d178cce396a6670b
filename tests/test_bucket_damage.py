"""Damage in the bucket of every kind, before a run looks at it and after it chose: drill and restore end with one sentence that names it, and leave nothing."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from flows import dr_drill
from flows import restore as restore_flow
from tests.fix_nightly import Night, server_settings
from tests.fix_postgres import PostgresServer

# Minutes of drills and restores: make test-services.
pytestmark = [pytest.mark.services, pytest.mark.timeout(600), pytest.mark.xdist_group("prefect")]

Damage = Callable[["Bucket"], None]


class Bucket:
    """The objects of the only backup, to be damaged, and to be put back."""

    def __init__(self, night: Night) -> None:
        self._night = night
        self._kept = {key: self.read(key) for key in night.backup_keys}

    def read(self, key: str) -> bytes:
        body: bytes = self._night.s3.client.get_object(Bucket=self._night.bucket, Key=key)["Body"].read()
        return body

    def key(self, part: str, number: int = 0) -> str:
        """The key of the backup that has this in it; of several the largest first."""
        found = sorted((key for key in self._kept if part in key), key=lambda key: -len(self._kept[key]))
        return found[number]

    def write(self, key: str, body: bytes) -> None:
        self._night.s3.client.put_object(Bucket=self._night.bucket, Key=key, Body=body)

    def delete(self, part: str) -> None:
        self._night.s3.client.delete_object(Bucket=self._night.bucket, Key=self.key(part))

    def cut(self, part: str) -> None:
        self.write(self.key(part), self._kept[self.key(part)][:-7])

    def flip(self, part: str) -> None:
        body = bytearray(self._kept[self.key(part)])
        body[len(body) // 2] ^= 1
        self.write(self.key(part), bytes(body))

    def exchange(self, part: str) -> None:
        one, other = self.key(part), self.key(part, 1)
        self.write(one, self._kept[other])
        self.write(other, self._kept[one])

    def mend(self) -> None:
        """Put everything back, and take away what was not there."""
        for key, body in self._kept.items():
            self.write(key, body)
        for key in set(self._night.backup_keys) - self._kept.keys():
            self._night.s3.client.delete_object(Bucket=self._night.bucket, Key=key)


# A byte that is flipped where it holds the document together is seen before the signature is looked at.
FORGED = "the signature does not match|not JSON"
# What is damaged; what a run says that comes upon it when it chooses, and what one says that had chosen (None: it has no need of it any more).
DAMAGES: dict[str, tuple[Damage, str, str | None]] = {
    "a segment gone": (lambda bucket: bucket.delete(".dat"), "data objects are missing", "the segment is missing"),
    "a segment cut off": (lambda bucket: bucket.cut(".dat"), "bytes in the bucket", "bytes, "),
    "a segment flipped": (lambda bucket: bucket.flip(".dat"), "SHA-256", "SHA-256"),
    "segments exchanged": (lambda bucket: bucket.exchange(".dat"), "were recorded", "were recorded"),
    "the contents gone": (
        lambda bucket: bucket.delete("toc.dat"),
        "data objects are missing",
        "the segment is missing",
    ),
    "the contents flipped": (lambda bucket: bucket.flip("toc.dat"), "SHA-256", "SHA-256"),
    "the globals gone": (lambda bucket: bucket.delete("globals"), "data objects are missing", "the segment is missing"),
    "the globals flipped": (lambda bucket: bucket.flip("globals"), "SHA-256", "SHA-256"),
    "the manifest gone": (lambda bucket: bucket.delete("manifest.json"), "no backup is decoded yet", "no such object"),
    "the manifest forged": (
        lambda bucket: bucket.flip("manifest.json"),
        FORGED,
        FORGED,
    ),
    "decoded gone": (lambda bucket: bucket.delete("decoded"), "no backup is decoded yet", None),
    "decoded forged": (lambda bucket: bucket.flip("decoded"), FORGED, None),
}


def left(night: Night, target: PostgresServer) -> list[Any]:
    """All that a run may leave nothing of: databases, roles, and what lies where spools and scratch servers do."""
    queries = ("SELECT datname FROM pg_database ORDER BY 1", "SELECT rolname FROM pg_roles ORDER BY 1")
    with target.connect() as session:
        made = [session.execute(query).fetchall() for query in queries]
    return [made, sorted(path.name for path in night.folder.iterdir())]


@pytest.fixture
def damaged(night: Night, postgres_18: PostgresServer, fresh_role: Callable[..., tuple[str, str]]) -> Bucket:
    """The bucket of a directory-format backup whose roles the target server lacks."""
    role, _ = fresh_role(night.server)
    more = "CREATE TABLE more AS SELECT id, name || 'x' AS name, balance FROM account"
    night.server.execute(night.names["first"], f"ALTER TABLE account OWNER TO {role}", more)
    night.settings["databases"]["first"]["jobs"] = 2
    night.settings["servers"] = {"other": server_settings(postgres_18)}
    assert night.run(databases=["first"]).is_completed()
    return Bucket(night)


def after(choice: Callable[..., Any], damage: Damage, bucket: Bucket) -> Callable[..., Any]:
    """The choice of a backup, after which it is damaged."""

    def choose(*arguments: Any, **named: Any) -> Any:
        found = choice(*arguments, **named)
        damage(bucket)
        return found

    return choose


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named_in_one_line_and_nothing_is_left(
    night: Night, damaged: Bucket, postgres_18: PostgresServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    damage, at_once, later = DAMAGES[what]
    before = left(night, postgres_18)
    for chosen, said in ((False, at_once), (True, later)):
        if said is None:
            continue
        for run, module, name in (
            (lambda: night.restore(backup="newest-decoded", target="copy_of_first"), restore_flow, "choose_backup"),
            (lambda: night.drill(databases=["first"]), dr_drill, "choose_backup_to_drill"),
        ):
            with monkeypatch.context() as patched:
                if chosen:
                    patched.setattr(module, name, after(getattr(module, name), damage, damaged))
                else:
                    damage(damaged)
                state = run()
            message = str(state.message)
            assert state.is_failed(), message
            assert re.search(said, message), message
            assert "\n" not in message
            assert left(night, postgres_18) == before
            assert not [key for key in night.backup_keys if "proven" in key]
            damaged.mend()


def test_a_forged_proof_proves_nothing(night: Night, damaged: Bucket, postgres_18: PostgresServer) -> None:
    decoded = damaged.key("decoded")
    damaged.write(decoded.replace("decoded", "proven"), damaged.read(decoded))
    before = left(night, postgres_18)
    state = night.restore(backup="newest-proven", target="copy_of_first")
    assert state.is_failed()
    assert "no backup is proven yet; could not verify the state" in str(state.message)
    assert left(night, postgres_18) == before


def test_an_older_backup_is_taken_when_the_newest_is_damaged_and_that_is_said(
    night: Night, damaged: Bucket, postgres_18: PostgresServer
) -> None:
    assert night.run(databases=["first"]).is_completed()
    older = damaged.key("manifest.json").rpartition("/")[0]
    newest = next(key for key in night.backup_keys if "globals" in key and older not in key)
    night.s3.client.delete_object(Bucket=night.bucket, Key=newest)
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    told = [finding.text for step in night.report.steps for finding in step.findings]
    assert any(text.startswith("passed over: ") and "data objects are missing" in text for text in told)
    assert night.report.verdict == "passed with warnings"


@pytest.mark.platform
def test_what_a_drill_or_a_restore_found_damaged_does_not_count_until_it_is_found_whole(
    night: Night, damaged: Bucket, postgres_18: PostgresServer
) -> None:
    assert night.run(databases=["first"]).is_completed()
    first, newest = sorted({key.rpartition("/")[0] for key in night.backup_keys if key.endswith("manifest.json")})
    older = Bucket(night)
    key = max((key for key in night.backup_keys if key.startswith(newest) and ".dat" in key), key=len)
    good = older.read(key)
    for run in (
        lambda: night.drill(databases=["first"]),
        lambda: night.restore(backup=newest.rpartition("/")[2], target="copy_of_first"),
    ):
        damaged.write(key, bytes([*good[:-1], good[-1] ^ 1]))
        assert run().is_failed()
        assert [step.state for step in night.report.steps if step.name == "mark damaged"] == ["passed"]
        state = night.restore(backup="newest-decoded", target="copy_of_first", dry_run=True)
        assert state.is_completed(), state.message
        assert first.rpartition("/")[2] in str(state.message)
        # It is put back; who found it whole says so.
        damaged.write(key, good)
        assert night.drill(databases=["first"], backup=newest.rpartition("/")[2]).is_completed()
        state = night.restore(backup="newest-decoded", target="copy_of_first", dry_run=True)
        assert newest.rpartition("/")[2] in str(state.message)
        told = [finding.text for step in night.report.steps for finding in step.findings]
        assert any("the mark was taken away" in text for text in told)
