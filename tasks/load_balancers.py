"""Reading AWS load balancers (elbv2): their listeners' rules, target groups by tag, and targets' health. Nothing is written here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's own

from core.environment_traffic import LoadBalancer
from core.errors import PermanentError, TemporaryError
from core.fence import Document
from core.load_balancer import RESOURCE_TAG

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 10, 30, 5
# DescribeTags takes at most so many (elbv2 API).
_TAGS_AT_ONCE = 20
_TEMPORARY = frozenset(
    {"Throttling", "ThrottlingException", "RequestLimitExceeded", "ExpiredToken", "ServiceUnavailable"}
)
_ALLOW = "Allow the worker's role elasticloadbalancing:Describe*, see docs/release.md"


class LoadBalancers:
    """The load balancers of an account and region."""

    def __init__(self, settings: LoadBalancer) -> None:
        self._settings = settings
        self._on = f"load balancers of {settings.region or 'the own region'}"
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            user_agent_extra="nightshift",
        )
        with self._errors("make a client"):
            client: Any = boto3.Session(region_name=settings.region).client(
                "elbv2", config=config, endpoint_url=settings.endpoint_url
            )
        self._client = client

    def find(self, host_names: tuple[str, ...]) -> str | None:
        """The ARN of the load balancer that the settings name, else of the one with such a host name; None when there is none (yet)."""
        named = self._settings.load_balancer
        with self._errors("find the load balancer"):
            if named and named.startswith("arn:"):
                return named
            wanted = {name.lower() for name in host_names}
            for one in self._pages("describe_load_balancers", "LoadBalancers"):
                if one["LoadBalancerName"] == named or (not named and str(one.get("DNSName", "")).lower() in wanted):
                    return str(one["LoadBalancerArn"])
        return None

    def groups_by_tag(self, arn: str, tags: Mapping[str, str]) -> dict[str, Document]:
        """Given a load balancer and the resource tag of each Service, return each one's target group as far as it has one."""
        with self._errors("read the target groups"):
            groups = {one["TargetGroupArn"]: one for one in self._groups(arn)}
            arns = list(groups)
            tagged: dict[str, str] = {}
            for begin in range(0, len(arns), _TAGS_AT_ONCE):
                described = self._client.describe_tags(ResourceArns=arns[begin : begin + _TAGS_AT_ONCE])
                for one in described["TagDescriptions"]:
                    tagged |= {tag["Value"]: one["ResourceArn"] for tag in one["Tags"] if tag["Key"] == RESOURCE_TAG}
        return {service: groups[tagged[tag]] for service, tag in tags.items() if tag in tagged}

    def rules(self, arn: str) -> list[Document]:
        """All rules of all listeners of a load balancer, the default ones too."""
        with self._errors("read the rules"):
            listeners = [
                one["ListenerArn"] for one in self._pages("describe_listeners", "Listeners", LoadBalancerArn=arn)
            ]
            return [rule for one in listeners for rule in self._pages("describe_rules", "Rules", ListenerArn=one)]

    def targets(self, group_arn: str) -> list[Document]:
        """The targets of a group and their health."""
        with self._errors("read the targets' health"):
            described: list[Document] = self._client.describe_target_health(TargetGroupArn=group_arn)[
                "TargetHealthDescriptions"
            ]
            return described

    def _groups(self, arn: str) -> list[Document]:
        try:
            return list(self._pages("describe_target_groups", "TargetGroups", LoadBalancerArn=arn))
        except self._client.exceptions.TargetGroupNotFoundException:
            # None yet: then nothing is effective, and why is told by its rules.
            return []

    def _pages(self, operation: str, listed: str, **arguments: str) -> Iterator[Document]:
        for page in self._client.get_paginator(operation).paginate(**arguments):
            yield from page[listed]

    @contextmanager
    def _errors(self, attempted: str) -> Iterator[None]:
        """A context in which botocore's errors become ours."""
        try:
            yield
        except ClientError as error:
            told = error.response.get("Error", {})
            code, status = (
                str(told.get("Code", "")),
                int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
            )
            found = f"{code}: {told.get('Message', '')} (HTTP {status})"
            if code in _TEMPORARY or status == 429 or status >= 500:
                raise TemporaryError(attempted, self._on, found) from error
            raise PermanentError(attempted, self._on, found, _ALLOW if status == 403 else "") from error
        except BotoCoreError as error:
            found = f"{type(error).__name__}: {error}"
            if isinstance(error, (ConnectionError, HTTPClientError)):
                raise TemporaryError(attempted, self._on, found) from error
            raise PermanentError(
                attempted, self._on, found, "Check release.traffic.alb and the worker's AWS credentials"
            ) from error
