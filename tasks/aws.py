"""Clients of AWS' APIs other than S3, by the worker's own role, and what botocore's errors mean for us."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own; the built-in is not used here
    CredentialRetrievalError,
    HTTPClientError,
)

from core.errors import NightshiftError, PermanentError, TemporaryError

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="nightshift",
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "WAFInvalidPermissionPolicyException"})  # fmt: skip
_TEMPORARY = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "ServerException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


def aws_client(service: str, region: str | None) -> Any:
    """Given a service's name and a region (None: the worker's own), return its client by boto3's default chain. No request is made.

    Raise PermanentError when the region or the service is not known.
    """
    with aws_errors(f"make a client of {service}", region or "the worker's own region", ""):
        # A session of its own: boto3's default session is not safe to share between threads.
        make: Any = boto3.Session().client
        return make(service, region_name=region, config=_CONFIG)


@contextmanager
def aws_errors(
    attempted: str, on: str, right: str, *, missing: Mapping[str, NightshiftError] | None = None
) -> Iterator[None]:
    """A context in which botocore's errors become ours. `right` is the IAM action that is needed; `missing` says by code what else may be meant."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if missing and code in missing:
            raise missing[code] from error
        raise _of_client_error(error, code, attempted, on, right) from error
    except CredentialRetrievalError as error:
        raise TemporaryError(attempted, on, str(error)) from error
    except (ConnectionError, HTTPClientError) as error:
        raise TemporaryError(attempted, on, f"no answer: {error}", "Check that the worker reaches AWS") from error
    except BotoCoreError as error:
        raise PermanentError(attempted, on, str(error), "Give the worker AWS credentials and a region") from error


def _of_client_error(error: ClientError, code: str, attempted: str, on: str, right: str) -> NightshiftError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    found = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
    if code in _TEMPORARY or status == 429 or status >= 500:
        return TemporaryError(attempted, on, found)
    if code in _DENIED or status == 403:
        return PermanentError(attempted, on, found, f"Allow {right} to the worker's role")
    return PermanentError(attempted, on, found, "Look at the name, the region and the account")
