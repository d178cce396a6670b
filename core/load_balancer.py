"""What an AWS Application Load Balancer does: its rules' weights and its targets' health, as its API (elbv2) tells, judged against the split wanted.

Argo Rollouts compares weights in the same way (utils/aws/aws.go, rollout/trafficrouting/alb/alb.go), but looks at one rule and leaves health out; here every
rule that forwards to a side must say the same, and a side that gets traffic must have healthy targets: an ALB without any sends requests to the unhealthy ones.
"""

from collections.abc import Collection, Iterable, Mapping

from core.errors import PermanentError
from core.fence import Document
from core.traffic import Effective, Split, split_of_weights

RESOURCE_TAG = "ingress.k8s.aws/resource"
# Targets that count for nothing: on their way out (elbv2 API, TargetHealth.State).
_LEAVING = frozenset({"draining", "unhealthy.draining"})


def judge_rules(rules: Iterable[Document], groups: Mapping[str, str], wanted: Split) -> Effective:
    """Given all rules of the load balancer and the target group's ARN of each Service, return whether every rule of the two splits as wanted."""
    missing = [service for service in wanted.percent if service not in groups]
    if missing:
        return _pending(f"the load balancer has no target group of Service {', '.join(missing)} yet")
    services = {arn: service for service, arn in groups.items()}
    counted = 0
    for rule in rules:
        weights, sticky = _forwarded(rule)
        if not weights.keys() & services.keys():
            continue
        counted += 1
        where = f"rule {rule.get('Priority', '')} ({str(rule.get('RuleArn', '')).rsplit('/', 1)[-1]})"
        named = {services.get(arn, arn): weight for arn, weight in weights.items()}
        listed = ", ".join(f"{service} {weight}" for service, weight in named.items())
        if sticky:
            return Effective(
                state="refused",
                found=f"{where} keeps clients with their target group (stickiness), whatever the weights",
            )
        try:
            split = split_of_weights(named, on=where)
        except PermanentError:
            return _pending(f"{where} has the weights {listed}, wanted is {wanted}")
        if split != wanted:
            return _pending(f"{where} has the weights {listed}, wanted is {wanted}")
    if not counted:
        return _pending("no rule of the load balancer forwards to the two sides yet")
    return Effective(state="effective", found=f"{counted} rule{'s' if counted > 1 else ''} with {wanted}")


def judge_targets(
    service: str, targets: Collection[Document], addresses: Collection[str], unhealthy_percent: int
) -> Effective:
    """Given the target health descriptions of a Service's target group, and the addresses that must be among them, return whether it can take traffic.

    At least one target must be healthy, and no more than so many percent anything else. initial and unused (the rule is not there yet) pass with time;
    unhealthy does not, and is told with its reason codes (elbv2 API, TargetHealth.Reason).
    """
    serving = [target for target in targets if _state(target) not in _LEAVING]
    healthy = [target for target in serving if _state(target) == "healthy"]
    unhealthy = [target for target in serving if _state(target) == "unhealthy"]
    others = len(serving) - len(healthy)
    where = f"{len(healthy)} of {len(serving)} targets of {service} are healthy"
    if 100 * len(unhealthy) > unhealthy_percent * len(serving):
        return Effective(state="refused", found=f"{where}; unhealthy: {_reasons(unhealthy)}")
    if not healthy or 100 * others > unhealthy_percent * len(serving):
        return _pending(
            f"{where}; {_reasons(target for target in serving if _state(target) != 'healthy') or 'none is registered'}"
        )
    registered = {str(target["Target"]["Id"]) for target in serving}
    if missing := sorted(set(addresses) - registered):
        return _pending(
            f"{len(missing)} ready Pods of {service} are not registered as targets yet ({', '.join(missing[:3])})"
        )
    return Effective(state="effective", found=where)


def _pending(found: str) -> Effective:
    return Effective(state="pending", found=found)


def _state(target: Document) -> str:
    return str((target.get("TargetHealth") or {}).get("State", ""))


def _reasons(targets: Iterable[Document]) -> str:
    counted: dict[str, int] = {}
    for target in targets:
        health = target.get("TargetHealth") or {}
        told = str(health.get("Reason") or health.get("State"))
        counted[told] = counted.get(told, 0) + 1
    return ", ".join(f"{number} × {told}" for told, number in sorted(counted.items()))


def _forwarded(rule: Document) -> tuple[dict[str, int], bool]:
    """The weights of the target groups that a rule forwards to, by ARN, and whether clients stay with theirs."""
    weights: dict[str, int] = {}
    sticky = False
    for action in rule.get("Actions") or ():
        forward = action.get("ForwardConfig") or {}
        for group in forward.get("TargetGroups") or ():
            weights[group["TargetGroupArn"]] = group.get("Weight", 1)
        sticky = sticky or bool((forward.get("TargetGroupStickinessConfig") or {}).get("Enabled"))
        if not forward and action.get("TargetGroupArn"):
            weights[action["TargetGroupArn"]] = 1
    return weights, sticky
