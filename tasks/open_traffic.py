"""The way of shifting traffic that an environment names."""

from core.environment_release import Release
from core.errors import ConfigurationError
from core.traffic import Side
from tasks.kubernetes_client import KubernetesClient
from tasks.traffic import Traffic
from tasks.traffic_alb import AlbTraffic
from tasks.traffic_httproute import RouteTraffic
from tasks.traffic_service import ServiceTraffic


def open_traffic(client: KubernetesClient, release: Release, environment: str, live: Side, following: Side) -> Traffic:
    """Given the [release] table and the two sides, return their traffic. No request is made. Raise ConfigurationError when nothing is shifted there."""
    settings = release.traffic
    if settings.kind == "none" or settings.name is None:
        found = f'release.traffic.kind is "{settings.kind}"'
        raise ConfigurationError("shift traffic", f"environment {environment}", found, "Configure [release.traffic]")
    where = (client, release.namespace, settings.name, live, following)
    if settings.kind == "service":
        return ServiceTraffic(*where)
    if settings.kind == "httproute":
        return RouteTraffic(*where)
    return AlbTraffic(*where, action=settings.action or "", settings=settings.alb)
