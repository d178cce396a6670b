"""Traffic by the weights of an AWS Application Load Balancer, written to the Ingress and read back from the balancer."""

from functools import cached_property

from core.environment_traffic import LoadBalancer
from core.fence import Document
from core.load_balancer import judge_rules, judge_targets
from core.traffic import Effective, Side, Split, worst
from core.traffic_alb import group_tags, host_names, ingress_patch, ingress_split
from tasks.endpoints import endpoint_kind, judge_service
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import Kind, find_kind
from tasks.load_balancers import LoadBalancers
from tasks.traffic import Traffic


class AlbTraffic(Traffic):
    """An action of an Ingress. Effective: every rule of the load balancer that forwards to a side has the weights, and each side with traffic healthy targets."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        name: str,
        live: Side,
        following: Side,
        *,
        action: str,
        settings: LoadBalancer,
    ) -> None:
        super().__init__(client, namespace, name, live, following)
        self._action, self._settings = action, settings

    @property
    def path(self) -> str:
        """The Ingress's path."""
        return find_kind(self._client, "Ingress").path(self._namespace, self._name)

    @cached_property
    def _balancers(self) -> LoadBalancers:
        return LoadBalancers(self._settings)

    @cached_property
    def _endpoints(self) -> Kind:
        return endpoint_kind(self._client)

    def _split_of(self, document: Document) -> Split:
        return ingress_split(document, self._action, self._live, self._following, on=self._on)

    def _patch_of(self, document: Document, wanted: Split) -> Document:
        return ingress_patch(document, self._action, self._live, self._following, wanted, on=self._on)

    def _judge(self, document: Document, wanted: Split) -> Effective:
        balancer = self._balancers.find(host_names(document))
        if balancer is None:
            where = self._settings.load_balancer or ", ".join(host_names(document)) or "in the Ingress's status"
            return Effective(state="pending", found=f"there is no load balancer {where} yet")
        tags = group_tags(document, self._action, self._live, self._following, on=self._on)
        groups = self._balancers.groups_by_tag(balancer, tags)
        arns = {service: str(group["TargetGroupArn"]) for service, group in groups.items()}
        rules = judge_rules(self._balancers.rules(balancer), arns, wanted)
        serving = [side for side in (self._live, self._following) if wanted.of(side.service) and side.service in groups]
        return worst(rules, *(self._judge_side(side, groups[side.service]) for side in serving))

    def _judge_side(self, side: Side, group: Document) -> Effective:
        served, endpoints = judge_service(self._client, self._endpoints, self._namespace, side.service, side)
        # Targets are Pods by their addresses, or nodes, which are not compared with Pods.
        addresses = {endpoint.address for endpoint in endpoints} if group.get("TargetType") == "ip" else set()
        targets = self._balancers.targets(group["TargetGroupArn"])
        return worst(judge_targets(side.service, targets, addresses, self._settings.unhealthy_percent), served)
