"""The boto3 client of an environment's bucket, and what botocore's errors mean for us.

Repeating a request is botocore's business (`standard` mode, at most five attempts, with back-off); what still fails is wrapped here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own; the built-in is not used here
    CredentialRetrievalError,
    HTTPClientError,
    SSLError,
)

from core.environment import Environment, Store
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.redaction import register_secret
from tasks.secrets import resolve

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from prefect_aws import AwsCredentials

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 5
# Three part uploads or one reader a stream, several streams side by side; a smaller pool would drop and reopen connections.
POOL = 24

_TEMPORARY_CODES = frozenset(
    {
        "ExpiredToken",  # a retry makes a new client, and with it new credentials
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_HEAD_CODES = {"301": "PermanentRedirect", "403": "AccessDenied", "404": "NotFound", "412": "PreconditionFailed"}
_NEXT_STEPS = {
    "AccessDenied": "Allow it in the IAM or bucket policy, see docs/backup.md (What the credentials must allow)",
    "AuthorizationHeaderMalformed": "Set store.region to the bucket's region",
    "InvalidAccessKeyId": "Check store.access_key_id",
    "NoSuchBucket": "Create the bucket or correct store.bucket",
    "NotImplemented": "This S3 service lacks a feature that nightshift relies on; see docs/limits.md",
    "PermanentRedirect": "Set store.region to the bucket's region",
    "RequestTimeTooSkewed": "Set this machine's clock",
    "SignatureDoesNotMatch": "Check store.secret_access_key",
}


_NO_ANSWER_STEP = "Look at store.endpoint_url and store.region, at the network, and whether the S3 service is up"
# As the operating system says it, inside of what urllib3 and botocore make of it.
_REASON = re.compile(r"\[Errno -?\d+\] ([^)>\]'\"]+)")


def make_client(environment: Environment) -> S3Client:
    """Given an environment, return an S3 client for its bucket. No request is made.

    Credentials come from the AwsCredentials block (its client settings are honoured), else from the two references, else from boto3's default chain.
    Raise ConfigurationError when the block or a reference cannot be resolved.
    """
    store = environment.store
    settings: dict[str, Any] = {"region_name": store.region}
    config = _config(store)
    if store.credentials_block:
        session, overrides = _from_block(store.credentials_block)
        config = config.merge(overrides.pop("config")) if "config" in overrides else config
        settings |= overrides
    elif store.access_key_id and store.secret_access_key:
        session = _session(
            aws_access_key_id=resolve(store.access_key_id).get_secret_value(),
            aws_secret_access_key=resolve(store.secret_access_key).get_secret_value(),
        )
    else:
        session = _session()
    if store.endpoint_url:
        settings["endpoint_url"] = store.endpoint_url
    with s3_errors("make an S3 client", f"bucket {store.bucket}"):
        client: S3Client = session.client("s3", config=config, **settings)
    return client


@functools.cache
def _service_models() -> Any:
    """botocore's descriptions of the services, read once: to read them is most of what a client costs, and each step of a run makes its own."""
    return botocore.session.get_session().get_component("data_loader")


def _session(**credentials: str) -> boto3.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _service_models())
    return boto3.Session(botocore_session=session, **credentials)


def _config(store: Store) -> Config:
    host = urlsplit(store.endpoint_url).hostname if store.endpoint_url else None
    # Other S3 services seldom have a DNS name per bucket.
    style: Literal["path", "auto"] = "path" if host and not host.endswith(".amazonaws.com") else "auto"
    return Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=POOL,
        tcp_keepalive=True,
        # Everything that is read back is checked by SHA-256 or signature.
        response_checksum_validation="when_required",
        user_agent_extra="nightshift",
        s3={"addressing_style": style},
    )


def _from_block(name: str) -> tuple[boto3.Session, dict[str, Any]]:
    """Given a Prefect block's name, return its session and the client settings that it overrides."""
    block = _load_block(name)
    for secret in (block.aws_secret_access_key, block.aws_session_token):
        if secret is not None:
            register_secret(secret if isinstance(secret, str) else secret.get_secret_value())
    overrides = block.aws_client_parameters.get_params_override()
    if block.region_name:
        overrides["region_name"] = block.region_name
    with s3_errors("make a session", f"Prefect block aws-credentials/{name}"):
        return block.get_boto3_session(), overrides


def _load_block(name: str) -> AwsCredentials:
    # Imported here because importing Prefect takes two seconds, which environments without blocks need not wait for.
    import httpx  # noqa: PLC0415
    from prefect.exceptions import PrefectHTTPStatusError  # noqa: PLC0415
    from prefect_aws import AwsCredentials  # noqa: PLC0415

    attempted, on = "load the AWS credentials", f"Prefect block aws-credentials/{name}"
    try:
        # `_sync` is taken by Prefect's own wrapper, which its annotations do not show.
        return cast("AwsCredentials", AwsCredentials.load(name, _sync=True))  # type: ignore[call-arg]
    except ValueError as error:
        # Not chained: where the block's content does not fit, the error may quote it.
        missing = "Unable to find" in str(error)
        found = "there is no such block" if missing else "its content is not an AwsCredentials block's"
        next_step = "Make it (Prefect UI: Blocks, AWS Credentials) or correct store.credentials_block"
        raise ConfigurationError(attempted, on, found, next_step) from None
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status in {401, 403}:
            raise ConfigurationError(
                attempted, on, f"the Prefect server answered {status}", "Set PREFECT_API_AUTH_STRING"
            ) from error
        raise TemporaryError(attempted, on, f"the Prefect server answered {status}") from error
    except httpx.TransportError as error:
        raise TemporaryError(attempted, on, f"the Prefect server did not answer: {error}", "Is it running?") from error


def error_code(error: ClientError) -> str:
    """The S3 error code; a HEAD has no body, so its code is only the status, given here by its usual name."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return _HEAD_CODES.get(code, code)


def s3_error(error: BotoCoreError | ClientError, attempted: str, on: str) -> NightshiftError:
    """Given botocore's error, return ours: TemporaryError when the same request could succeed later, else PermanentError with the next step."""
    if isinstance(error, ClientError):
        code = error_code(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        found = f"{code}: {error.response.get('Error', {}).get('Message', '')} (HTTP {status})"
        if code in _TEMPORARY_CODES or status in {408, 429} or (status >= 500 and status != 501):
            return TemporaryError(attempted, on, found)
        return PermanentError(attempted, on, found, _NEXT_STEPS.get(code, ""))
    found = f"{type(error).__name__}: {error}"
    if isinstance(error, SSLError):
        return PermanentError(attempted, on, found, "Check store.endpoint_url and the CA certificates of this machine")
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return TemporaryError(attempted, on, _no_answer(error), _NO_ANSWER_STEP)
    if isinstance(error, CredentialRetrievalError):
        return TemporaryError(attempted, on, found)
    return PermanentError(attempted, on, found, "Check the [store] section and its credentials: nightshift check")


def _no_answer(error: BotoCoreError) -> str:
    """Given botocore's error of a connection, return which address did not answer, and why as far as it is known; no request's path or query."""
    told: dict[str, Any] = getattr(error, "kwargs", {})
    address = urlsplit(str(told.get("endpoint_url") or told.get("proxy_url") or ""))
    where = (
        f"{address.scheme}://{address.hostname}{f':{address.port}' if address.port else ''}"
        if address.hostname
        else "S3"
    )
    reason = _REASON.search(str(told.get("error", "")))
    return f"{where} did not answer ({reason[1].strip() if reason else type(error).__name__})"


@contextmanager
def s3_errors(attempted: str, on: str) -> Iterator[None]:
    """A context in which botocore's errors become ours (see s3_error)."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise s3_error(error, attempted, on) from error
