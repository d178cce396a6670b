"""The table [watch]: what follows each release for a day, and what may come of it."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from core.environment_watch_alerts import WatchAlerts
from core.environment_watch_grafana import WatchGrafana
from core.environment_watch_health import WatchHealth
from core.environment_watch_logs import WatchLogs
from core.environment_watch_probes import WatchProbes
from core.section import Section

Share = Annotated[float, Field(gt=0, lt=1)]
OptionalShare = Annotated[Share | None, BeforeValidator(lambda value: None if value == "" else value)]


class Incident(Section):
    """A time that is no guide to how a day ought to be: [[watch.incidents]]. Releases of nightshift's own are cut out by themselves."""

    begin: AwareDatetime = Field(description="Its beginning, with its offset: 2026-11-05T10:00:00Z.")
    end: AwareDatetime = Field(description="Its end, with its offset.")
    why: str = Field("an incident", min_length=1, max_length=200, description="What it was; stands in the report.")

    @model_validator(mode="after")
    def _in_order(self) -> "Incident":
        if self.end <= self.begin:
            raise ValueError("its end is not after its beginning")
        return self


class Watch(Section):
    """The 24 hours after a release: [watch]. Requests are those of [release.gates]; without prometheus_url there nothing is counted, and no verdict is healthy."""

    policy: Literal["alert", "roll-back"] = Field(
        "alert",
        description="alert: a release that is worse is told. roll-back: once, it is also taken back, by a run of rollback.",
    )
    roll_back_hours: int = Field(
        22,
        ge=1,
        le=24,
        description="roll-back: so long after the release it may be taken back; later it is advised to go forward with a mend.",
    )
    scrape_seconds: int = Field(
        30,
        ge=1,
        le=120,
        description="Prometheus' scrape interval: five minutes are judged two of them, and ten seconds, after their end.",
    )
    objective: OptionalShare = Field(
        None,
        description="Share of requests that must not fail, e.g. 0.999: burn rates of 14.4 and 6 are then told too. Empty: releases are only compared.",
    )
    coverage: Share = Field(
        0.9,
        description="healthy: so large a share of the day must have been seen, of its Pods scraped, and of the looks from outside well.",
    )
    factor: float = Field(
        3.0,
        gt=1.5,
        le=100,
        description="healthy: so many times as many bad requests would have been found, in each metric; where hardly one is expected,"
        " a share of release.gates.ratio_ignored.",
    )
    blind_minutes: int = Field(
        30,
        ge=5,
        le=720,
        description="Metrics that nobody could read, or a public address without an answer, for so long are told.",
    )
    backfill_hours: int = Field(
        6,
        ge=0,
        le=72,
        description="After the day, so long is waited for a Prometheus that is away, before the verdict is blind.",
    )
    sign_off: bool = Field(
        True, description="After the day, ask a person to sign it off; the old colour is kept until then."
    )
    sign_off_days: int = Field(
        3, ge=1, le=30, description="A sign-off that is open for so long is reminded of, each time again."
    )
    incidents: tuple[Incident, ...] = Field(
        (), description="Times to cut out of the days to compare with: [[watch.incidents]]."
    )
    logs: WatchLogs = Field(default_factory=WatchLogs, description="Errors in the logs that were not there before.")
    alerts: WatchAlerts | None = Field(None, description="Alerts that fire since the release. Empty: not asked.")
    health: WatchHealth = Field(default_factory=WatchHealth, description="How PostgreSQL and Redis are.")
    probes: WatchProbes = Field(default_factory=WatchProbes, description="The public address, asked from outside.")
    grafana: WatchGrafana | None = Field(None, description="Annotations in Grafana. Empty: none are made.")
