"""The table [watch.probes]: what is asked from outside, as a user would."""

import re
from typing import Annotated

from pydantic import Field, field_validator

from core.section import OptionalText, Section, plain_address

MOST_PATHS = 6
_PATH = re.compile(r"/[^\s?#]{0,100}")


class WatchProbes(Section):
    """Pages of the public address, read in each tick of a watch: what Pods say of themselves tells nothing of balancer, certificate and name. They send nothing back."""

    url: OptionalText = Field(
        None, description="Public address, e.g. https://api.example.com. Empty: nothing is asked from outside."
    )
    paths: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_PATHS)] = Field(
        ("/health", "/ready"), description="Read each of these there, by GET."
    )
    expected_status: int = Field(200, ge=100, le=599, description="What each must answer.")
    timeout_seconds: int = Field(2, ge=1, le=10, description="How long each may take to, in seconds.")
    ca_file: OptionalText = Field(
        None, description="Path of the CA file for an https address. Empty: the well-known ones."
    )

    @field_validator("url")
    @classmethod
    def _plain_address(cls, address: str | None) -> str | None:
        return None if address is None else plain_address(address)

    @field_validator("paths")
    @classmethod
    def _plain_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not _PATH.fullmatch(path):
                raise ValueError(f"{path!r}: a path begins with / and holds no blanks, query or fragment")
        if len(set(paths)) < len(paths):
            raise ValueError("each path once")
        return paths
