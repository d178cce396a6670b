"""The table [release.gates]: what must hold at each step of a shift."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from core.section import EMPTY_IS_NONE, OptionalSecret, OptionalText, Section, plain_address

PODS = "{pods}"
# Health probes and scrapes answer 200 whatever the users see: counted, they would thin out the errors and stand in for the sample.
_USERS_ONLY = 'route!~"/health|/ready|/metrics"'
# An instant vector selector, as the grammar of PromQL has it (prometheus.io, "Querying basics"): NAME{label="value",…}. No function, no range.
_MATCHER = r'\s*[a-zA-Z_]\w*\s*(=~|!~|!=|=)\s*"(\\.|[^"\\])*"\s*'
_SELECTOR = re.compile(rf"[a-zA-Z_:][\w:]*\{{{_MATCHER}(,{_MATCHER})*,?\s*\}}")
_LABEL = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
Ratio = Annotated[float, Field(gt=0, lt=1)]
OptionalFactor = Annotated[Annotated[float, Field(ge=1, le=100)] | None, EMPTY_IS_NONE]
OptionalPort = Annotated[
    Annotated[int, Field(ge=1, le=65535)] | None, BeforeValidator(lambda value: None if value == "" else value)
]


class Gates(Section):
    """What must hold before more traffic goes to the new version, and once it has all of it. No data and few requests hold a release, they never let it pass."""

    prometheus_url: OptionalText = Field(
        None,
        description="Address of Prometheus, e.g. http://prometheus.monitoring:9090. Empty: metrics are not asked, and each report says so.",
    )
    prometheus_token: OptionalSecret = Field(None, description="Secret reference: a bearer token.")
    prometheus_username: OptionalSecret = Field(None, description="Secret reference: user of a basic sign-in.")
    prometheus_password: OptionalSecret = Field(None, description="Secret reference; goes with prometheus_username.")
    prometheus_ca_file: OptionalText = Field(
        None, description="Path of the CA file for an https address. Empty: the system's."
    )
    metrics: bool = Field(True, description="false: metrics decide nothing, and each report says so.")
    requests: str = Field(
        f'http_requests_total{{pod=~"{PODS}",{_USERS_ONLY}}}',
        description="Selector of the counters of requests; {pods} becomes a pattern of the Pods' names. Leave out what is not a user's request.",
    )
    pod_label: str = Field("pod", pattern=_LABEL, description="The label that holds the Pod's name.")
    error_label: str = Field("status", pattern=_LABEL, description="The label that tells a failed request.")
    error_values: str = Field(
        "5..", min_length=1, description="Pattern (regular expression) of its values that are errors."
    )
    error_ratio_max: Ratio = Field(0.01, description="So large a share of failed requests is allowed at most.")
    error_ratio_factor: OptionalFactor = Field(
        2.0, description="So many times the old version's share beside it is allowed. Empty: not compared."
    )
    ratio_ignored: Ratio = Field(
        0.001, description="A share of failed or slow requests up to this is well whatever the old version has."
    )
    durations: OptionalText = Field(
        f'http_request_duration_seconds_bucket{{pod=~"{PODS}",{_USERS_ONLY}}}',
        description="Selector of the histogram's buckets. Empty: latency is not looked at.",
    )
    slow_seconds: float = Field(
        1.0, gt=0, le=3600, description="A request that takes longer is slow. Must be one of the histogram's buckets."
    )
    slow_ratio_max: Ratio = Field(0.05, description="So large a share of slow requests is allowed at most.")
    slow_ratio_factor: OptionalFactor = Field(
        2.0, description="So many times the old version's share beside it is allowed. Empty: not compared."
    )
    targets: OptionalText = Field(
        f'up{{pod=~"{PODS}"}}',
        description="Selector that tells which Pods Prometheus scrapes; each must be. Empty: not asked, and a Pod that is not scraped goes unseen.",
    )
    minimum_requests: int = Field(
        100,
        ge=10,
        description="With fewer requests of the new version, or of the old one that it is compared with, it does not pass.",
    )
    window_seconds: int = Field(300, ge=60, le=3600, description="The time before each gate that is looked at.")
    fresh_seconds: int = Field(
        120, ge=15, le=600, description="Samples older than this count as none; more than twice the scrape interval."
    )
    hold_minutes: int = Field(15, ge=1, le=240, description="A release that cannot be judged for so long goes back.")
    health_path: str = Field("/health", pattern=r"^/[^\s?#]*$", description="Each Pod must answer 200 here.")
    ready_path: str = Field("/ready", pattern=r"^/[^\s?#]*$", description="Each Pod must answer 200 here, too.")
    port: OptionalPort = Field(
        None, description="Port of both. Empty: the first port that the Pod's first container declares."
    )
    scheme: Literal["http", "https"] = Field("http", description="How the Pods speak there.")
    health_seconds: int = Field(10, ge=1, le=60, description="How long a Pod may take to answer.")

    @field_validator("prometheus_url")
    @classmethod
    def _plain_address(cls, address: str | None) -> str | None:
        return (
            None
            if address is None
            else plain_address(address, "a sign-in goes into prometheus_username or prometheus_token")
        )

    @field_validator("requests", "durations", "targets")
    @classmethod
    def _selector(cls, selector: str | None) -> str | None:
        if selector is None:
            return None
        text = selector.strip()
        if PODS not in text:
            raise ValueError('a selector with {pods}, as in http_requests_total{pod=~"{pods}"}')
        if not _SELECTOR.fullmatch(text):
            raise ValueError(
                'a selector such as NAME{label=~"value"}: no function, no range, no sum; the counters themselves are read'
            )
        return text

    @field_validator("error_values")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"a regular expression: {error}") from None
        if compiled.fullmatch("") or compiled.fullmatch("200"):
            raise ValueError("a pattern of what failed: not of the empty text, nor of 200")
        return pattern

    @model_validator(mode="after")
    def _agree(self) -> "Gates":
        if (self.prometheus_username is None) != (self.prometheus_password is None):
            raise ValueError("prometheus_username and prometheus_password go together")
        if self.prometheus_token is not None and self.prometheus_username is not None:
            raise ValueError("prometheus_token or prometheus_username, not both")
        if self.fresh_seconds > self.window_seconds:
            raise ValueError("fresh_seconds is at most window_seconds")
        for name in ("error_ratio_max", "slow_ratio_max"):
            if self.ratio_ignored > getattr(self, name):
                raise ValueError(f"ratio_ignored is at most {name}")
        if self.durations is not None and "le" in re.findall(r'([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"', self.durations):
            raise ValueError("durations without a matcher of le: nightshift asks for the buckets that it needs")
        return self
