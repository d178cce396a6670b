"""Items security-groups, web-acl and cloudfront: what AWS says of the way in."""

import secrets
from typing import Any

import boto3
import pytest

from core.posture import CACHING_DISABLED, behaviour_for, caches, open_ports, rate_rule_problem
from core.release_checks import ReleaseCheck
from tasks.check_posture import check_cloudfront, check_security_groups, check_web_acl
from tests.fix_preflight import preflight_for

pytestmark = pytest.mark.usefixtures("aws_of_test")


def client_of(service: str) -> Any:
    make: Any = boto3.Session().client
    return make(service, region_name="eu-central-1")


def rule(first: int, last: int, *ranges: str, protocol: str = "tcp") -> dict[str, Any]:
    return {
        "IpProtocol": protocol,
        "FromPort": first,
        "ToPort": last,
        "IpRanges": [{"CidrIp": one} for one in ranges if ":" not in one],
        "Ipv6Ranges": [{"CidrIpv6": one} for one in ranges if ":" in one],
    }


@pytest.mark.parametrize(
    ("rules", "problems"),
    [
        ([rule(443, 443, "0.0.0.0/0", "::/0"), rule(80, 80, "0.0.0.0/0")], []),
        ([rule(22, 22, "10.0.0.0/8", "203.0.113.7/32")], []),
        ([rule(22, 22, "0.0.0.0/0")], ["sg-1 opens port 22 (tcp) to 0.0.0.0/0"]),
        ([rule(22, 22, "10.0.0.0/8", "::/0")], ["sg-1 opens port 22 (tcp) to ::/0"]),
        ([rule(80, 443, "0.0.0.0/0")], ["sg-1 opens ports 80-443 (tcp) to 0.0.0.0/0"]),
        ([rule(5432, 5432, "0.0.0.0/1", "128.0.0.0/1")], ["sg-1 opens port 5432 (tcp) to 0.0.0.0/1, 128.0.0.0/1"]),
        ([rule(53, 53, "0.0.0.0/0", protocol="udp")], ["sg-1 opens port 53 (udp) to 0.0.0.0/0"]),
        ([rule(8, -1, "0.0.0.0/0", protocol="icmp")], []),
        (
            [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
            ["sg-1 opens all ports (every protocol) to 0.0.0.0/0"],
        ),
        ([{"IpProtocol": "50", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}], ["sg-1 opens all ports (50) to 0.0.0.0/0"]),
        ([{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-2"}]}], []),
    ],
)
def test_only_expected_ports_may_be_open_to_the_internet(rules: list[dict[str, Any]], problems: list[str]) -> None:
    assert open_ports({"GroupId": "sg-1", "IpPermissions": rules}, (80, 443)) == problems


@pytest.fixture
def group() -> str:
    """A security group of moto's."""
    client = client_of("ec2")
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    made = client.create_security_group(GroupName=f"api-{secrets.token_hex(4)}", Description="of a test", VpcId=vpc)
    client.close()
    return str(made["GroupId"])


def groups_of(*names: str, **settings: Any) -> ReleaseCheck:
    return check_security_groups(
        preflight_for(posture={"region": "eu-central-1", "security_groups": names, **settings})
    )


def test_a_security_group_is_read_and_judged(group: str) -> None:
    client = client_of("ec2")
    client.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule(443, 443, "0.0.0.0/0")])
    assert groups_of(group).state == "passed"
    client.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule(22, 22, "0.0.0.0/0")])
    client.close()
    check = groups_of(group)
    assert (check.state, f"{group} opens port 22" in check.found) == ("failed", True)
    assert groups_of(group, ports=[22, 443]).state == "passed"
    assert groups_of(group, "sg-00000000").state == "failed"


RATE: dict[str, Any] = {
    "Name": "rate",
    "Priority": 1,
    "Statement": {"RateBasedStatement": {"Limit": 2000, "AggregateKeyType": "IP"}},
    "Action": {"Block": {}},
    "VisibilityConfig": {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "rate"},
}


@pytest.mark.parametrize(
    ("rules", "name", "problem"),
    [
        ([RATE], None, ""),
        ([RATE], "rate", ""),
        ([RATE], "other", "has no rate-based rule other"),
        ([], None, "has no rate-based rule"),
        ([{**RATE, "Statement": {"GeoMatchStatement": {}}}], None, "has no rate-based rule"),
        ([{**RATE, "Action": {"Count": {}}}], None, "only counts"),
        ([{**RATE, "Action": {"Count": {}}}, RATE], None, ""),
        ([{**RATE, "Action": {}}], None, "only counts"),
    ],
)
def test_a_web_acl_must_have_a_rate_based_rule_that_limits(rules: list[Any], name: str | None, problem: str) -> None:
    found = rate_rule_problem({"Name": "acl", "Rules": rules}, name)
    assert problem in found
    assert bool(problem) == bool(found)


def test_a_load_balancers_web_acl_is_read_and_judged() -> None:
    elb, waf, ec2 = client_of("elbv2"), client_of("wafv2"), client_of("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{number}.0/24", AvailabilityZone=f"eu-central-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for number, zone in enumerate("ab")
    ]
    arn = elb.create_load_balancer(Name=f"api-{secrets.token_hex(4)}", Subnets=subnets)["LoadBalancers"][0][
        "LoadBalancerArn"
    ]
    posture = {"region": "eu-central-1", "load_balancer": arn}
    assert "no web ACL is attached" in check_web_acl(preflight_for(posture=posture)).found
    visible = RATE["VisibilityConfig"]
    acl = waf.create_web_acl(Name=f"acl-{secrets.token_hex(4)}", Scope="REGIONAL", DefaultAction={"Allow": {}}, VisibilityConfig=visible, Rules=[RATE])  # fmt: skip
    waf.associate_web_acl(WebACLArn=acl["Summary"]["ARN"], ResourceArn=arn)
    assert check_web_acl(preflight_for(posture=posture)).state == "passed"
    assert check_web_acl(preflight_for(posture={**posture, "rate_rule": "other"})).state == "failed"
    for client in (elb, waf, ec2):
        client.close()


def behaviours(*patterns: str) -> dict[str, Any]:
    return {
        "CacheBehaviors": {"Items": [{"PathPattern": one} for one in patterns]},
        "DefaultCacheBehavior": {"default": True},
    }


@pytest.mark.parametrize(
    ("patterns", "first"),
    [
        (["/api/*"], "/api/*"),
        (["/static/*", "/api/*"], "/api/*"),
        (["/*", "/api/*"], "/*"),
        (["*"], "*"),
        (["api/*"], "api/*"),
        (["/api/v1/*"], "default"),
        (["/ap?/*"], "/ap?/*"),
        (["/static/*"], "default"),
        ([], "default"),
    ],
)
def test_paths_get_the_first_behaviour_that_matches(patterns: list[str], first: str) -> None:
    assert behaviour_for(behaviours(*patterns), "/api/*")[0] == first


def test_what_does_not_say_that_it_keeps_nothing_keeps_something() -> None:
    assert not caches({"MinTTL": 0, "DefaultTTL": 0, "MaxTTL": 0})
    assert caches({"MinTTL": 0, "DefaultTTL": 0, "MaxTTL": 1})
    assert caches({"MinTTL": 0, "DefaultTTL": 0})
    assert caches({})


def distribution(**behaviour: Any) -> str:
    client = client_of("cloudfront")
    origin = {"Id": "api", "DomainName": "api.example.com", "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"}}  # fmt: skip
    common: dict[str, Any] = {"TargetOriginId": "api", "ViewerProtocolPolicy": "https-only"}
    config: dict[str, Any] = {
        "CallerReference": secrets.token_hex(8),
        "Origins": {"Quantity": 1, "Items": [origin]},
        "DefaultCacheBehavior": common,
        "CacheBehaviors": {"Quantity": 1, "Items": [{**common, "PathPattern": "/api/*", **behaviour}]},
        "Comment": "",
        "Enabled": True,
    }
    made = client.create_distribution(DistributionConfig=config)
    # The first look of moto's is InProgress.
    while client.get_distribution(Id=made["Distribution"]["Id"])["Distribution"]["Status"] != "Deployed":
        pass
    client.close()
    return str(made["Distribution"]["Id"])


def cloudfront(name: str) -> ReleaseCheck:
    return check_cloudfront(preflight_for(posture={"region": "us-east-1", "distribution": name}))


def test_a_distribution_must_not_cache_the_api() -> None:
    check = cloudfront(distribution(CachePolicyId=CACHING_DISABLED))
    assert (check.state, check.evidence["cache_policy"]) == ("passed", CACHING_DISABLED), check.found
    assert cloudfront(distribution(MinTTL=0, DefaultTTL=86400, MaxTTL=86400)).state == "failed"
    assert cloudfront("E0000000000000").state == "failed"


@pytest.mark.parametrize("look", [check_security_groups, check_web_acl, check_cloudfront])
def test_what_nobody_configured_says_so_and_an_aws_that_is_away_fails(
    look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(preflight_for()).state == "not-configured"
    assert look(preflight_for(posture={})).state == "not-configured"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    posture = {
        "region": "eu-central-1",
        "security_groups": ["sg-1"],
        "load_balancer": "arn:aws:x:y:z:aaaaaaaaaaaa",
        "distribution": "E1",
    }
    assert look(preflight_for(posture=posture)).state == "failed"
