"""The split in a Gateway API HTTPRoute: reading it out of the rules, writing it back into them, and what the gateway says of it.

Of backendRefs the Gateway API says (httproute_types.go, gateway-api v1): weight is a proportion, default 1; 0 means no traffic; kind Service and the route's
own namespace are the defaults. Of status (shared_types.go, RouteParentStatus): one entry a parent and controller, whose conditions tell in observedGeneration
which generation of the route they speak of.
"""

import copy
from typing import Any

from core.errors import PermanentError
from core.fence import Document
from core.traffic import Effective, Side, Split, split_of_weights

_READ, _BY_HAND = "read the traffic split", "Change the route by hand, or shift traffic in another way"
_NEEDED = ("Accepted", "ResolvedRefs")
# Reasons of a condition that is not True yet, but may be without anybody's doing (RouteReasonPending).
_NOT_YET = frozenset({"Pending"})


def route_split(route: Document, live: Side, following: Side, *, on: str) -> Split:
    """Given a route, return its split between the two sides.

    Every rule that sends to one of them counts, and all must say the same. Raise PermanentError, naming the rule, when one mixes them with another
    backend, names one twice, adds up to 0, keeps sessions with their side, or says another split than the others; or when no rule sends to them.
    """
    found: dict[int, Split] = {}
    for number, rule in _rules_of_the_pair(route, live, following):
        where = f"{on}, rule {number}"
        refs = [ref for ref in rule["backendRefs"] if _is_of(ref, route, live, following)]
        # One of weight 0 gets nothing: the plain side's Service stays in the route once the colours took its place.
        foreign = [_called(ref) for ref in rule["backendRefs"] if ref not in refs and ref.get("weight", 1)]
        if foreign:
            raise PermanentError(_READ, where, f"it sends to {', '.join(foreign)} as well", _BY_HAND)
        names = [ref["name"] for ref in refs]
        if len(set(names)) != len(names):
            raise PermanentError(_READ, where, f"it names {', '.join(sorted(names))}: one of them twice", _BY_HAND)
        if rule.get("sessionPersistence"):
            raise PermanentError(
                _READ, where, "it has sessionPersistence: clients stay with their side, whatever the weights", _BY_HAND
            )
        found[number] = split_of_weights({ref["name"]: ref.get("weight", 1) for ref in refs}, on=where)
    if not found:
        told = f"no rule sends to Service {live.service} or {following.service}"
        raise PermanentError(_READ, on, told, "Let its rules send to them, or correct release.traffic.name")
    first = next(iter(found.values()))
    if any(split != first for split in found.values()):
        listed = "; ".join(f"rule {number}: {split}" for number, split in found.items())
        raise PermanentError(_READ, on, f"its rules differ: {listed}", "Make them equal by hand")
    return first


def route_patch(route: Document, live: Side, following: Side, wanted: Split) -> Document:
    """The merge patch that writes a split into every rule of the pair. All else in the rules stays; a merge patch replaces lists, so they go whole."""
    rules = copy.deepcopy(route["spec"]["rules"])
    for number, _ in _rules_of_the_pair(route, live, following):
        refs = rules[number]["backendRefs"]
        of_pair = [ref for ref in refs if _is_of(ref, route, live, following)]
        for side in (live, following):
            own = [ref for ref in of_pair if ref["name"] == side.service]
            if not own and wanted.of(side.service):
                # What the other side's reference says besides (its filters) holds for this one too.
                own = [{**copy.deepcopy(of_pair[0]), "name": side.service, "port": side.port}]
                refs.extend(own)
            for ref in own:
                ref["weight"] = wanted.of(side.service)
    return {"spec": {"rules": rules}}


def backend_weights(route: Document) -> dict[str, int]:
    """Given a route, return the sum of each Service's weights over all rules: above 0 where requests may go to it."""
    here, found = route["metadata"].get("namespace", ""), dict[str, int]()
    for rule in route.get("spec", {}).get("rules") or ():
        for ref in rule.get("backendRefs") or ():
            if (ref.get("kind") or "Service") == "Service" and (ref.get("namespace") or here) == here:
                found[ref["name"]] = found.get(ref["name"], 0) + int(ref.get("weight", 1))
    return found


def judge_route(route: Document) -> Effective:
    """Given a route as read, return whether every gateway that it names has taken it as it now is."""
    parents = route["spec"].get("parentRefs") or ()
    if not parents:
        return Effective(state="refused", found="the route names no parent (parentRefs): no gateway serves it")
    statuses = (route.get("status") or {}).get("parents") or ()
    namespace = route["metadata"].get("namespace", "")
    taken: list[str] = []
    for parent in parents:
        key = _parent_key(parent, namespace)
        speaking = [one for one in statuses if _parent_key(one.get("parentRef") or {}, namespace) == key]
        if not speaking:
            return Effective(state="pending", found=f"gateway {parent['name']} says nothing of the route yet")
        for status in speaking:
            judged = _judge_parent(status, parent["name"], route["metadata"].get("generation", 0))
            if judged is not None:
                return judged
        taken.append(parent["name"])
    return Effective(
        state="effective",
        found=f"accepted by {', '.join(taken)} at generation {route['metadata'].get('generation', 0)}",
    )


def _judge_parent(status: Document, name: str, generation: int) -> Effective | None:
    """None: this parent has taken it."""
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    for kind in _NEEDED:
        condition = conditions.get(kind)
        if condition is None:
            return Effective(state="pending", found=f"gateway {name} has not said {kind} yet")
        if condition.get("observedGeneration") != generation:
            seen = condition.get("observedGeneration")
            return Effective(
                state="pending", found=f"gateway {name} speaks of generation {seen}, and the route is at {generation}"
            )
        told = f"{condition.get('reason', '')}: {condition.get('message', '')}".removesuffix(": ")
        if condition.get("status") == "False" and condition.get("reason") not in _NOT_YET:
            return Effective(state="refused", found=f"gateway {name}: {kind} is False ({told})")
        if condition.get("status") != "True":
            return Effective(state="pending", found=f"gateway {name}: {kind} is {condition.get('status')} ({told})")
    partial = conditions.get("PartiallyInvalid") or {}
    if partial.get("status") == "True" and partial.get("observedGeneration") == generation:
        return Effective(state="refused", found=f"gateway {name} takes it in part only ({partial.get('message', '')})")
    return None


def _rules_of_the_pair(route: Document, live: Side, following: Side) -> list[tuple[int, Document]]:
    rules = route.get("spec", {}).get("rules") or ()
    return [
        (number, rule)
        for number, rule in enumerate(rules)
        if any(_is_of(ref, route, live, following) for ref in rule.get("backendRefs") or ())
    ]


def _is_of(ref: Document, route: Document, live: Side, following: Side) -> bool:
    here = route["metadata"].get("namespace", "")
    return (
        ref.get("name") in {live.service, following.service}
        and (ref.get("group") or "", ref.get("kind") or "Service") == ("", "Service")
        and (ref.get("namespace") or here) == here
    )


def _called(ref: Document) -> str:
    return f"{ref.get('kind') or 'Service'} {ref.get('name')}"


def _parent_key(ref: Document, namespace: str) -> tuple[Any, ...]:
    return (
        ref.get("group", "gateway.networking.k8s.io"),
        ref.get("kind") or "Gateway",
        ref.get("namespace") or namespace,
        ref.get("name"),
        ref.get("sectionName"),
        ref.get("port"),
    )
