"""The stand-in for S3: a moto server on 127.0.0.1 with one bucket. It keeps what is written until it stops, and believes any signature."""

import os
import secrets
import sys
from collections.abc import Mapping
from types import MappingProxyType

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.errors import PermanentError
from core.redaction import register_secret
from deployments.local.data_folder import DataFolder
from deployments.local.ports import HOST, answers, free_port
from deployments.local.service import Service

_REGION = "us-east-1"


class ObjectStoreServer:
    """The server, its bucket and the keys to it."""

    def __init__(
        self, folder: DataFolder, bucket: str, *more: str, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Given the platform's claimed folder, the bucket's name, those of further buckets and further variables of its process, get ready to start."""
        self.bucket, self._buckets = bucket, (bucket, *more)
        self.port = free_port()
        self.endpoint_url = f"http://{HOST}:{self.port}"
        self.key_id = "nightshift" + secrets.token_hex(5)
        self.secret_key = secrets.token_urlsafe(24)
        register_secret(self.secret_key)
        # Settings of AWS that are meant for the real one do not reach it; large objects go to files in the platform's folder.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.service = Service(
            name="the S3 stand-in",
            argv=[sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)],
            environment={**environment, "TMPDIR": str(folder.store), **variables},
            log=folder.logs / "s3.log",
            folder=folder.store,
        )

    def start(self) -> None:
        """Start the server; `make_buckets` is to follow."""
        self.service.start()

    def make_buckets(self) -> None:
        """Wait until the server answers, and make the buckets. Raise PermanentError when it does not come about."""
        self.service.wait_until(lambda: answers(self.port), timeout_seconds=60)
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=_REGION,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret_key,
            # A proxy of the user's is for addresses other than this machine's.
            config=Config(proxies={}, connect_timeout=5, read_timeout=20, retries={"mode": "standard"}),
        )
        try:
            for bucket in self._buckets:
                client.create_bucket(Bucket=bucket)
        except (BotoCoreError, ClientError) as error:
            raise PermanentError(
                "make the buckets", f"{', '.join(self._buckets)} at {self.endpoint_url}", str(error)
            ) from error
        finally:
            client.close()
