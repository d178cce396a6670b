"""A stored dump of many files, decoded without a copy on disk: what is damaged, missing or exchanged is named."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from core.errors import IntegrityError
from core.manifest import Manifest
from tasks.object_store import ObjectStore
from tests.directory_dumps import decode, dump_directory, manifest_of
from tests.fix_streams import FOLDER, Sample, with_parts


@pytest.fixture(scope="session")
def _directory_once(small_sample: Sample, s3_server: Any, tmp_path_factory: Any) -> tuple[Manifest, dict[str, bytes]]:
    from tests.fix_object_store import environment_for

    s3_server.client.create_bucket(Bucket="directory-stored-once")
    store = ObjectStore.open(environment_for("directory-stored-once", s3_server.endpoint))
    streamed = dump_directory(small_sample, store, tmp_path_factory.mktemp("spool"))
    manifest = manifest_of(small_sample, store, streamed)
    objects = {item.key: store.get(item.key) for item in store.list("")}
    store.client.close()
    return manifest, objects


@pytest.fixture
def stored(_directory_once: tuple[Manifest, dict[str, bytes]], store: ObjectStore) -> Manifest:
    """A directory-format backup of the small sample in the test's bucket."""
    manifest, objects = _directory_once
    for key, body in objects.items():
        store.put(key, body)
    return manifest


def test_a_flipped_bit_in_any_file_is_named(small_sample: Sample, store: ObjectStore, stored: Manifest) -> None:
    for part in stored.archive.parts:
        key = FOLDER + part.segments[0].key
        good = store.get(key)
        changed = bytearray(good)
        changed[len(good) // 2] ^= 4
        store.put(key, bytes(changed))
        with pytest.raises(IntegrityError, match=f"{part.segments[0].key}.*SHA-256"):
            decode(small_sample, store, stored)
        store.put(key, good)
    decode(small_sample, store, stored)


def test_a_file_that_is_missing_in_bucket_or_manifest_is_named(
    small_sample: Sample, store: ObjectStore, stored: Manifest
) -> None:
    data = next(part for part in stored.archive.parts if part.name[0].isdigit())
    rest = tuple(part for part in stored.archive.parts if part is not data)
    with pytest.raises(IntegrityError, match=f"{data.name} is in the table of contents and not in the manifest"):
        decode(small_sample, store, with_parts(stored, *rest))
    renamed = data.model_copy(update={"name": "99999.dat"})
    with pytest.raises(IntegrityError, match=r"99999\.dat is in the manifest and not in the table of contents"):
        decode(small_sample, store, with_parts(stored, *stored.archive.parts, renamed))
    store.delete([FOLDER + data.segments[0].key])
    with pytest.raises(IntegrityError, match=f"{data.name}/00000.zst.*missing"):
        decode(small_sample, store, stored)


def test_a_backup_without_its_table_of_contents_is_refused(
    small_sample: Sample, store: ObjectStore, stored: Manifest
) -> None:
    rest = tuple(part for part in stored.archive.parts if part.name != "toc.dat")
    with pytest.raises(IntegrityError, match=r"toc\.dat is missing"):
        decode(small_sample, store, with_parts(stored, *rest))
    bad = stored.archive.parts[0].model_copy(update={"name": "../../etc/passwd.dat"})
    with pytest.raises(IntegrityError, match="no file of a directory-format archive"):
        decode(small_sample, store, with_parts(stored, *stored.archive.parts, bad))


def test_files_that_were_exchanged_are_noticed_by_their_rows(
    small_sample: Sample, store: ObjectStore, stored: Manifest
) -> None:
    """Each file's checksums agree with its record, but the records were exchanged."""
    one, two = [part for part in stored.archive.parts if part.name[0].isdigit() and part.plain_bytes > 10][:2]
    exchanged = {
        one.name: two.model_copy(update={"name": one.name}),
        two.name: one.model_copy(update={"name": two.name}),
    }
    parts = tuple(exchanged.get(part.name, part) for part in stored.archive.parts)
    with pytest.raises(IntegrityError, match="rows in the dump"):
        decode(small_sample, store, with_parts(stored, *parts))


def test_a_decode_keeps_no_data_file_on_disk(
    small_sample: Sample, store: ObjectStore, stored: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sizes: list[int] = []
    removed = shutil.rmtree

    def measure(path: Any, *arguments: Any, **more: Any) -> None:
        sizes.append(sum(file.stat().st_size for file in Path(path).iterdir()))
        removed(path, *arguments, **more)

    monkeypatch.setattr("shutil.rmtree", measure)
    decode(small_sample, store, stored)
    assert sizes
    assert max(sizes) < 50_000
    assert not list(tmp_path.iterdir())
