"""The split in an Ingress of the AWS Load Balancer Controller: the annotation of an action, read and written.

The annotation `alb.ingress.kubernetes.io/actions.NAME` holds an action as JSON, which counts for backends with that service name and the port name
`use-annotation` (aws-load-balancer-controller, pkg/ingress/enhanced_backend_builder.go). Its forwardConfig.targetGroups name a Service and port, or a
target group's ARN, and must have a weight each as soon as there are two (pkg/ingress/config_types.go). Go's JSON takes names in any case, so we do.
"""

import json
from typing import Any

from core.errors import PermanentError
from core.fence import Document
from core.traffic import Side, Split, split_of_weights

ACTION = "alb.ingress.kubernetes.io/actions."
USE_ANNOTATION = "use-annotation"
_READ = "read the traffic split"


def ingress_split(ingress: Document, action: str, live: Side, following: Side, *, on: str) -> Split:
    """Given an Ingress, return its action's split between the two sides.

    Raise PermanentError when no backend uses the action, when it forwards to anything else, adds up to 0, or keeps clients with their target group: an
    ALB sends a client with such a cookie to its old target group whatever the weights, so a shift back would not help that client.
    """
    _check_used(ingress, action, on=on)
    forward, groups = _forward(ingress, action, on=on)
    # One alone needs no weight: it gets everything.
    default = 1 if len(groups) == 1 else 0
    weighted = [
        (str(value(group, "serviceName") or value(group, "targetGroupARN")), int(_weight(group, default)))
        for group in groups
    ]
    # One of weight 0 gets nothing: the plain side's Service stays in the action once the colours took its place.
    if foreign := [name for name, weight in weighted if name not in {live.service, following.service} and weight]:
        raise PermanentError(
            _READ,
            on,
            f"action {action} forwards to {', '.join(foreign)} as well",
            "Leave the two sides' Services alone in it",
        )
    names = [name for name, _ in weighted]
    if len(set(names)) != len(names):
        raise PermanentError(_READ, on, f"action {action} names {names[0]} twice", "Leave each Service once in it")
    if value(value(forward, "targetGroupStickinessConfig") or {}, "enabled"):
        found = f"action {action} has target group stickiness: clients stay with their side, whatever the weights"
        raise PermanentError(
            _READ, on, found, "Turn it off (targetGroupStickinessConfig.enabled false), and wait for its cookies to end"
        )
    return split_of_weights(dict(weighted), on=on)


def group_weights(ingress: Document, action: str, *, on: str) -> dict[str, int]:
    """Given an Ingress and an action's name, return the weight of each Service that it forwards to. Raise PermanentError when it forwards nowhere."""
    _, groups = _forward(ingress, action, on=on)
    default = 1 if len(groups) == 1 else 0
    return {str(value(group, "serviceName")): int(_weight(group, default)) for group in groups}


def ingress_patch(ingress: Document, action: str, live: Side, following: Side, wanted: Split, *, on: str) -> Document:
    """The merge patch that writes a split into the action. All else in it stays."""
    document = _action(ingress, action, on=on)
    groups = value(value(document, "forwardConfig"), "targetGroups")
    for side in (live, following):
        own = next((group for group in groups if value(group, "serviceName") == side.service), None)
        if own is None:
            # A number as text is taken as well, and was the only form once (normalizeServicePortForBackwardsCompatibility).
            own = {"serviceName": side.service, "servicePort": str(side.port)}
            groups.append(own)
        own[_key(own, "weight")] = wanted.of(side.service)
    return {"metadata": {"annotations": {ACTION + action: json.dumps(document, separators=(",", ":"))}}}


def group_tags(ingress: Document, action: str, live: Side, following: Side, *, on: str) -> dict[str, str]:
    """The tag `ingress.k8s.aws/resource` that the controller gives the target group of each Service in the action: Service → tag.

    NAMESPACE/INGRESS-SERVICE:PORT, the port as the action says it (pkg/deploy/tracking/provider.go; pkg/ingress/model_build_target_group.go).
    """
    _, groups = _forward(ingress, action, on=on)
    ports = {value(group, "serviceName"): value(group, "servicePort") for group in groups}
    here = f"{ingress['metadata'].get('namespace', '')}/{ingress['metadata']['name']}"
    return {
        side.service: f"{here}-{side.service}:{ports[side.service]}"
        for side in (live, following)
        if side.service in ports
    }


def host_names(ingress: Document) -> tuple[str, ...]:
    """The load balancers' host names in an Ingress's status."""
    listed = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return tuple(one["hostname"] for one in listed if one.get("hostname"))


def value(document: Document, name: str) -> Any:
    """A field of the action's JSON, its name in any case; None when it is not there."""
    return document.get(_key(document, name))


def _key(document: Document, name: str) -> str:
    return next((key for key in document if key.lower() == name.lower()), name)


def _weight(group: Document, default: int) -> Any:
    given = value(group, "weight")
    return default if given is None else given


def _action(ingress: Document, action: str, *, on: str) -> Document:
    text = (ingress["metadata"].get("annotations") or {}).get(ACTION + action)
    try:
        document = json.loads(text or "")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        found = f"it has no annotation {ACTION}{action} with an action as JSON"
        raise PermanentError(_READ, on, found, "Write the action, or correct release.traffic.action")
    return document


def _forward(ingress: Document, action: str, *, on: str) -> tuple[Document, list[Document]]:
    document = _action(ingress, action, on=on)
    forward = value(document, "forwardConfig")
    groups = value(forward, "targetGroups") if isinstance(forward, dict) else None
    if value(document, "type") != "forward" or not groups:
        found = f"action {action} does not forward to target groups (forwardConfig.targetGroups)"
        raise PermanentError(_READ, on, found, "Let it forward to the two sides' Services")
    return forward, groups


def _check_used(ingress: Document, action: str, *, on: str) -> None:
    spec = ingress.get("spec", {})
    paths = [path for rule in spec.get("rules") or () for path in (rule.get("http") or {}).get("paths") or ()]
    backends = [path.get("backend") or {} for path in paths] + [spec.get("defaultBackend") or {}]
    for backend in backends:
        service = backend.get("service") or {}
        if service.get("name") == action and (service.get("port") or {}).get("name") == USE_ANNOTATION:
            return
    found = f"no backend of it has the name {action} and the port name {USE_ANNOTATION}, so the action does nothing"
    raise PermanentError(_READ, on, found, "Let a rule's backend use the action")
