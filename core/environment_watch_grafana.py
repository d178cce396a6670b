"""The table [watch.grafana]: releases and watches as annotations of Grafana's dashboards."""

from typing import Annotated

from pydantic import Field, field_validator

from core.section import Address, OptionalSecret, OptionalText, Section

# Grafana keeps all tags of an annotation in 500 characters (conf/defaults.ini, [annotations] tags_length), nightshift's own among them.
Tag = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\s,\"\\]+$")]


class WatchGrafana(Section):
    """Annotations: one when a release has handed over, and one over its whole watch, with the verdict. That Grafana is away is a finding, never more."""

    url: Address = Field(description="Address of Grafana, e.g. https://grafana.example.com.")
    token: OptionalSecret = Field(
        None,
        description="Secret reference: a token of a service account that may read and create annotations (Editor).",
    )
    ca_file: OptionalText = Field(None, description="Path of the CA file for an https address. Empty: the system's.")
    dashboard_uid: OptionalText = Field(
        None,
        pattern=r"^[a-zA-Z0-9_-]{1,40}$",
        description="The dashboard that they belong to. Empty: the organization; each dashboard shows them that asks for the tags nightshift and release.",
    )
    tags: tuple[Tag, ...] = Field((), max_length=5, description="Further tags, beside nightshift's own.")

    @field_validator("tags")
    @classmethod
    def _own(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tags)) < len(tags):
            raise ValueError("each tag once")
        return tags
