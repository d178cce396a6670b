"""Items security-groups, web-acl and cloudfront of the checklist: read-only looks at AWS by the worker's role."""

from typing import Any

from core.errors import PermanentError
from core.posture import CACHING_DISABLED, behaviour_for, caches, open_ports, rate_rule_problem
from core.release_checks import ReleaseCheck, failed, not_configured, passed, verdict
from tasks.aws import aws_client, aws_errors
from tasks.preflight_item import Preflight, asked


@asked("security-groups")
def check_security_groups(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the named security groups open no other port to the internet than the expected ones."""
    settings = preflight.release.checks.posture
    if settings is None or not settings.security_groups:
        return not_configured(
            "security-groups", "nobody looked at security groups", "Set release.checks.posture.security_groups"
        )
    named = list(settings.security_groups)
    with aws_errors("read security groups", ", ".join(named), "ec2:DescribeSecurityGroups"):
        answer = aws_client("ec2", settings.region).describe_security_groups(GroupIds=named)
    groups = answer["SecurityGroups"]
    unseen = sorted(set(named) - {str(group["GroupId"]) for group in groups})
    problems = [f"{name} was not told of" for name in unseen]
    problems += [problem for group in groups for problem in open_ports(group, settings.ports)]
    ports = ", ".join(map(str, settings.ports))
    return verdict(
        "security-groups",
        problems,
        f"{', '.join(named)} open nothing but {ports} to the internet",
        "Close it, or add the port to release.checks.posture.ports",
        groups=[*named],
        ports=list(settings.ports),
    )


@asked("web-acl")
def check_web_acl(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the load balancer has a web ACL whose rate-based rule limits."""
    settings = preflight.release.checks.posture
    if settings is None or settings.load_balancer is None:
        return not_configured("web-acl", "nobody looked at the web ACL", "Set release.checks.posture.load_balancer")
    on = settings.load_balancer
    with aws_errors("read the web ACL", on, "wafv2:GetWebACLForResource and wafv2:GetWebACL"):
        web_acl = aws_client("wafv2", settings.region).get_web_acl_for_resource(ResourceArn=on).get("WebACL")
    if problem := rate_rule_problem(web_acl, settings.rate_rule):
        return failed("web-acl", f"{on}: {problem}", "Attach it: AWS WAF, web ACLs, associated resources")
    return passed(
        "web-acl", f"{on} has web ACL {web_acl['Name']} with a rate-based rule that limits", web_acl=web_acl["Name"]
    )


@asked("cloudfront")
def check_cloudfront(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the distribution does not cache the paths that it must not."""
    settings = preflight.release.checks.posture
    if settings is None or settings.distribution is None:
        return not_configured("cloudfront", "nobody looked at CloudFront", "Set release.checks.posture.distribution")
    client, name = aws_client("cloudfront", settings.region or "us-east-1"), settings.distribution
    with aws_errors("read the distribution", name, "cloudfront:GetDistribution"):
        distribution = client.get_distribution(Id=name)["Distribution"]
    pattern, behaviour = behaviour_for(distribution["DistributionConfig"], settings.uncached)
    policy = str(behaviour.get("CachePolicyId") or "")
    told = f"{name}: {settings.uncached} gets the behaviour {pattern}"
    if distribution.get("Status") not in {None, "Deployed"}:
        return failed(
            "cloudfront",
            f"{name} is {distribution['Status']}: not everywhere as it is written",
            "Wait until it is Deployed",
        )
    if policy != CACHING_DISABLED and caches(_policy_times(client, name, policy) if policy else behaviour):
        how = f"cache policy {policy}" if policy else "its times to live"
        return failed("cloudfront", f"{told}, which caches ({how})", "Give it the policy Managed-CachingDisabled")
    return passed("cloudfront", f"{told}, which does not cache", behaviour=pattern, cache_policy=policy)


def _policy_times(client: Any, distribution: str, policy: str) -> dict[str, Any]:
    gone = PermanentError("read the cache policy", policy, f"{distribution} names a policy that there is not")
    with aws_errors("read the cache policy", policy, "cloudfront:GetCachePolicy", missing={"NoSuchCachePolicy": gone}):
        return dict(client.get_cache_policy(Id=policy)["CachePolicy"]["CachePolicyConfig"])
