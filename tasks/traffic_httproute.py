"""Traffic by the weights of a Gateway API HTTPRoute."""

from functools import cached_property

from core.fence import Document
from core.traffic import Effective, Split, worst
from core.traffic_httproute import judge_route, route_patch, route_split
from tasks.endpoints import endpoint_kind, judge_service
from tasks.kubernetes_kinds import Kind, find_kind
from tasks.traffic import Traffic


class RouteTraffic(Traffic):
    """The HTTPRoute. Effective: every gateway has taken it as it is now, and the Service of each side that gets traffic leads to its ready Pods."""

    @cached_property
    def _route(self) -> Kind:
        return find_kind(self._client, "HTTPRoute")

    @cached_property
    def _endpoints(self) -> Kind:
        return endpoint_kind(self._client)

    @property
    def path(self) -> str:
        """The route's path."""
        return self._route.path(self._namespace, self._name)

    def _split_of(self, document: Document) -> Split:
        return route_split(document, self._live, self._following, on=self._on)

    def _patch_of(self, document: Document, wanted: Split) -> Document:
        return route_patch(document, self._live, self._following, wanted)

    def _judge(self, document: Document, wanted: Split) -> Effective:
        served = [
            judge_service(self._client, self._endpoints, self._namespace, side.service, side)[0]
            for side in (self._live, self._following)
            if wanted.of(side.service)
        ]
        return worst(judge_route(document), *served)

    def _watched(self) -> tuple[str, dict[str, str]]:
        return self._route.path(self._namespace), {"fieldSelector": f"metadata.name={self._name}"}
