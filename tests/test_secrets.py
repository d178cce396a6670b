"""Secrets by reference: each kind against the real thing, and where their values must not turn up."""

import os
import secrets
import traceback
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.environment import Environment
from core.errors import ConfigurationError, TemporaryError
from core.redaction import MASK, redact
from core.secret_reference import shown_reference
from tasks.secrets import resolve, signing_keys


def value_of(reference: str) -> str:
    return resolve(reference).get_secret_value()


def new_secret() -> str:
    return secrets.token_urlsafe(24)


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


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("env:DB_PASSWORD_2", "env:DB_PASSWORD_2"),
        ("env:hunter2_very_secret", "env:hun…"),
        ("file:/run/secrets/db-password", "file:/run/secrets/db-password"),
        ("file:~/.config/nightshift/production.signing-key", "file:~/.config/nightshift/production.signing-key"),
        ("file:secrets/password", "file:secrets/password"),
        (f"file:/proc/{uuid.UUID(int=11)}/key", f"file:/proc/{uuid.UUID(int=11)}/key"),
        ("file:hunter2-very-secret", "file:hun…"),
        ("file:-----BEGIN PRIVATE KEY-----/MC4CAQ", "file:---…"),
        ("file:/9j4AAQSkZJRgABAQEAYABgAAD", "file:/9j…"),
        ("prefect-block:backup-password", "prefect-block:backup-password"),
        ("hunter2:very-secret", "hunter2:ver…"),
    ],
)
def test_a_reference_is_shown_whole_unless_its_place_looks_like_a_secret(reference: str, shown: str) -> None:
    assert shown_reference(reference) == shown


@pytest.mark.parametrize(
    "reference",
    ["env:hunter2_very_secret", "file:hunter2-very-secret", "file:-----BEGIN KEY-----MC4CAQ", f"file:/{'aB3' * 9}"],
)
def test_a_secret_in_the_place_of_a_name_or_a_path_is_not_repeated(reference: str) -> None:
    place = reference.partition(":")[2]
    for refused in (resolve, lambda text: signing_keys(environment_with_keys("hmac-sha256", text))):
        with pytest.raises(ConfigurationError) as caught:
            refused(reference)
        # With the errors it was made of, as a log shows them.
        assert place not in "".join(traceback.format_exception(caught.value))
        assert place[:3] in str(caught.value)


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
    with pytest.raises(ConfigurationError, match=f"No such file or directory; ~ is {tmp_path} for this process"):
        resolve("file:~/other-key")


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
        # Of a change from ed25519 back: whoever knows the public half could sign.
        (environment_with_keys("hmac-sha256", "env:NS_TEST_GOOD", "env:NS_TEST_PUBLIC"), "no secret"),
        (environment_with_keys("ed25519", "env:NS_TEST_GOOD"), "not a PEM Ed25519 key"),
        (environment_with_keys("ed25519", "env:NS_TEST_PUBLIC"), "cannot sign"),
    ):
        with pytest.raises(ConfigurationError, match=found) as caught:
            signing_keys(environment)
        assert "too-short" not in str(caught.value)
        assert "openssl" in caught.value.next_step
    assert len(signing_keys(environment_with_keys("ed25519", "env:NS_TEST_PRIVATE", "env:NS_TEST_PUBLIC"))) == 2


# --- Prefect


@pytest.mark.xdist_group("prefect")
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
