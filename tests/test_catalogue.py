"""The catalogue and the signed objects behind it, on a real S3 API."""

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from core.backup_id import make_backup_id
from core.canonical import canonical_bytes, sha256_hex
from core.catalogue import catalogue_of, split_own_key
from core.errors import ConfigurationError, IntegrityError, PermanentError
from core.keys import MANIFEST, owner_key
from core.segments import segment_key
from core.signature import seal
from tasks.catalogue import (
    claim_folder,
    commit_manifest,
    read_catalogue,
    read_decoded,
    read_manifest,
    read_owner,
    read_state,
)
from tasks.object_store import ObjectExistsError, ObjectMissingError
from tests.fix_keeping import DATA, DECODED, KEY, PROVEN, STRANGE_KEY, Keeping, id_of, keeping_at, sample_manifest
from tests.fix_object_store import FaultProxy, S3Server


@dataclass(frozen=True)
class Listed:
    key: str
    size_bytes: int = 1
    modified: datetime = datetime(2026, 11, 22, tzinfo=UTC)


def states_of(keeping: Keeping) -> dict[str, str]:
    catalogue = read_catalogue(keeping.store, keeping.environment, "app")
    return {entry.backup_id: entry.state for entry in catalogue.entries}


def test_one_listing_tells_every_backup_and_its_state(keeping: Keeping):
    ids = [id_of(days) for days in (5, 4, 3, 2)]
    keeping.put_data(ids[0])
    keeping.add(ids[1], "uploaded")
    keeping.add(ids[2], "proven")
    keeping.add(ids[3], "decoded")
    keeping.store.put("local/app/README.txt", b"not ours")
    keeping.store.put(keeping.folder(ids[3]) + "notes.txt", b"not ours")

    catalogue = read_catalogue(keeping.store, keeping.environment, "app")
    assert [entry.state for entry in catalogue.entries] == ["incomplete", "uploaded", "proven", "decoded"]
    assert [entry.backup_id for entry in catalogue.entries] == ids
    assert [entry.backup_id for entry in catalogue.backups] == ids[1:]
    assert catalogue.recovery_point is not None
    assert catalogue.recovery_point.backup_id == ids[3]
    assert catalogue.newest_proven is not None
    assert catalogue.newest_proven.backup_id == ids[2]
    assert catalogue.owned
    assert catalogue.foreign == 2
    assert "local/app/README.txt" in catalogue.foreign_examples
    assert catalogue.entries[0].size_bytes == 8
    assert catalogue.entries[3].suffixes == (DATA, "globals/00000.zst", MANIFEST, DECODED)
    assert abs(catalogue.entries[3].newest_modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_without_a_decoded_or_proven_backup_there_is_no_silent_default(keeping: Keeping):
    keeping.add(id_of(1), "uploaded")
    catalogue = read_catalogue(keeping.store, keeping.environment, "app")
    assert catalogue.recovery_point is None
    assert catalogue.newest_proven is None


def test_the_catalogue_takes_one_request_for_a_thousand_objects(s3_faults: FaultProxy, bucket: str):
    keeping = keeping_at(bucket, s3_faults)
    for number in range(3):
        keeping.add(id_of(number))
    s3_faults.requests.clear()
    read_catalogue(keeping.store, keeping.environment, "app")
    assert len(s3_faults.requests) == 1
    keeping.close()


def many(count: int) -> Iterator[Listed]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        folder = f"p/app/{make_backup_id(start + timedelta(minutes=number), number.to_bytes(4, 'big'))}/"
        for suffix in (DATA, "globals/00000.zst", MANIFEST, DECODED):
            # Not a constant: each key of a real listing is a text of its own.
            yield Listed((folder + suffix).encode().decode())


def test_a_catalogue_takes_no_more_than_250_bytes_a_backup():
    tracemalloc.start()
    try:
        catalogue = catalogue_of(many(5000), "p/app/")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(catalogue.entries) == 5000
    assert used / 5000 <= 250


def test_a_listing_out_of_order_is_refused():
    one, two = "p/app/20261122T020000Z-00000001/", "p/app/20261122T020000Z-00000002/"
    with pytest.raises(ValueError, match="not in order"):
        catalogue_of([Listed(one + DATA), Listed(two + DATA), Listed(one + MANIFEST)], "p/app/")


@pytest.mark.parametrize("folder", ["dump", "dump/4242.dat", "dump/toc.dat", "globals"])
def test_every_segment_that_a_backup_writes_is_of_our_layout(folder: str):
    suffix = segment_key(folder, 7)
    assert split_own_key(f"p/app/20261122T020000Z-7f3a91c2/{suffix}", "p/app/") == (
        "20261122T020000Z-7f3a91c2",
        suffix,
    )


@pytest.mark.parametrize(
    "key",
    [
        "p/app/owner.json",
        "p/app/notes.txt",
        "p/app/20261122T020000Z-7f3a91c2/notes.txt",
        "p/app/20261122T020000Z-7f3a91c2/state/owner.json",
        "p/app/20261122T020000Z-7f3a91c2/dump/",
        "p/app/20261122T020000Z-7f3a91c2/dump/readme.txt",
        "p/app/20261122T020000Z-7f3a91c2/dump/x/y/00000.zst",
        "p/app/20261322T020000Z-7f3a91c2/manifest.json",
        "p/app/20261122T020000Z-7f3a91c2x/manifest.json",
        "p/app/x/20261122T020000Z-7f3a91c2/manifest.json",
        "p/app-eu/20261122T020000Z-7f3a91c2/manifest.json",
        "p-eu/app/20261122T020000Z-7f3a91c2/manifest.json",
    ],
)
def test_what_is_not_of_our_layout_is_not_ours(key: str):
    assert split_own_key(key, "p/app/") is None


def test_a_manifest_is_read_back_as_it_was_committed(keeping: Keeping):
    manifest = sample_manifest(id_of(1))
    commit_manifest(keeping.store, keeping.environment, manifest, KEY)
    read, sha256 = read_manifest(keeping.store, keeping.environment, "app", manifest.backup_id, (STRANGE_KEY, KEY))
    assert read == manifest
    assert sha256 == sha256_hex(keeping.store.get(keeping.folder(manifest.backup_id) + MANIFEST))


def test_a_manifest_is_committed_once_and_again_only_with_the_same_bytes(keeping: Keeping):
    manifest = sample_manifest(id_of(1))
    commit_manifest(keeping.store, keeping.environment, manifest, KEY)
    commit_manifest(keeping.store, keeping.environment, manifest, KEY)
    other = manifest.model_copy(update={"schema_fingerprint": "1" * 64})
    with pytest.raises(ObjectExistsError):
        commit_manifest(keeping.store, keeping.environment, other, KEY)


@pytest.mark.parametrize(("environment", "database"), [("production", "app"), ("local", "billing")])
def test_a_manifest_of_another_environment_or_database_is_not_committed(
    keeping: Keeping, environment: str, database: str
):
    with pytest.raises(ConfigurationError, match=f"{environment}/{database}"):
        commit_manifest(keeping.store, keeping.environment, sample_manifest(id_of(1), environment, database), KEY)


def replace_manifest(keeping: Keeping, backup_id: str, stored: bytes) -> None:
    keeping.store.put(keeping.folder(backup_id) + MANIFEST, stored)


def test_a_manifest_with_a_strange_or_no_signature_or_a_change_is_refused(keeping: Keeping):
    backup_id = keeping.add(id_of(1))
    document = sample_manifest(backup_id).model_dump(mode="json")
    envelope = seal(document, KEY)
    forgeries = {
        "does not know": canonical_bytes(seal(document, STRANGE_KEY)),
        "unsigned": canonical_bytes({"document": document}),
        "not a signed document": canonical_bytes(document),
        "changed after": canonical_bytes({**envelope, "document": {**document, "schema_fingerprint": "1" * 64}}),
        "not JSON": b"\xff\xfe",
        "not a record": canonical_bytes(seal([], KEY)),
    }
    for found, stored in forgeries.items():
        replace_manifest(keeping, backup_id, stored)
        with pytest.raises(IntegrityError, match=found):
            read_manifest(keeping.store, keeping.environment, "app", backup_id, (KEY,))


def test_only_a_manifest_of_an_unknown_key_brings_the_advice_to_accept_an_older_key(keeping: Keeping):
    backup_id = keeping.add(id_of(1), key=STRANGE_KEY)
    document = sample_manifest(backup_id).model_dump(mode="json")
    with pytest.raises(IntegrityError, match=r"does not know.*signing\.previous_keys"):
        read_manifest(keeping.store, keeping.environment, "app", backup_id, (KEY,))
    for stored, advice in (
        (b'{"document": {"format', "not JSON. It was damaged, cut short or overwritten"),
        (canonical_bytes({"document": document}), "unsigned. Find out who wrote it"),
    ):
        replace_manifest(keeping, backup_id, stored)
        with pytest.raises(IntegrityError, match=advice) as raised:
            read_manifest(keeping.store, keeping.environment, "app", backup_id, (KEY,))
        assert "previous_keys" not in str(raised.value)


@pytest.mark.parametrize(
    "place", [{"backup_id": "20200101T000000Z-00000000"}, {"environment": "production"}, {"database": "billing"}]
)
def test_a_manifest_copied_to_another_place_is_refused_though_well_signed(keeping: Keeping, place: dict[str, str]):
    backup_id = keeping.add(id_of(1))
    document = sample_manifest(backup_id).model_dump(mode="json") | place
    replace_manifest(keeping, backup_id, canonical_bytes(seal(document, KEY)))
    with pytest.raises(IntegrityError, match="lies in the folder of"):
        read_manifest(keeping.store, keeping.environment, "app", backup_id, (KEY,))


def test_a_manifest_of_a_newer_nightshift_is_told_apart_from_a_damaged_one(keeping: Keeping):
    backup_id = keeping.add(id_of(1))
    document = sample_manifest(backup_id).model_dump(mode="json")
    replace_manifest(keeping, backup_id, canonical_bytes(seal({**document, "format": "nightshift-backup/2"}, KEY)))
    with pytest.raises(PermanentError, match=r"nightshift-backup/2.*newer") as raised:
        read_manifest(keeping.store, keeping.environment, "app", backup_id, (KEY,))
    assert not isinstance(raised.value, IntegrityError)
    replace_manifest(keeping, backup_id, canonical_bytes(seal({**document, "tables": 5}, KEY)))
    with pytest.raises(IntegrityError, match="tables: "):
        read_manifest(keeping.store, keeping.environment, "app", backup_id, (KEY,))


def test_a_backup_without_a_manifest_has_none(keeping: Keeping):
    with pytest.raises(ObjectMissingError):
        read_manifest(keeping.store, keeping.environment, "app", id_of(1), (KEY,))


def test_decoding_again_leaves_the_state_and_replaces_one_of_another_manifest(keeping: Keeping):
    backup_id = keeping.add(id_of(1))
    place = keeping.folder(backup_id) + DECODED
    before = keeping.store.get(place)
    keeping.decode(backup_id)
    assert keeping.store.get(place) == before
    keeping.decode(backup_id, sha256="1" * 64)
    decoded = read_decoded(keeping.store, keeping.environment, "app", backup_id, (KEY,))
    assert decoded is not None
    assert decoded.manifest_sha256 == "1" * 64


def test_decoding_replaces_a_forged_state(keeping: Keeping):
    backup_id = keeping.add(id_of(1))
    keeping.store.put(keeping.folder(backup_id) + DECODED, b"{}")
    with pytest.raises(IntegrityError):
        read_decoded(keeping.store, keeping.environment, "app", backup_id, (KEY,))
    keeping.decode(backup_id)
    assert read_decoded(keeping.store, keeping.environment, "app", backup_id, (KEY,)) is not None


def test_a_state_that_is_not_there_is_none(keeping: Keeping):
    assert read_decoded(keeping.store, keeping.environment, "app", id_of(1), (KEY,)) is None


def test_a_signed_state_copied_to_another_backup_or_another_states_place_is_refused(keeping: Keeping):
    one, other = keeping.add(id_of(1)), keeping.add(id_of(2))
    decoded = keeping.store.get(keeping.folder(one) + DECODED)
    keeping.store.put(keeping.folder(other) + DECODED, decoded)
    with pytest.raises(IntegrityError, match=one):
        read_decoded(keeping.store, keeping.environment, "app", other, (KEY,))
    keeping.store.put(keeping.folder(one) + PROVEN, decoded)
    with pytest.raises(IntegrityError, match="another kind"):
        read_state(keeping.store, keeping.environment, "app", one, (KEY,), state=PROVEN)


def test_a_folder_is_claimed_once_and_stays_claimed_after_a_key_was_replaced(keeping: Keeping):
    before = keeping.store.get(owner_key("local", "app"))
    claim_folder(keeping.store, keeping.environment, "app", KEY)
    claim_folder(keeping.store, keeping.environment, "app", STRANGE_KEY, (STRANGE_KEY, KEY))
    assert keeping.store.get(owner_key("local", "app")) == before
    owner = read_owner(keeping.store, keeping.environment, "app", (KEY,))
    assert owner is not None
    assert (owner.environment, owner.database) == ("local", "app")


def test_a_folder_of_another_environment_is_refused_and_its_owner_named(
    keeping: Keeping, s3_server: S3Server, bucket: str
):
    other = keeping_at(bucket, s3_server, name="production", prefix="local")
    with pytest.raises(PermanentError, match=r"environment 'local'.*another store\.prefix"):
        other.claim()
    other.close()


def test_an_owner_object_that_somebody_else_signed_is_refused(keeping: Keeping):
    with pytest.raises(IntegrityError, match="does not know"):
        claim_folder(keeping.store, keeping.environment, "app", STRANGE_KEY)
    keeping.store.put(owner_key("local", "app"), json.dumps({"environment": "local"}).encode())
    with pytest.raises(IntegrityError, match="not a signed document"):
        keeping.claim()
