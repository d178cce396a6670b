"""The table [watch.logs]: what a watch looks for in the logs of the new version."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from core.log_lines import DEFAULT_PATTERN
from core.section import OptionalSecret, OptionalText, Section, plain_address

FieldName = Annotated[str, Field(pattern=r"^[\w@.-]{1,200}$")]
LEVEL = "{level}"


class WatchLogs(Section):
    """Errors in the logs that were not there before: [watch.logs]. They advise only: no release is taken back for them."""

    kind: Literal["off", "pods", "elasticsearch"] = Field(
        "off",
        description="pods: the Pods' own logs, by the Kubernetes API. elasticsearch: where they are shipped to (Elasticsearch, OpenSearch). off: not looked at.",
    )
    pattern: str = Field(
        DEFAULT_PATTERN,
        min_length=1,
        max_length=1000,
        description="Regular expression of a line that tells an error. A JSON line is judged by its level instead, where it has one.",
    )
    hits: int = Field(5, ge=1, le=10_000, description="An error that is new is told once it came so many times …")
    pods: int = Field(2, ge=1, le=5, description="… on so many Pods. Where there is only one Pod, that is enough.")
    days: int = Field(
        7,
        ge=1,
        le=28,
        description="So many days before the release are compared with. With fewer than 7 a new error is a note, not a warning.",
    )
    read_pods: int = Field(
        5, ge=1, le=50, description="pods: of so many Pods the logs are read each time, by turns of all."
    )
    read_kib: int = Field(
        512, ge=16, le=8192, description="pods: of each Pod so many KiB at most, the earliest of the time looked at."
    )
    lines: int = Field(
        2000,
        ge=100,
        le=10_000,
        description="So many error lines are looked at each time at most; further ones are counted only.",
    )
    seconds: float = Field(1.5, ge=0.2, le=30, description="How long one look may take.")
    training_seconds: int = Field(
        60, ge=5, le=600, description="How long reading the days before may take, once a watch."
    )
    settle_seconds: int = Field(
        60,
        ge=0,
        le=900,
        description="Five minutes are looked at so long after their end: until their lines have come in.",
    )
    address: OptionalText = Field(
        None, description="elasticsearch: its address, e.g. https://elasticsearch.logging:9200."
    )
    index: str = Field(
        "logs-*",
        pattern=r"^[^\s/?#\\\"<>|]{1,200}$",
        description="elasticsearch: index, alias or data stream; * and several with commas are allowed.",
    )
    api_key: OptionalSecret = Field(None, description="Secret reference: an API key, in its encoded form.")
    username: OptionalSecret = Field(None, description="Secret reference: user of a basic sign-in.")
    password: OptionalSecret = Field(None, description="Secret reference; goes with username.")
    ca_file: OptionalText = Field(None, description="Path of the CA file for an https address. Empty: the system's.")
    query: OptionalText = Field(
        None,
        description='elasticsearch: which lines at all, as a query string, e.g. kubernetes.namespace:"production". Empty: all of the Pods\'.',
    )
    errors: str = Field(
        f"{LEVEL}:(error OR ERROR OR Error OR fatal OR FATAL OR Fatal OR critical OR CRITICAL OR Critical OR 50 OR 60)",
        min_length=1,
        max_length=2000,
        description="elasticsearch: which of them tell an error, as a query string; {level} becomes the name of level_field.",
    )
    timestamp_field: FieldName = Field("@timestamp", description="elasticsearch: field of a line's time.")
    message_field: FieldName = Field("message", description="elasticsearch: field of a line's text.")
    level_field: FieldName = Field("log.level", description="elasticsearch: field of a line's level.")
    pod_field: FieldName = Field(
        "kubernetes.pod.name",
        description="elasticsearch: field of the Pod's name, not analysed (often with .keyword at its end).",
    )

    @field_validator("address")
    @classmethod
    def _plain_address(cls, address: str | None) -> str | None:
        return None if address is None else plain_address(address, "a sign-in goes into api_key or username")

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"a regular expression: {error}") from None
        if compiled.search(""):
            raise ValueError("a pattern of errors: not of the empty line")
        return pattern

    @model_validator(mode="after")
    def _agree(self) -> "WatchLogs":
        if self.kind == "elasticsearch" and self.address is None:
            raise ValueError("kind = 'elasticsearch' needs address")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.api_key is not None and self.username is not None:
            raise ValueError("api_key or username, not both")
        return self

    @property
    def errors_query(self) -> str:
        """The query string of errors, with the level's field in it."""
        return self.errors.replace(LEVEL, self.level_field.replace("-", r"\-"))
