"""What retention costs over very many backups: requests, memory and time.

    .venv/bin/python -m benchmarks.retention --backups 100000

Each measurement is a process of its own that has loaded all that a flow's process loads. A few backups are real and lie in an S3 stand-in (moto); the
others are made up: boto3's LIST and DELETE requests of the database's folder are answered in the process, so that boto3 parses and writes what it would.
"""

import io
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlsplit

import boto3
import typer
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from urllib3 import HTTPResponse

import flows.nightly_backup  # noqa: F401  the memory of a flow's process is the question
from benchmarks.measuring import Ratio, finish, timed
from core.keys import DECODED, MANIFEST, database_folder
from tasks.object_store import ObjectStore
from tasks.prune import apply_retention
from tests.fix_keeping import DATA, KEY, Keeping, id_of
from tests.fix_object_store import environment_for

BUCKET = "nightshift-benchmark"
SUFFIXES = (DATA, "globals/00000.zst", MANIFEST, DECODED)
REAL_BACKUPS = 30
PAGE = 1000
# What the plan reads besides: the owner, the newest manifests with their states, the bucket's clock and its uploads. It depends on the policy only.
OTHER_REQUESTS = 100
YEARS_DAYS = 3650


class MadeUpListing:
    """Answers LIST and DELETE for the many made-up backups, all too old to be kept; everything else goes to the server. Counts requests."""

    def __init__(self, folder: str, backups: int, store: ObjectStore) -> None:
        self.folder, self.backups, self.store = folder, backups, store
        self.requests: Counter[str] = Counter()
        self.deleted = 0
        self.now = datetime.now(UTC)
        self.waiting = self.keys()
        store.client.meta.events.register("before-send.s3", self.answer)

    def keys(self) -> Iterator[str]:
        """All keys of the folder in order: the made-up backups are older than the real ones."""
        for number in range(self.backups):
            backup_id = id_of(YEARS_DAYS - number * (YEARS_DAYS - 40) / self.backups, number, self.now)
            yield from (f"{self.folder}{backup_id}/{suffix}" for suffix in sorted(SUFFIXES))
        yield from self.real_keys

    def prepare(self) -> None:
        """List what is really there, before the counting begins."""
        self.real_keys = [item.key for item in self.store.list(self.folder)]
        self.waiting = self.keys()
        self.requests.clear()

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        """The made-up answer, or None: the server is asked."""
        url = urlsplit(request.url)
        query = parse_qs(url.query, keep_blank_values=True)
        self.requests[
            f"{request.method} {'list' if 'list-type' in query else 'delete' if 'delete' in query else ''}".strip()
        ] += 1
        if not hasattr(self, "real_keys"):
            return None
        if query.get("prefix") == [self.folder] and "list-type" in query:
            return _response(request.url, self.page())
        if "delete" in query:
            self.deleted += _body(request).count(b"<Object>")
            return _response(request.url, b"<DeleteResult/>")
        return None

    def page(self) -> bytes:
        """The next 1,000 keys."""
        keys = list(islice(self.waiting, PAGE))
        more = len(keys) == PAGE
        time_of = self.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        contents = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>{time_of}</LastModified><ETag>&quot;0&quot;</ETag><Size>4</Size></Contents>"
            for key in keys
        )
        token = f"<NextContinuationToken>{keys[-1]}</NextContinuationToken>" if more else ""
        return (
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{str(more).lower()}</IsTruncated>{token}'
            f"<EncodingType>url</EncodingType>{contents}</ListBucketResult>"
        ).encode()


def _body(request: AWSPreparedRequest) -> bytes:
    body: Any = request.body
    return body if isinstance(body, bytes) else body.read()


def _response(url: str, body: bytes) -> AWSResponse:
    raw: Any = HTTPResponse(body=io.BytesIO(body), status=200, preload_content=False)
    return AWSResponse(url, 200, {"content-length": str(len(body))}, raw)


def measure_one(endpoint: str, backups: int) -> None:
    """In a process of its own: prune so many made-up backups; print the figures as JSON."""
    environment = environment_for(BUCKET, endpoint)
    keeping = Keeping(ObjectStore.open(environment), environment)
    listing = MadeUpListing(database_folder(environment.prefix, "app"), backups, keeping.store)
    listing.prepare()
    before = peak_bytes()
    started = time.monotonic()
    outcome = apply_retention(
        keeping.store, environment, "app", (KEY,), datetime.now(UTC), dry_run=False, current_backup_id=None
    )
    seconds = time.monotonic() - started
    peak = peak_bytes()
    if len(outcome.deleted) != backups or listing.deleted != backups * len(SUFFIXES):
        sys.exit(f"{len(outcome.deleted)} of {backups} backups deleted, {listing.deleted} objects: {outcome.findings}")
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak, "requests": listing.requests.total()}))


def peak_bytes() -> int:
    """This process's peak memory so far. Not getrusage's: that of a spawned process begins with its parent's."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def in_child(endpoint: str, backups: int) -> dict[str, Any]:
    """Measure in a fresh process."""
    with tempfile.NamedTemporaryFile() as answer:
        timed(
            [sys.executable, "-m", "benchmarks.retention", "--one", endpoint, "--backups", str(backups)],
            stdout=answer.name,
        )
        figures: dict[str, Any] = json.loads(Path(answer.name).read_text())
        return figures


def main(
    backups: Annotated[int, typer.Option(help="Backups to plan over and delete.", min=1000)] = 100_000,
    one: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the retention."""
    if one:
        measure_one(one, backups)
        return
    os.environ |= dict.fromkeys(("NIGHTSHIFT_TEST_S3_KEY", "NIGHTSHIFT_TEST_S3_SECRET"), "benchmark")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    environment = environment_for(BUCKET, endpoint)
    keeping = Keeping(ObjectStore.open(environment), environment)
    boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    ).create_bucket(Bucket=BUCKET)
    keeping.claim()
    for day in range(REAL_BACKUPS):
        keeping.add(id_of(day, day, datetime.now(UTC) - timedelta(hours=1)))
    small, large = in_child(endpoint, backups // 10), in_child(endpoint, backups)
    server.stop()
    objects = backups * len(SUFFIXES)
    listed = math.ceil((objects + REAL_BACKUPS * len(SUFFIXES) + 1) / PAGE)
    deleted = math.ceil(backups / PAGE) + math.ceil((objects - backups) / PAGE)
    grown = (large["peak"] - small["peak"]) / (backups - backups // 10)
    ratios = [
        Ratio("requests beyond N/1000 + D/1000", large["requests"] - listed - deleted, OTHER_REQUESTS),
        Ratio("memory for each backup listed", grown, 450, unit="bytes"),
        Ratio("peak memory of the process", large["peak"] / 2**20, 384, unit="MiB"),
    ]
    context = {
        "backups": f"{backups} deleted ({objects} objects), {REAL_BACKUPS} kept",
        "requests": f"{large['requests']} ({listed} to list, {deleted} to delete)",
        "time": f"{large['seconds']:.1f} s; a tenth of it {small['seconds']:.1f} s",
        "memory": f"{large['before'] / 2**20:.0f} MiB before, {large['peak'] / 2**20:.0f} MiB at the peak, {small['peak'] / 2**20:.0f} with a tenth of the backups",
    }
    finish("retention", ratios, context)


if __name__ == "__main__":
    typer.run(main)
