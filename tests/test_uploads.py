"""Uploads of streams of any length against a real S3 API: whole or nothing, whatever fails."""

import io
import secrets
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import PermanentError, TemporaryError
from tasks.multipart import parts_of
from tasks.object_store import ObjectStore
from tests.fix_object_store import FaultProxy, nothing_left

MIB = 1024 * 1024
BIG = 11 * MIB + 17


@settings(deadline=None)  # a busy machine is no mistake
@given(
    sizes=st.lists(st.integers(1, 50), max_size=20),
    part_bytes=st.integers(1, 70),
)
def test_parts_are_the_stream_cut_at_the_part_size(sizes: list[int], part_bytes: int) -> None:
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]

    class Ragged:
        def read(self, size: int) -> bytes:
            if not pieces_left:
                return b""
            piece = pieces_left.pop(0)
            if len(piece) > size:
                pieces_left.insert(0, piece[size:])
            return piece[:size]

    pieces_left = list(pieces)
    parts = list(parts_of(Ragged(), part_bytes))
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == part_bytes for part in parts[:-1])
    assert len(parts[-1]) <= part_bytes
    assert len(parts) >= 1


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, BIG])
def test_a_stream_of_any_length_is_uploaded_whole(store: ObjectStore, size: int) -> None:
    content = secrets.token_bytes(size)
    assert store.upload("dump", io.BytesIO(content)) == size
    assert store.get("dump") == content
    assert store.list_uploads("") == []


class BrokenReader(io.BytesIO):
    """Gives its content, then raises at its end, as the reader of a process that failed does."""

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if not block:
            raise TemporaryError("dump", "app", "pg_dump ended with 1")
        return block


@pytest.mark.parametrize("size", [0, 3, BIG])
def test_a_reader_that_raises_at_its_end_leaves_nothing(store: ObjectStore, size: int) -> None:
    with pytest.raises(TemporaryError, match="pg_dump ended with 1"):
        store.upload("dump", BrokenReader(bytes(size)))
    assert nothing_left(store)


def test_a_part_that_is_refused_for_good_aborts_the_upload(faulty_store: ObjectStore, s3_faults: FaultProxy) -> None:
    s3_faults.refuse("PUT", "partNumber=2", status=403, times=10)
    with pytest.raises(PermanentError, match="upload part 2"):
        faulty_store.upload("dump", io.BytesIO(bytes(BIG)))
    assert nothing_left(faulty_store)


def test_parts_are_sent_again_after_a_refusal_and_a_lost_answer(
    faulty_store: ObjectStore, s3_faults: FaultProxy
) -> None:
    content = secrets.token_bytes(BIG)
    s3_faults.refuse("PUT", "partNumber=1")
    s3_faults.lose_answer("PUT", "partNumber=2")
    faulty_store.upload("dump", io.BytesIO(content))
    assert faulty_store.get("dump") == content


def test_a_completion_whose_answer_was_lost_is_found_to_be_done(
    faulty_store: ObjectStore, s3_faults: FaultProxy
) -> None:
    content = secrets.token_bytes(BIG)
    s3_faults.lose_answer("POST", "uploadId=")
    gone = b"<Error><Code>NoSuchUpload</Code><Message>The upload does not exist</Message></Error>"
    # moto answers a repeated completion as the first one; other services say that the upload is gone.
    s3_faults.refuse("POST", "uploadId=", status=404, body=gone)
    assert faulty_store.upload("dump", io.BytesIO(content)) == BIG
    assert faulty_store.get("dump") == content


def test_a_completion_that_was_never_done_leaves_nothing(faulty_store: ObjectStore, s3_faults: FaultProxy) -> None:
    gone = b"<Error><Code>NoSuchUpload</Code><Message>The upload does not exist</Message></Error>"
    s3_faults.refuse("POST", "uploadId=", status=404, body=gone)
    with pytest.raises(PermanentError, match="complete a multipart upload"):
        faulty_store.upload("dump", io.BytesIO(bytes(BIG)))
    assert nothing_left(faulty_store)


def test_an_upload_that_was_begun_twice_because_of_a_lost_answer_is_aborted_with_it(
    faulty_store: ObjectStore, s3_faults: FaultProxy
) -> None:
    s3_faults.lose_answer("POST", "uploads")
    with pytest.raises(TemporaryError):
        faulty_store.upload("dump", BrokenReader(bytes(BIG)))
    assert s3_faults.count("DELETE", "uploadId=") == 2
    assert nothing_left(faulty_store)


def test_an_abort_that_fails_does_not_hide_why_the_upload_failed(
    faulty_store: ObjectStore, s3_faults: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    s3_faults.refuse("DELETE", "uploadId=", status=403, times=1)
    with pytest.raises(TemporaryError, match="pg_dump ended with 1"):
        faulty_store.upload("dir/dump", BrokenReader(bytes(BIG)))
    assert "stay until a later sweep" in caplog.text
    assert len(faulty_store.list_uploads("dir/")) == 1
    faulty_store.remove_folder("dir/")
    assert nothing_left(faulty_store)


def test_objects_of_a_failed_attempt_go_though_its_uploads_cannot_be_listed(
    faulty_store: ObjectStore, s3_faults: FaultProxy
) -> None:
    faulty_store.upload("dir/dump", io.BytesIO(b"short"))
    s3_faults.refuse("GET", "uploads", status=403, times=9)
    faulty_store.remove_folder("dir/")
    assert list(faulty_store.list("dir/")) == []


def test_no_thread_outlives_an_upload(store: ObjectStore) -> None:
    store.upload("dump", io.BytesIO(bytes(BIG)))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("upload")]
