"""Drills of the bucket's copy in another region: with the bucket unreachable, with the copy damaged, with no copy at all."""

from collections.abc import Callable

import pytest

from core.environment import Environment
from core.environment_restore import BackupCopy
from tasks import report_steps
from tasks.catalogue import read_catalogue
from tasks.object_store import ObjectStore
from tests.fix_nightly import Night
from tests.fix_object_store import S3Server, environment_for

pytestmark = pytest.mark.xdist_group("prefect")


@pytest.fixture
def replicate(s3_server: S3Server) -> Callable[[Night], str]:
    """A function: given an environment, copy its bucket into another, name that in [copy_store], and return its name."""

    def copy_all(night: Night) -> str:
        client, copied = s3_server.client, f"{night.bucket}-copy"
        client.create_bucket(Bucket=copied)
        for key in night.keys:
            client.copy_object(Bucket=copied, Key=key, CopySource={"Bucket": night.bucket, "Key": key})
        night.settings["copy_store"] = {"bucket": copied, "endpoint_url": s3_server.endpoint}
        return copied

    return copy_all


def state_of(night: Night) -> str:
    return read_catalogue(ObjectStore.open(night.environment), night.environment, "first").entries[-1].state


@pytest.mark.services
def test_with_the_bucket_unreachable_the_copy_is_proven_whole_and_the_lost_report_is_told(
    night: Night, replicate: Callable[[Night], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run(databases=["first"])
    replicate(night)
    there = night.settings["store"]["endpoint_url"]
    # A port that nothing listens on.
    night.settings["store"]["endpoint_url"] = "http://127.0.0.1:1"
    monkeypatch.setattr("tasks.s3_client.ATTEMPTS", 1)
    monkeypatch.setattr(report_steps.write_report, "retry_delay_seconds", [0.0, 0.0, 0.0])
    state = night.drill(databases=["first"], read_from_copy=True)
    assert state.is_failed()
    assert "is whole in the copy of the bucket" in str(state.message)
    assert "BUT ITS REPORT COULD NOT BE KEPT" in str(state.message)
    assert [path.name for path in night.folder.iterdir()] == ["night.toml"]
    night.settings["store"]["endpoint_url"] = there
    night.write()
    assert state_of(night) == "decoded"


@pytest.mark.services
def test_a_copy_that_is_damaged_is_refused_by_its_name_and_the_bucket_is_proven_all_the_same(
    night: Night, replicate: Callable[[Night], str]
) -> None:
    night.run(databases=["first"])
    copied, client = replicate(night), night.s3.client
    key = next(key for key in night.keys if "/dump/" in key)
    body = client.get_object(Bucket=copied, Key=key)["Body"].read()
    client.put_object(Bucket=copied, Key=key, Body=body[:-1] + bytes([body[-1] ^ 1]))
    state = night.drill(databases=["first"], read_from_copy=True)
    assert state.is_failed()
    assert "SHA-256" in str(state.message)
    assert f"s3://{copied}/" in str(state.message)
    assert state_of(night) == "decoded"
    client.delete_object(Bucket=copied, Key=key)
    state = night.drill(databases=["first"], read_from_copy=True)
    assert state.is_failed()
    assert state_of(night) == "decoded"
    assert night.drill(databases=["first"]).is_completed()
    assert state_of(night) == "proven"


def test_without_a_copy_the_drill_says_what_is_missing(night: Night) -> None:
    state = night.drill(databases=["first"], read_from_copy=True)
    assert state.is_failed()
    assert "environment night has no [copy_store]" in str(state.message)


def test_an_empty_copy_is_told_as_one_and_nobody_is_sent_to_back_up_again(night: Night, s3_server: S3Server) -> None:
    night.run(databases=["first"])
    s3_server.client.create_bucket(Bucket=f"{night.bucket}-empty")
    night.settings["copy_store"] = {"bucket": f"{night.bucket}-empty", "endpoint_url": s3_server.endpoint}
    state = night.drill(databases=["first"], read_from_copy=True)
    assert state.is_failed()
    assert f"no backup is decoded in the bucket's copy, {night.bucket}-empty" in str(state.message)
    assert "nightshift backup" not in str(state.message)


def test_a_copy_without_an_address_is_on_aws_wherever_the_bucket_is() -> None:
    environment: Environment = environment_for("bucket", "http://127.0.0.1:9000")
    copied = environment.model_copy(update={"copy_store": BackupCopy(bucket="bucket", region="eu-west-1")})
    store = copied.reading_the_copy().store
    assert (store.endpoint_url, store.region, store.prefix) == (None, "eu-west-1", environment.prefix)
