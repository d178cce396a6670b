"""The table [release.traffic]: how a blue-green release shifts traffic."""

from typing import Literal

from pydantic import Field

from core.section import Section


class Traffic(Section):
    """How a blue-green release shifts traffic."""

    kind: Literal["none", "service", "httproute", "alb"] = Field(
        "none",
        description="none: rolling only. service: the Service's selector, 0 or 100 %. httproute: weights of a Gateway API route. alb: weights of an ALB ingress.",
    )
