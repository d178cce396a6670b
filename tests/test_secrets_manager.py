"""Secrets of AWS Secrets Manager (moto's): what is found, what is not, and how each is told apart."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from core.errors import ConfigurationError, TemporaryError
from tasks.secrets import resolve
from tests.test_secrets import new_secret, value_of


@pytest.fixture(scope="module")
def secrets_manager() -> Iterator[tuple[str, Any]]:
    """The address of moto's server, and a client to put secrets into it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    yield (
        address,
        boto3.Session().client(
            "secretsmanager",
            endpoint_url=address,
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ),
    )
    server.stop()


@pytest.fixture
def put_secret(secrets_manager: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Put a secret; this process' default chain leads to the server."""
    address, client = secrets_manager
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)

    def put(**content: Any) -> dict[str, Any]:
        answer: dict[str, Any] = client.create_secret(Name=f"nightshift/{uuid.uuid4()}", **content)
        return answer

    return put


def test_secrets_manager_gives_a_key_of_a_json_secret_or_the_whole_text(put_secret: Callable[..., Any]) -> None:
    secret = new_secret()
    stored = put_secret(SecretString=json.dumps({"password": secret, "pin": 12345}))
    assert value_of(f"aws-secretsmanager:{stored['Name']}#password") == secret
    assert value_of(f"aws-secretsmanager:{stored['Name']}#pin") == "12345"
    whole = put_secret(SecretString=f"whole-{secret}")
    assert value_of(f"aws-secretsmanager:{whole['Name']}") == f"whole-{secret}"


def test_an_arn_brings_its_region_along(put_secret: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stored = put_secret(SecretString="found by its arn")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with pytest.raises(ConfigurationError, match="ResourceNotFoundException"):
        resolve(f"aws-secretsmanager:{stored['Name']}")
    assert value_of(f"aws-secretsmanager:{stored['ARN']}") == "found by its arn"


def test_what_secrets_manager_cannot_give_is_told_apart(put_secret: Callable[..., Any]) -> None:
    secret = new_secret()
    several = put_secret(SecretString=json.dumps({"user": "app", "password": secret, "list": [secret]}))["Name"]
    plain = put_secret(SecretString=secret)["Name"]
    binary = put_secret(SecretBinary=b"\x00\x01")["Name"]
    for place, found in (
        ("nightshift/none", "ResourceNotFoundException.*region"),
        (f"{several}#pasword", "no key pasword; it has: list, password, user"),
        (f"{several}#list", "JSON list, not text"),
        (f"{plain}#password", "no JSON object"),
        (binary, "binary"),
    ):
        with pytest.raises(ConfigurationError, match=found) as caught:
            resolve(f"aws-secretsmanager:{place}")
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.__cause__)


def test_secrets_manager_without_region_or_credentials_is_a_mistake_of_the_set_up(
    put_secret: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match="Set AWS_REGION"):
        resolve("aws-secretsmanager:anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="AWS credentials"):
        resolve("aws-secretsmanager:anything")


def test_secrets_manager_that_does_not_answer_may_answer_later(
    put_secret: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TemporaryError, match="aws-secretsmanager:anything"):
        resolve("aws-secretsmanager:anything")
