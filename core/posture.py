"""What AWS says of the way in, held against what is expected: security groups, the load balancer's web ACL, CloudFront's caching."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

# "Using managed cache policies" in CloudFront's developer guide: Managed-CachingDisabled.
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
# Half of the internet is the internet: 0.0.0.0/1 and 128.0.0.0/1 stand for 0.0.0.0/0 in many a rule.
_WIDEST = {4: 8, 6: 16}
_WITH_PORTS = frozenset({"tcp", "udp", "6", "17"})
_ALL_PORTS = (0, 65535)


def open_ports(group: Document, expected: Sequence[int]) -> list[str]:
    """Given a security group (ec2 DescribeSecurityGroups), return what it opens to the internet beyond the expected ports.

    Open is what has 0.0.0.0/0 or ::/0, or another range as wide as /7 (IPv6: /15). ICMP has no ports and is let pass. What prefix lists hold is not looked at.
    """
    found = []
    for rule in group.get("IpPermissions") or ():
        ranges = [one.get("CidrIp") for one in rule.get("IpRanges") or ()]
        ranges += [one.get("CidrIpv6") for one in rule.get("Ipv6Ranges") or ()]
        protocol = str(rule.get("IpProtocol"))
        wide = [str(one) for one in ranges if one and _is_internet(str(one))]
        if not wide or protocol in {"icmp", "icmpv6", "1", "58"}:
            continue
        first, last = _ALL_PORTS if protocol not in _WITH_PORTS else (int(rule.get("FromPort", 0)), int(rule.get("ToPort", 65535)))  # fmt: skip
        if any(port not in expected for port in range(first, last + 1)):
            ports = (
                "all ports"
                if (first, last) == _ALL_PORTS
                else f"port {first}"
                if first == last
                else f"ports {first}-{last}"
            )
            name = "every protocol" if protocol == "-1" else protocol
            found.append(f"{group.get('GroupId')} opens {ports} ({name}) to {', '.join(wide)}")
    return found


def rate_rule_problem(web_acl: Document | None, name: str | None) -> str:
    """Given the web ACL of a load balancer (None: it has none) and a rule's name (None: any), return what is wrong; "" when a rate-based rule limits.

    A rule whose action is Count only counts. Rules inside of rule groups are not looked at.
    """
    if web_acl is None:
        return "no web ACL is attached"
    rules = [rule for rule in web_acl.get("Rules") or () if "RateBasedStatement" in (rule.get("Statement") or {})]
    if name is not None:
        rules = [rule for rule in rules if rule.get("Name") == name]
    told = f"web ACL {web_acl.get('Name')}"
    if not rules:
        return f"{told} has no rate-based rule" + (f" {name}" if name else "")
    if all(set(rule.get("Action") or {}) <= {"Count", "Allow"} for rule in rules):
        return f"{told}: its rate-based rule {rules[0].get('Name')} only counts"
    return ""


def behaviour_for(config: Document, pattern: str) -> tuple[str, Document]:
    """Given a distribution's configuration and a path pattern, return the behaviour that such paths get, with its own pattern ("default" for the last).

    CloudFront takes the first whose pattern matches, in their order ("Path pattern" in its developer guide).
    """
    sample = pattern.replace("*", "nightshift").replace("?", "n")
    for behaviour in (config.get("CacheBehaviors") or {}).get("Items") or ():
        its = str(behaviour.get("PathPattern"))
        wanted = re.escape(its.removeprefix("/")).replace(r"\*", ".*").replace(r"\?", ".")
        if its == pattern or re.fullmatch(wanted, sample.removeprefix("/")):
            return its, behaviour
    return "default", config.get("DefaultCacheBehavior") or {}


def caches(times: Document) -> bool:
    """Given a behaviour's or a cache policy's times to live (MinTTL, DefaultTTL, MaxTTL), return whether anything is kept. What is not said is not 0."""
    return any(times.get(name) != 0 for name in ("MinTTL", "DefaultTTL", "MaxTTL"))


def _is_internet(text: str) -> bool:
    network = ipaddress.ip_network(text, strict=False)
    return network.prefixlen < _WIDEST[network.version]
