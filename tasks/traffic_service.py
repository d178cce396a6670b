"""Traffic by a Service's selector: all of it to one side. Connections that stand stay with their Pod until they end (kube-proxy, conntrack)."""

from functools import cached_property

from core.fence import Document
from core.traffic import Effective, Split, service_patch, service_split
from tasks.endpoints import chosen_by, endpoint_kind, judge_service
from tasks.kubernetes_kinds import Kind, find_kind
from tasks.traffic import Traffic


class ServiceTraffic(Traffic):
    """The Service that users reach. Effective: its endpoints are the ready Pods of the side, and no other."""

    @property
    def path(self) -> str:
        """The Service's path."""
        return find_kind(self._client, "Service").path(self._namespace, self._name)

    @cached_property
    def _endpoints(self) -> Kind:
        return endpoint_kind(self._client)

    def _split_of(self, document: Document) -> Split:
        return service_split(document, self._live, self._following, on=self._on)

    def _patch_of(self, document: Document, wanted: Split) -> Document:
        return service_patch(document, self._live, self._following, wanted)

    def _judge(self, document: Document, wanted: Split) -> Effective:
        side = self._following if wanted.of(self._following.service) else self._live
        name = document["metadata"]["name"]
        judged, _ = judge_service(self._client, self._endpoints, self._namespace, name, side)
        return judged

    def _watched(self) -> tuple[str, dict[str, str]]:
        return self._endpoints.path(self._namespace), chosen_by(self._endpoints, self._name)
