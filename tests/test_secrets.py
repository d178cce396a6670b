"""Secrets by reference: each kind against the real thing, and where their values must not turn up."""

import json
import logging
import os
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from moto.server import ThreadedMotoServer

from core.environment import Environment
from core.errors import ConfigurationError, NightshiftError, TemporaryError
from core.redaction import MASK, redact
from tasks.log_redaction import install_log_redaction, redacted_errors
from tasks.secrets import resolve, signing_keys


def value_of(reference: str) -> str:
    return resolve(reference).get_secret_value()


def new_secret() -> str:
    return secrets.token_urlsafe(24)


@pytest.fixture
def log_redaction() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    install_log_redaction()
    yield
    logging.setLogRecordFactory(before)


# --- env: and file:


def test_a_variable_is_resolved_and_masked_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_secret()
    monkeypatch.setenv("NS_TEST_SECRET", secret)
    assert secret in redact(secret)
    assert value_of("env:NS_TEST_SECRET") == secret
    assert redact(f"postgres://app:{secret}@db") == f"postgres://app:{MASK}@db"


def test_a_variable_that_is_missing_or_blank_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NS_TEST_BLANK", " \n")
    with pytest.raises(ConfigurationError, match=r"env:NS_TEST_NONE.*no such variable.*Set NS_TEST_NONE"):
        resolve("env:NS_TEST_NONE")
    with pytest.raises(ConfigurationError, match=r"env:NS_TEST_BLANK.*empty"):
        resolve("env:NS_TEST_BLANK")


@pytest.mark.parametrize("pasted", ["hunter2-very-secret", "s3cret:with:colons", "vault:hunter2", "env:two words"])
def test_a_secret_in_place_of_a_reference_is_refused_and_not_repeated(pasted: str) -> None:
    with pytest.raises(ConfigurationError, match="not a secret reference") as caught:
        resolve(pasted)
    assert pasted not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_gives_its_content_without_the_newline_at_its_end(tmp_path: Path, end: str) -> None:
    secret = new_secret()
    file = tmp_path / "key"
    file.write_bytes(f" {secret}\ttail{end}".encode())
    file.chmod(0o600)
    assert value_of(f"file:{file}") == f" {secret}\ttail"
    assert secret not in redact(f"the value is {secret}\ttail.")


def test_a_file_that_everybody_can_read_is_refused_and_one_for_a_group_is_not(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(new_secret())
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"mode 0644.*chmod 600 .*key"):
        resolve(f"file:{file}")
    file.chmod(0o440)
    assert value_of(f"file:{file}") == file.read_text()


def test_files_that_are_no_secret_are_told_apart(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary", tmp_path / "large"
    binary.write_bytes(b"\xff\xfe\x00secret")
    large.write_bytes(b"x" * 70_000)
    for file in (binary, large):
        file.chmod(0o600)
    for place, found in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "no regular file"),
        (binary, "not UTF-8"),
        (large, "70000 bytes"),
        ("relative/key", "relative"),
    ):
        with pytest.raises(ConfigurationError, match=found):
            resolve(f"file:{place}")


def test_a_file_below_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("in the home folder")
    (tmp_path / "key").chmod(0o600)
    assert value_of("file:~/key") == "in the home folder"


# --- aws-secretsmanager:


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


# --- signing keys


def environment_with_keys(algorithm: str, key: str, *previous: str) -> Environment:
    return Environment.model_validate(
        {
            "name": "test",
            "store": {"bucket": "backups"},
            "signing": {"algorithm": algorithm, "key": key, "previous_keys": previous},
            "databases": {"app": {"host": "db", "name": "app", "user": "backup"}},
        }
    )


def test_the_first_signing_key_signs_and_all_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NS_TEST_KEY", "n" * 40)
    monkeypatch.setenv("NS_TEST_OLD_KEY", "o" * 40)
    new, old = signing_keys(environment_with_keys("hmac-sha256", "env:NS_TEST_KEY", "env:NS_TEST_OLD_KEY"))
    assert new.key_id != old.key_id
    assert old.sign({"a": 1})["key_id"] == old.key_id


def test_a_signing_key_that_does_not_do_is_named_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for name, value in (("SHORT", "too-short"), ("GOOD", "g" * 40), ("PUBLIC", public), ("PRIVATE", pem)):
        monkeypatch.setenv(f"NS_TEST_{name}", value)
    for environment, found in (
        (environment_with_keys("hmac-sha256", "env:NS_TEST_SHORT"), r"signing\.key = env:NS_TEST_SHORT.*32 characters"),
        (
            environment_with_keys("hmac-sha256", "env:NS_TEST_GOOD", "env:NS_TEST_SHORT"),
            r"signing\.previous_keys\[0\] = env:NS_TEST_SHORT",
        ),
        (environment_with_keys("ed25519", "env:NS_TEST_GOOD"), "not a PEM Ed25519 key"),
        (environment_with_keys("ed25519", "env:NS_TEST_PUBLIC"), "cannot sign"),
    ):
        with pytest.raises(ConfigurationError, match=found) as caught:
            signing_keys(environment)
        assert "too-short" not in str(caught.value)
    assert len(signing_keys(environment_with_keys("ed25519", "env:NS_TEST_PRIVATE", "env:NS_TEST_PUBLIC"))) == 2


# --- logs


def test_a_log_record_holds_no_secret_however_it_came_in(
    log_redaction: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = new_secret()
    monkeypatch.setenv("NS_TEST_SECRET", secret)
    resolve("env:NS_TEST_SECRET")
    logger = logging.getLogger("some.library.below")
    logger.setLevel("INFO")
    logger.info(f"formatted {secret}")  # noqa: G004 - what others do
    logger.info("argument %s, %r", secret, [secret])
    logger.info("a mapping %(word)s", {"word": secret})
    logger.info("too few %s %s", secret)  # noqa: PLE1206 - what others do
    try:
        int(secret)
    except ValueError:
        logger.exception("an exception")
    logger.info("nothing to hide: %d of %s", 5, "five")
    assert secret not in caplog.text
    assert caplog.text.count(MASK) == 6
    assert "nothing to hide: 5 of five" in caplog.text
    assert all(secret not in repr(record.__dict__) for record in caplog.records)


def test_installing_log_redaction_twice_changes_nothing(log_redaction: None) -> None:
    factory = logging.getLogRecordFactory()
    install_log_redaction()
    assert logging.getLogRecordFactory() is factory


def test_a_foreign_error_that_tells_a_secret_is_replaced_and_others_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_secret()
    monkeypatch.setenv("NS_TEST_SECRET", secret)
    resolve("env:NS_TEST_SECRET")
    with pytest.raises(NightshiftError, match=r"OSError: .*\*{5}") as caught, redacted_errors():
        raise OSError(5, "no access", secret)
    assert secret not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    with pytest.raises(KeyError, match="harmless"), redacted_errors():
        raise KeyError("harmless")


# --- Prefect


def test_a_prefect_block_is_resolved_from_plain_code_a_thread_and_a_flow(prefect_server: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from prefect import flow, task
    from prefect.blocks.system import Secret

    secret = new_secret()
    Secret(value=secret).save("backup-password", overwrite=True, _sync=True)  # type: ignore[call-arg]
    Secret(value="0123456").save("digits", overwrite=True, _sync=True)  # type: ignore[call-arg]
    Secret(value={"password": secret}).save("a-table", overwrite=True, _sync=True)  # type: ignore[call-arg, arg-type]

    @task
    def in_a_task() -> str:
        return value_of("prefect-block:backup-password")

    @flow
    def in_a_flow() -> tuple[str, str]:
        return value_of("prefect-block:backup-password"), in_a_task.submit().result()

    assert value_of("prefect-block:backup-password") == secret
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(value_of, "prefect-block:backup-password").result() == secret
    assert in_a_flow() == (secret, secret)
    assert value_of("prefect-block:digits") == "0123456"
    with pytest.raises(ConfigurationError, match="no Secret block of this name"):
        resolve("prefect-block:nobody")
    with pytest.raises(ConfigurationError, match="JSON dict, not text"):
        resolve("prefect-block:a-table")


def test_a_prefect_block_without_a_server_is_told_at_once() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        os.environ.pop("PREFECT_API_URL", None)
        with pytest.raises(ConfigurationError, match="Set PREFECT_API_URL"):
            resolve("prefect-block:backup-password")
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(TemporaryError, match="did not answer"),
    ):
        resolve("prefect-block:backup-password")


def test_a_secret_in_a_flow_reaches_neither_the_servers_log_nor_the_state(
    prefect_server: str, log_redaction: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow, get_run_logger, task

    secret = new_secret()
    monkeypatch.setenv("NS_TEST_SECRET", secret)

    @task
    def fails() -> None:
        with redacted_errors():
            raise ValueError(f"password authentication failed: {secret}")

    @flow(log_prints=True)
    def leaks() -> None:
        resolve("env:NS_TEST_SECRET")
        get_run_logger().warning("before %s after", secret)
        print(f"printed {secret}")  # noqa: T201 - what a library may do
        logging.getLogger("prefect.flow_runs").info("a child's text: %s", {"PGPASSWORD": secret})
        fails()

    state = leaks(return_state=True)
    assert state.is_failed()
    assert MASK in str(state.message)
    logs, states = everything_of(state.state_details.flow_run_id)
    assert secret not in states
    assert secret not in logs
    assert f"before {MASK} after" in logs
    assert f"printed {MASK}" in logs
    assert f"password authentication failed: {MASK}" in logs


def everything_of(flow_run_id: Any) -> tuple[str, str]:
    """All that the server's log and all states, of the run and its tasks, say; waits until the log's end has arrived."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        LogFilter,
        LogFilterFlowRunId,
    )

    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 20
        while True:
            records = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
            logs = "\n".join(record.message for record in records)
            if "Finished in state Failed" in logs and "Encountered exception" in logs:
                break
            assert time.monotonic() < deadline, logs
            time.sleep(0.2)
        states = [str(state) for state in client.read_flow_run_states(flow_run_id)]
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
        states += [repr(task.state) for task in tasks]
    return logs, "\n".join(states)
