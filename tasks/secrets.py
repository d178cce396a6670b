"""Fetching secrets by their references, at the moment of use. Every value is registered with core.redaction before it is handed out.

    env:NAME                       a variable of this process
    file:PATH                      the content of a file, without the newline at its end
    prefect-block:NAME             a Secret block of the Prefect server
    aws-secretsmanager:ID#KEY      a key of a JSON secret; without #KEY the whole text. ID is a name or an ARN

Nothing is kept: a secret that was rotated is found at the next use.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
from pydantic import SecretStr

from core.environment import Environment
from core.errors import ConfigurationError, NightshiftError, TemporaryError
from core.redaction import register_secret
from core.secret_reference import shown_reference, split_reference
from core.signature import SigningKey

# Keys and passwords are short; a larger file is some other file.
LARGEST_FILE_BYTES = 64 * 1024
_AWS_TEMPORARY = {"InternalServiceError", "InternalServiceErrorException", "ThrottlingException", "RequestTimeout"}
_AWS_NEXT_STEPS = {
    "ResourceNotFoundException": "Look at the secret's name and at the region (AWS_REGION, or give the whole ARN)",
    "AccessDeniedException": "Allow secretsmanager:GetSecretValue on it to this role",
    "DecryptionFailure": "Allow kms:Decrypt on the secret's key to this role",
    "InvalidRequestException": "The secret may be marked for deletion: restore it, or name another",
}


def resolve(reference: str) -> SecretStr:
    """Given a secret reference, return the secret. Raise ConfigurationError when it cannot be had, TemporaryError when a server did not answer."""
    try:
        kind, place = split_reference(reference)
    except ValueError as error:
        raise ConfigurationError("resolve a secret", "reference", str(error)) from None
    value = _RESOLVERS[kind](place)
    if not value.strip():
        raise _no_secret(kind, place, "it is empty", "Put the secret there")
    register_secret(value)
    register_secret(value.strip())
    return SecretStr(value)


def signing_keys(environment: Environment) -> tuple[SigningKey, ...]:
    """Given an environment, return its signing keys: the first signs, all verify. Raise ConfigurationError naming the key that does not do."""
    signing = environment.signing
    keys = []
    for index, reference in enumerate((signing.key, *signing.previous_keys)):
        where = f"signing.previous_keys[{index - 1}]" if index else "signing.key"
        try:
            key = SigningKey(signing.algorithm, resolve(reference).get_secret_value())
            if index == 0:
                key.sign({})  # a public key alone verifies but does not sign: found out now, not after the dump
        except ValueError as error:
            raise ConfigurationError(
                "load a signing key",
                f"{where} = {shown_reference(reference)}",
                str(error),
                "openssl rand -hex 32 makes a key for hmac-sha256, openssl genpkey -algorithm ed25519 one for ed25519",
            ) from None
        keys.append(key)
    return tuple(keys)


def _no_secret(kind: str, place: str, found: str, next_step: str) -> ConfigurationError:
    return ConfigurationError("resolve a secret", shown_reference(f"{kind}:{place}"), found, next_step)


def _from_variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        shown = shown_reference(f"env:{name}").removeprefix("env:")
        raise _no_secret("env", name, "this process has no such variable", f"Set {shown} where the worker is started")
    return value


def _from_file(place: str) -> str:
    path = Path(place).expanduser()
    if not path.is_absolute():
        raise _no_secret(
            "file", place, "the path is relative, and workers run elsewhere", "Write it from / or ~ onwards"
        )
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _no_secret("file", place, "it is no regular file", "Name the file that holds the secret")
        if status.st_mode & stat.S_IROTH:
            raise _no_secret(
                "file",
                place,
                f"every user of this machine can read it (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod 600 {shown_reference(f'file:{place}').removeprefix('file:')}; for a Secret mounted by Kubernetes, defaultMode: 0440",
            )
        if status.st_size > LARGEST_FILE_BYTES:
            raise _no_secret("file", place, f"it has {status.st_size} bytes, too many for a secret", "Look at the path")
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        # Chained where it is a path for sure: the system's error repeats it.
        cause = error if shown_reference(f"file:{place}") == f"file:{place}" else None
        # Who started the worker says what ~ is, and it is not always who wrote the file.
        home = f"; ~ is {Path.home()} for this process" if place.startswith("~/") else ""
        raise _no_secret("file", place, f"{error.strerror}{home}", "Look at the path and at its owner") from cause
    except UnicodeDecodeError:
        # Not chained: the error holds the file's content.
        raise _no_secret("file", place, "it is not UTF-8 text", "Store the secret as text") from None


def _from_prefect_block(name: str) -> str:
    # Imported here because importing Prefect takes two seconds, which environments without blocks need not wait for.
    import httpx  # noqa: PLC0415
    from prefect.blocks.system import Secret  # noqa: PLC0415
    from prefect.exceptions import PrefectHTTPStatusError  # noqa: PLC0415
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415

    api = PREFECT_API_URL.value()
    if not api:
        # Prefect would start a temporary server of its own, which knows none of the blocks.
        raise _no_secret("prefect-block", name, "no Prefect server is set", "Set PREFECT_API_URL")
    try:
        block: Any = Secret.load(name, _sync=True)  # type: ignore[call-arg]  # async_dispatch's own argument
    except ValueError as error:
        # Not chained: where the block's content does not fit, the error may quote it.
        missing = "Unable to find" in str(error)
        found = f"{api} has no Secret block of this name" if missing else "its content is not a Secret block's"
        raise _no_secret("prefect-block", name, found, "Make it in the UI: Blocks, Secret") from None
    except PrefectHTTPStatusError as error:
        found = f"{api} answered {error.response.status_code}"
        if error.response.status_code in {401, 403}:
            raise _no_secret("prefect-block", name, found, "Set PREFECT_API_AUTH_STRING") from error
        raise TemporaryError("resolve a secret", f"prefect-block:{name}", found) from error
    except httpx.TransportError as error:
        raise TemporaryError(
            "resolve a secret", f"prefect-block:{name}", f"{api} did not answer: {error}", "Is the server running?"
        ) from error
    # Not block.get(): it parses text as JSON, which turns a password of digits into a number.
    value = block.value.get_secret_value()
    return _text_of("prefect-block", name, value)


def _from_secrets_manager(place: str) -> str:
    identifier, _, key = place.partition("#")
    document = _read_secrets_manager(place, identifier)
    if not key:
        return document
    try:
        values = json.loads(document)
    except ValueError:
        # Not chained: the error holds the secret.
        values = None
    if not isinstance(values, dict):
        raise _no_secret("aws-secretsmanager", place, "the secret is no JSON object", f"Leave #{key} away")
    if key not in values:
        # Keys are shown, since the console shows them beside the values' stars as well; values never are.
        known = ", ".join(sorted(str(name) for name in values)) or "none"
        raise _no_secret("aws-secretsmanager", place, f"the secret has no key {key}; it has: {known}", "Name one")
    return _text_of("aws-secretsmanager", place, values[key])


def _read_secrets_manager(place: str, identifier: str) -> str:
    # An ARN says its region, which may be another than the process's own: arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME
    parts = identifier.split(":")
    region = parts[3] if parts[0] == "arn" and len(parts) > 3 else None
    settings = botocore.config.Config(
        connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
    )
    try:
        # A session of its own: boto3's default session is not safe to share between threads.
        client = boto3.Session().client("secretsmanager", region_name=region, config=settings)
        answer = client.get_secret_value(SecretId=identifier)
    except botocore.exceptions.ClientError as error:
        raise _aws_error(place, error) from error
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
        raise _no_secret("aws-secretsmanager", place, str(error), "Give this process AWS credentials") from error
    except botocore.exceptions.NoRegionError as error:
        raise _no_secret("aws-secretsmanager", place, "no AWS region is set", "Set AWS_REGION") from error
    except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
        raise TemporaryError("resolve a secret", f"aws-secretsmanager:{place}", str(error)) from error
    except botocore.exceptions.BotoCoreError as error:
        raise _no_secret("aws-secretsmanager", place, str(error), "Look at the AWS settings of this process") from error
    if "SecretString" not in answer:
        raise _no_secret("aws-secretsmanager", place, "the secret is binary", "Store it as text")
    return answer["SecretString"]


def _aws_error(place: str, error: botocore.exceptions.ClientError) -> NightshiftError:
    details = error.response["Error"]
    code = details.get("Code", "unknown")
    found = f"{code}: {details.get('Message', '')}"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _AWS_TEMPORARY or status >= 500:
        return TemporaryError("resolve a secret", f"aws-secretsmanager:{place}", found)
    return _no_secret("aws-secretsmanager", place, found, _AWS_NEXT_STEPS.get(code, "Look at the AWS credentials"))


def _text_of(kind: str, place: str, value: object) -> str:
    """A secret's value as text; numbers as their digits. Anything else is refused, since its spelling would be guessed."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _no_secret(kind, place, f"it holds a JSON {type(value).__name__}, not text", "Store the secret as text")


_RESOLVERS: dict[str, Callable[[str], str]] = {
    "env": _from_variable,
    "file": _from_file,
    "prefect-block": _from_prefect_block,
    "aws-secretsmanager": _from_secrets_manager,
}
