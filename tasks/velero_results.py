"""The errors of a Backup or Restore, fetched from Velero's bucket as its own command does: by a DownloadRequest, whose answer is an address that is valid for minutes."""

import base64
import logging
import secrets
import ssl
import time
from collections.abc import Callable

import httpx
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.environment_restore import AppState
from core.errors import NightshiftError
from core.fence import Document
from core.redaction import redact, register_secret
from core.velero import VeleroRun
from core.velero_results import LONGEST_RESULTS_BYTES, VeleroErrors, download_request, download_url, read_errors
from tasks.kubernetes_answers import ForbiddenError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.velero import collection

logger = logging.getLogger(__name__)

# Velero's own command waits as long (pkg/cmd/util/output, downloadRequestTimeout).
ANSWER_SECONDS = 30.0
_FETCH_SECONDS = 30.0
_POLL = wait_fixed(0.25)
_REQUESTS = "downloadrequests"


def fetch_errors(
    client: KubernetesClient,
    settings: AppState,
    environment: str,
    run: VeleroRun,
    run_id: str,
    *,
    answer_seconds: float = ANSWER_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> VeleroErrors:
    """Given a Backup or Restore that ended with errors, return the first of them. Never raises an error of ours: why they could not be had is in the answer."""
    document = download_request(environment, settings, run, run_id, secrets.token_hex(4))
    try:
        return _fetch(client, settings, document, answer_seconds, sleep)
    except (NightshiftError, RetryError, httpx.HTTPError, OSError, ValueError) as error:
        return VeleroErrors(why_not=redact(_why(error, answer_seconds)))


def _why(error: Exception, answer_seconds: float) -> str:
    match error:
        case ForbiddenError():
            return f"{error.found}; the role in docs/app-state.md has the right"
        case MissingError():
            return f"this cluster's Velero has no DownloadRequest ({error.found})"
        case NightshiftError():
            return error.found
        case RetryError():
            return f"Velero did not answer within {answer_seconds:.0f} s: does its Pod run, is its bucket Available?"
        case ValueError():
            return f"Velero's results file is not readable: {error}"
    told = f"{type(error).__name__}: {error}".removesuffix(": ")
    return (
        f"the worker cannot read Velero's bucket ({told}): does it reach the address that the storage location gives?"
    )


def _fetch(
    client: KubernetesClient,
    settings: AppState,
    document: Document,
    answer_seconds: float,
    sleep: Callable[[float], None],
) -> VeleroErrors:
    path = collection(settings, _REQUESTS, document["metadata"]["name"])
    made = client.create(collection(settings, _REQUESTS), document)
    try:
        waiting = Retrying(
            retry=retry_if_result(lambda url: not url), stop=stop_after_delay(answer_seconds), wait=_POLL, sleep=sleep
        )
        url = waiting(lambda: download_url(client.get(path)))
        return read_errors(_download(url, _trust(client, settings)))
    finally:
        _remove(client, path, made["metadata"]["uid"])


def _download(url: str, tls: ssl.SSLContext) -> bytes:
    """The file at an address that is a secret for as long as it is valid. It lies in the bucket as gzip, and is taken as it lies."""
    asked = httpx.URL(url)
    for secret in (url, str(asked), asked.query.decode("ascii", errors="replace")):
        register_secret(secret)
    with (
        httpx.Client(verify=tls, timeout=_FETCH_SECONDS, follow_redirects=False) as http,
        http.stream("GET", asked) as response,
    ):
        if not response.is_success:
            raise ValueError(f"the bucket answers {response.status_code}")
        stored = bytearray()
        for block in response.iter_raw():
            stored += block
            if len(stored) > LONGEST_RESULTS_BYTES:
                raise ValueError(f"it is larger than {LONGEST_RESULTS_BYTES} bytes")
    return bytes(stored)


def _trust(client: KubernetesClient, settings: AppState) -> ssl.SSLContext:
    """The machine's authorities, and the one that the storage location names for its bucket."""
    tls = ssl.create_default_context()
    location = client.get(collection(settings, "backupstoragelocations", settings.storage_location))
    authority = ((location.get("spec") or {}).get("objectStorage") or {}).get("caCert")
    if authority:
        tls.load_verify_locations(cadata=base64.b64decode(authority).decode())
    return tls


def _remove(client: KubernetesClient, path: str, uid: str) -> None:
    """Remove the request. Velero removes it itself some minutes later, so that it is no more than untidy when that fails."""
    try:
        client.delete(path, uid=uid)
    except NightshiftError as error:
        logger.info("could not remove a DownloadRequest: %s", error)
