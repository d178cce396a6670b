"""The table [release.traffic]: how a blue-green release shifts traffic."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.section import OptionalText, Section

# Names of Services, routes and Ingresses: an RFC 1123 subdomain.
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
DEFAULT_STEPS = (10, 25, 50, 100)


class LoadBalancer(Section):
    """The ALB that is asked whether weights and targets are as wanted: [release.traffic.alb]."""

    region: OptionalText = Field(None, description="Its region. Empty: the worker's own.")
    load_balancer: OptionalText = Field(
        None, description="Its ARN or name. Empty: found by the host name in the Ingress's status."
    )
    unhealthy_percent: int = Field(
        10,
        ge=0,
        le=50,
        description="How many of a side's targets, in percent, may be unhealthy or not yet healthy while it gets traffic.",
    )
    endpoint_url: OptionalText = Field(
        None, description="Address of the load balancers' API instead of the region's, e.g. of a VPC endpoint."
    )


class Traffic(Section):
    """How a blue-green release shifts traffic."""

    kind: Literal["none", "service", "httproute", "alb"] = Field(
        "none",
        description="none: rolling only. service: the Service's selector, 0 or 100 %. httproute: weights of a Gateway API route. alb: weights of an ALB ingress.",
    )
    name: ObjectName | None = Field(
        None,
        description="Name of what is written: the Service that users reach (service), the HTTPRoute, or the Ingress (alb).",
    )
    service: ObjectName | None = Field(
        None,
        description="httproute, alb: the workload's Service before it was adopted; its copies are named after the colours. Empty: it is called as the workload.",
    )
    action: OptionalText = Field(
        None,
        description="alb: the action of the Ingress, as in alb.ingress.kubernetes.io/actions.NAME and in its rules' backends.",
    )
    steps: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (),
        description="Shares of the new version in percent, rising, the last one 100. Empty: 10, 25, 50, 100; for a Service's selector, which knows no other, 100.",
    )
    soak_seconds: int = Field(
        120,
        ge=0,
        le=86400,
        description="How long each step serves before its gates are read; it should be at least as long as their windows.",
    )
    effective_seconds: int = Field(
        120,
        ge=5,
        le=1800,
        description="How long the balancer may take until it does what was written. Later: no further step, and back to the old version.",
    )
    alb: LoadBalancer = Field(default_factory=LoadBalancer, description="alb: the load balancer that is asked.")

    @model_validator(mode="after")
    def _agrees(self) -> "Traffic":
        if self.kind != "none" and not self.name:
            raise ValueError(f'release.traffic.kind = "{self.kind}" needs release.traffic.name')
        if (self.kind == "alb") != (self.action is not None):
            raise ValueError('release.traffic.action goes with release.traffic.kind = "alb", and is needed there')
        if self.steps and (self.steps[-1] != 100 or any(later <= earlier for earlier, later in pairwise(self.steps))):
            raise ValueError("release.traffic.steps must rise, and end with 100")
        if self.kind == "service" and self.steps not in {(), (100,)}:
            raise ValueError("release.traffic.steps: a Service's selector knows only 100; leave it out")
        return self

    @property
    def shares(self) -> tuple[int, ...]:
        """The steps that a shift takes, in percent of the new version."""
        return self.steps or ((100,) if self.kind == "service" else DEFAULT_STEPS)
