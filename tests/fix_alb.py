"""An AWS load balancer in moto, and something that plays the AWS Load Balancer Controller: it follows an Ingress's annotation into the rules' weights.

moto's targets are always healthy, so a small HTTP layer before it answers DescribeTargetHealth as a test scripts it.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import boto3
import pytest

from core.fence import Document
from core.traffic_endpoints import slice_endpoints
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tests.fix_kubernetes import KubernetesApi
from tests.fix_object_store import REGION, S3Server
from tests.fix_sides import BLUE, GREEN, NAMESPACE, Sides

ACTION = "api-server"
ANNOTATION = f"alb.ingress.kubernetes.io/actions.{ACTION}"
INGRESSES = ("networking.k8s.io/v1", "ingresses", NAMESPACE)
_NAMESPACE = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"


def forward(**weights: int) -> Document:
    """An action that forwards to Services by weight; _ in a name stands for -."""
    groups = [
        {"serviceName": name.replace("_", "-"), "servicePort": "80", "weight": weight}
        for name, weight in weights.items()
    ]
    return {"type": "forward", "forwardConfig": {"targetGroups": groups}}


class ClusterObjects:
    """What a load balancer's controller needs of an API, on a real cluster, as the small API has it for tests."""

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client

    def put(self, document: Document) -> None:
        """Create an object."""
        path = find_kind(self._client, document["kind"]).path(document["metadata"]["namespace"])
        self._client.create(path, document)

    def set_status(self, group_version: str, plural: str, namespace: str, name: str, **status: Any) -> None:
        """Write into an object's status."""
        self._client.merge(f"{_collection(group_version, plural, namespace)}/{name}/status", {"status": status})

    def read(self, group_version: str, plural: str, namespace: str, name: str) -> Document:
        """An object as it is."""
        return self._client.get(f"{_collection(group_version, plural, namespace)}/{name}")

    def select(self, group_version: str, plural: str, namespace: str, query: dict[str, str]) -> list[Document]:
        """The objects of a collection that a query leaves."""
        return list(self._client.list(_collection(group_version, plural, namespace), **query))


def _collection(group_version: str, plural: str, namespace: str) -> str:
    return f"/apis/{group_version}/namespaces/{namespace}/{plural}"


@dataclass(frozen=True)
class Ground:
    """Where a load balancer's Ingress and Services are, when those are not the two sides of fix_sides."""

    api: "KubernetesApi | ClusterObjects"
    namespace: str
    slices: str = "discovery.k8s.io/v1"


class Alb:
    """One load balancer with one rule (and the controller's share of the work), and what a test scripts about it."""

    def __init__(self, sides: Sides | Ground, endpoint: str, moto_port: int) -> None:
        self.sides: Any = sides
        self.ingresses = (*INGRESSES[:2], sides.namespace)
        self.moto_port = moto_port
        credentials = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing-secret", "region_name": REGION}
        self.client: Any = boto3.client("elbv2", endpoint_url=endpoint, **credentials)
        ec2: Any = boto3.client("ec2", endpoint_url=endpoint, **credentials)
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"][
                "SubnetId"
            ]
            for n, zone in ((1, "a"), (2, "b"))
        ]
        name = f"k8s-{self.vpc[-12:]}"
        made = self.client.create_load_balancer(Name=name, Subnets=subnets, Type="application")["LoadBalancers"][0]
        self.arn, self.host = made["LoadBalancerArn"], made["DNSName"]
        nothing = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
        self.listener = self.client.create_listener(
            LoadBalancerArn=self.arn, Protocol="HTTP", Port=80, DefaultActions=[nothing]
        )["Listeners"][0]["ListenerArn"]
        self._made = 0
        self.groups: dict[str, str] = {}
        self.rules: dict[str, str] = {}
        self._attached: set[str] = set()
        # Whoever asks for a rule sees none in the middle of being made anew.
        self._changing = threading.Lock()
        # What a test scripts: whether the controller works at all, the weights that it does not carry out, and the health of targets: state and reason, by address.
        self.idle = False
        self.ignored: set[int] = set()
        self.health: dict[str, tuple[str, str]] = {}
        self.health_of_others = ("healthy", "")
        # Service → weight, as the load balancer was given it, one after the other.
        self.written: list[dict[str, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        handler = type("Handler", (_Handler,), {"alb": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def ingress(self, action: Document, *, name: str = "web", used: bool = True, **more: Any) -> None:
        """Put the Ingress whose rule uses the action, with the load balancer in its status."""
        port = {"name": "use-annotation"} if used else {"number": 80}
        path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": ACTION, "port": port}}}
        metadata = {"name": name, "namespace": self.sides.namespace, "annotations": {ANNOTATION: json.dumps(action)}}
        spec = {"rules": [{"http": {"paths": [path]}}]}
        self.sides.api.put({"apiVersion": INGRESSES[0], "kind": "Ingress", "metadata": metadata, "spec": spec, **more})
        self.sides.api.set_status(*self.ingresses, name, loadBalancer={"ingress": [{"hostname": self.host}]})

    def reconcile(self, name: str = "web") -> None:
        """Do what the controller does: a tagged target group a Service, its Pods as targets, a rule with the weights."""
        ingress = self.sides.api.read(*self.ingresses, name)
        action = json.loads(ingress["metadata"]["annotations"][ANNOTATION])
        tuples = []
        for group in action["forwardConfig"]["targetGroups"]:
            service = group["serviceName"]
            if service not in self.groups:
                self.groups[service] = self.new_group(f"{self.sides.namespace}/{name}-{service}:{group['servicePort']}")
            self._register(service)
            tuples.append({"TargetGroupArn": self.groups[service], "Weight": group.get("weight", 1)})
        self.write_rule("/", tuples)
        weights = {group["serviceName"]: group.get("weight", 1) for group in action["forwardConfig"]["targetGroups"]}
        if [weights] != self.written[-1:]:
            self.written.append(weights)

    def weights(self) -> dict[str, int]:
        """Service → weight, by the load balancer's own rule."""
        with self._changing:
            services = {arn: service for service, arn in self.groups.items()}
            (rule,) = self.client.describe_rules(RuleArns=[self.rules["/"]])["Rules"]
        groups = rule["Actions"][0]["ForwardConfig"]["TargetGroups"]
        return {services[one["TargetGroupArn"]]: one["Weight"] for one in groups}

    def shares(self, service: str) -> list[int]:
        """The weights that the load balancer was given for a Service, one after the other."""
        return [one.get(service, 0) for one in self.written]

    def write_rule(self, path: str, tuples: list[Document], **forward_config: Any) -> None:
        """Make or change a rule of the listener."""
        with self._changing:
            self._write_rule(path, tuples, **forward_config)

    def _write_rule(self, path: str, tuples: list[Document], **forward_config: Any) -> None:
        actions = [{"Type": "forward", "ForwardConfig": {"TargetGroups": tuples, **forward_config}}]
        arns = {one["TargetGroupArn"] for one in tuples}
        if path in self.rules and arns <= self._attached:
            self.client.modify_rule(RuleArn=self.rules[path], Actions=actions)
            return
        if path in self.rules:
            # moto attaches a group to the load balancer when a rule is made, not when one is changed.
            self.client.delete_rule(RuleArn=self.rules.pop(path))
        self._attached |= arns
        condition = {"Field": "path-pattern", "Values": [path]}
        made = self.client.create_rule(
            ListenerArn=self.listener, Priority=len(self.rules) + 1, Conditions=[condition], Actions=actions
        )
        self.rules[path] = made["Rules"][0]["RuleArn"]

    def start(self) -> None:
        """Let the controller work by itself from now on."""
        self._thread.start()

    def close(self) -> None:
        """End the controller and the HTTP layer."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._server.shutdown()
        self._server.server_close()

    def _follow(self) -> None:
        done = ""
        while not self._ended.wait(0.1):
            action = self.sides.api.read(*self.ingresses, "web")["metadata"]["annotations"][ANNOTATION]
            seen = [action, *(self.addresses(service) for service in self.groups)]
            groups = json.loads(action)["forwardConfig"]["targetGroups"]
            heard = not self.idle and not any(group.get("weight") in self.ignored for group in groups)
            if heard and (text := json.dumps(seen)) != done:
                self.reconcile()
                done = text

    def new_group(self, resource: str) -> str:
        """Make a target group with the tag that tells what it is for."""
        self._made += 1
        name = f"k8s-{self.vpc[-8:]}-{self._made:03d}"
        made = self.client.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=80,
            VpcId=self.vpc,
            TargetType="ip",
            Tags=[
                {"Key": "ingress.k8s.aws/resource", "Value": resource},
                {"Key": "elbv2.k8s.aws/cluster", "Value": "lab"},
            ],
        )
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    def addresses(self, service: str) -> list[str]:
        """The ready addresses that a Service leads to."""
        slices = self.sides.api.select(
            self.sides.slices,
            "endpointslices",
            self.sides.namespace,
            {"labelSelector": f"kubernetes.io/service-name={service}"},
        )
        return sorted({endpoint.address for endpoint in slice_endpoints(slices)})

    def _register(self, service: str) -> None:
        group, addresses = self.groups[service], self.addresses(service)
        there = self.client.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        gone = [one["Target"] for one in there if one["Target"]["Id"] not in addresses]
        if gone:
            self.client.deregister_targets(TargetGroupArn=group, Targets=gone)
        if addresses:
            targets = [{"Id": address, "Port": 3000} for address in addresses]
            self.client.register_targets(TargetGroupArn=group, Targets=targets)

    def described(self, group: str) -> bytes:
        """The answer to DescribeTargetHealth, as scripted."""
        there = self.client.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        members = []
        for one in there:
            address = one["Target"]["Id"]
            state, reason = self.health.get(address, self.health_of_others)
            told = f"<Reason>{escape(reason)}</Reason>" if reason else ""
            target = f"<Target><Id>{address}</Id><Port>{one['Target']['Port']}</Port></Target>"
            members.append(f"<member>{target}<TargetHealth><State>{state}</State>{told}</TargetHealth></member>")
        listed = f"<TargetHealthDescriptions>{''.join(members)}</TargetHealthDescriptions>"
        result = f"<DescribeTargetHealthResult>{listed}</DescribeTargetHealthResult>"
        return f'<DescribeTargetHealthResponse xmlns="{_NAMESPACE}">{result}</DescribeTargetHealthResponse>'.encode()


class _Handler(BaseHTTPRequestHandler):
    """Passes every request on to moto but the one that moto has one answer for."""

    protocol_version = "HTTP/1.1"
    alb: Alb

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if asked.get("Action") == "DescribeTargetHealth":
            status, content = 200, self.alb.described(asked["TargetGroupArn"])
        else:
            server = http.client.HTTPConnection("127.0.0.1", self.alb.moto_port, timeout=60)
            server.request("POST", self.path, body, dict(self.headers.items()))
            answer = server.getresponse()
            status, content = answer.status, answer.read()
            server.close()
        self.send_response_only(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def alb(sides: Sides, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alb]:
    """A load balancer for the two sides, with an Ingress that gives blue everything; the controller works once it is started."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    made = Alb(sides, s3_server.endpoint, s3_server.port)
    made.ingress(forward(**{BLUE.service.replace("-", "_"): 100, GREEN.service.replace("-", "_"): 0}))
    yield made
    made.close()
