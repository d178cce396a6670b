"""The table [watch.alerts]: the alerts of a watch, from Alertmanager."""

import re

from pydantic import Field, field_validator, model_validator

from core.section import Address, OptionalSecret, OptionalText, Section

# As Alertmanager reads a filter (pkg/labels, ParseMatcher): NAME=VALUE, != =~ !~. Quoted here always: newer versions take nothing else for some characters.
_MATCHER = re.compile(r'[a-zA-Z_]\w*\s*(=~|!~|!=|=)\s*"(\\.|[^"\\])*"')


class WatchAlerts(Section):
    """Alerts that fire since a release, as Alertmanager has them. They advise; they decide nothing."""

    url: Address = Field(description="Address of Alertmanager, e.g. http://alertmanager.monitoring:9093.")
    token: OptionalSecret = Field(None, description="Secret reference: a bearer token.")
    username: OptionalSecret = Field(None, description="Secret reference: user of a basic sign-in.")
    password: OptionalSecret = Field(None, description="Secret reference; goes with username.")
    ca_file: OptionalText = Field(None, description="Path of the CA file for an https address. Empty: the system's.")
    matchers: tuple[str, ...] = Field(
        (),
        max_length=20,
        description="Which alerts are the platform's, e.g. ['namespace=\"production\"', 'alertname!=\"Watchdog\"']; all must hold. Empty: all that Alertmanager has.",
    )
    heartbeat: OptionalText = Field(
        None,
        pattern=r"^[^\"\\]{1,200}$",
        description="Name of an alert that always fires, such as kube-prometheus' Watchdog: while it is missing, alerts do not reach Alertmanager. Empty: not asked.",
    )

    @field_validator("matchers")
    @classmethod
    def _filters(cls, matchers: tuple[str, ...]) -> tuple[str, ...]:
        for one in matchers:
            if not _MATCHER.fullmatch(one.strip()):
                raise ValueError('matchers such as namespace="production" or severity=~"critical|page"')
        return tuple(one.strip() for one in matchers)

    @model_validator(mode="after")
    def _agree(self) -> "WatchAlerts":
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.token is not None and self.username is not None:
            raise ValueError("token or username, not both")
        return self
