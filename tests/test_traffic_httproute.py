"""Traffic by an HTTPRoute's weights: read, written, taken by the gateway, and served as written."""

import copy
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import PermanentError
from core.fence import Fence, FencedError
from core.traffic import split_between
from core.traffic_httproute import route_patch, route_split
from tasks.fenced import stamp
from tasks.traffic import NotEffectiveError
from tasks.traffic_httproute import RouteTraffic
from tests.fix_sides import BLUE, GREEN, NAMESPACE, ROUTES, Sides, backend
from tests.fix_traffic_proxy import SplittingProxy
from tests.waiting import wait_until

ALL_BLUE, TEN = split_between(BLUE, GREEN, 0), split_between(BLUE, GREEN, 10)
OTHER = {"matches": [{"path": {"value": "/docs"}}], "backendRefs": [backend("docs", 3)]}
PERCENTS = st.integers(0, 100)


def ours() -> None:
    """Nobody took the lease away."""


def route(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "api-server", "namespace": NAMESPACE}, "spec": {"rules": list(rules)}}


def pair(blue: int, green: int, **more: Any) -> dict[str, Any]:
    return {"backendRefs": [backend(BLUE.service, blue), backend(GREEN.service, green)], **more}


def traffic(sides: Sides) -> RouteTraffic:
    return RouteTraffic(sides.client, NAMESPACE, "api-server", BLUE, GREEN)


@given(PERCENTS, PERCENTS, st.integers(0, 3), st.booleans())
def test_what_is_written_is_read_back_and_all_else_stays(before: int, after: int, rules: int, both: bool) -> None:
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "y"}]}}]
    own = pair(100 - before, before, filters=filters, timeouts={"request": "10s"})
    if not both and before == 0:
        own["backendRefs"].pop()
    document = route(OTHER, *[copy.deepcopy(own) for _ in range(rules + 1)])
    kept = copy.deepcopy(document)
    wanted = split_between(BLUE, GREEN, after)
    patch = route_patch(document, BLUE, GREEN, wanted)
    assert document == kept
    written = {**document, "spec": patch["spec"]}
    assert route_split(written, BLUE, GREEN, on="x") == wanted
    assert written["spec"]["rules"][0] == OTHER
    for rule in written["spec"]["rules"][1:]:
        assert (rule["filters"], rule["timeouts"]) == (filters, {"request": "10s"})
    assert patch == route_patch(written, BLUE, GREEN, wanted)


def test_a_backend_without_weight_has_one_share_and_one_alone_has_all() -> None:
    equal = route({"backendRefs": [backend(BLUE.service), backend(GREEN.service)]})
    assert route_split(equal, BLUE, GREEN, on="x") == split_between(BLUE, GREEN, 50)
    alone = route({"backendRefs": [backend(BLUE.service)]})
    assert route_split(alone, BLUE, GREEN, on="x") == ALL_BLUE


def test_a_side_that_no_rule_names_yet_gets_the_others_filters_and_its_own_port() -> None:
    green = GREEN.model_copy(update={"port": 8080})
    alone = route({"backendRefs": [backend(BLUE.service, filters=[{"type": "URLRewrite"}])]})
    refs = route_patch(alone, BLUE, green, TEN)["spec"]["rules"][0]["backendRefs"]
    assert refs == [
        {"name": BLUE.service, "port": 80, "filters": [{"type": "URLRewrite"}], "weight": 90},
        {"name": GREEN.service, "port": 8080, "filters": [{"type": "URLRewrite"}], "weight": 10},
    ]


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([pair(0, 0)], "rule 0): the weights (api-server-blue 0, api-server-green 0) add up to 0"),
        ([{"backendRefs": [backend(BLUE.service), backend("docs")]}], "it sends to Service docs as well"),
        (
            [{"backendRefs": [backend(BLUE.service), backend(GREEN.service, kind="Bucket", group="x")]}],
            "it sends to Bucket api-server-green as well",
        ),
        (
            [{"backendRefs": [backend(BLUE.service), backend(GREEN.service, namespace="other")]}],
            "it sends to Service api-server-green as well",
        ),
        ([{"backendRefs": [backend(BLUE.service), backend(BLUE.service)]}], "one of them twice"),
        (
            [OTHER, pair(90, 10), pair(80, 20)],
            "its rules differ: rule 1: api-server-blue 90 %, api-server-green 10 %; rule 2:",
        ),
        ([OTHER], "no rule sends to Service api-server-blue or api-server-green"),
        ([pair(90, 10, sessionPersistence={"type": "Cookie"})], "clients stay with their side"),
    ],
)
def test_a_route_whose_split_is_not_one_is_refused_by_name(rules: list[dict[str, Any]], found: str) -> None:
    with pytest.raises(PermanentError) as raised:
        route_split(route(*rules), BLUE, GREEN, on="route api-server")
    assert found in str(raised.value)
    assert "route api-server" in str(raised.value)


def test_a_third_service_of_weight_0_is_left_as_it_is() -> None:
    plain = backend("api-server", 0, filters=[{"type": "ExtensionRef"}])
    document = route({"backendRefs": [plain, backend(BLUE.service, 100)]})
    assert route_split(document, BLUE, GREEN, on="x") == ALL_BLUE
    refs = route_patch(document, BLUE, GREEN, TEN)["spec"]["rules"][0]["backendRefs"]
    assert refs == [plain, backend(BLUE.service, 90), backend(GREEN.service, 10)]


def test_a_shift_is_written_under_the_fence_and_told_once_the_gateway_took_it(sides: Sides) -> None:
    sides.route(OTHER, pair(100, 0))
    shift = sides.stamped(traffic(sides))
    assert shift.read() == ALL_BLUE
    kept = sides.api.read(*ROUTES, "api-server")["spec"]["rules"][0]
    assert shift.write(sides.fence, ALL_BLUE, TEN)
    assert shift.effective(TEN).state == "pending"
    sides.accept()
    told = shift.wait_effective(TEN, 10, ours)
    assert told.found == (
        "accepted by web at generation 2; Service api-server-blue leads to the 2 ready Pods of blue; "
        "Service api-server-green leads to the 2 ready Pods of green"
    )
    # Asked again, as after a lost answer or a killed process: nothing is written.
    assert not shift.write(sides.fence, ALL_BLUE, TEN)
    assert sides.api.read(*ROUTES, "api-server")["spec"]["rules"][0] == kept


def test_a_write_whose_answer_was_lost_is_not_written_twice(sides: Sides) -> None:
    sides.route(pair(100, 0))
    shift = sides.stamped(traffic(sides))
    sides.api.fail("PATCH", "httproutes", 0, after=True)
    shift.write(sides.fence, ALL_BLUE, TEN)
    assert shift.read() == TEN
    assert sides.api.read(*ROUTES, "api-server")["metadata"]["generation"] == 2


def test_a_write_that_something_in_the_cluster_changes_is_not_taken_for_done(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides.route(pair(100, 0))
    shift = sides.stamped(traffic(sides))
    plain = sides.api.merge

    def webhook(
        group_version: str, plural: str, namespace: str, name: str, patch: dict[str, Any], **how: Any
    ) -> dict[str, Any]:
        changed = {**patch, "spec": {"rules": [pair(80, 20)]}} if plural == "httproutes" else patch
        return plain(group_version, plural, namespace, name, changed, **how)

    # The server's own, as an admission webhook in it would.
    monkeypatch.setattr(sides.api, "merge", webhook)
    with pytest.raises(
        PermanentError, match="it was taken, and is api-server-blue 80 %, api-server-green 20 % all the same"
    ):
        shift.write(sides.fence, ALL_BLUE, TEN)


def test_somebody_elses_weights_stop_the_shift_and_stay(sides: Sides) -> None:
    sides.route(pair(60, 40))
    shift = sides.stamped(traffic(sides))
    kept = sides.api.read(*ROUTES, "api-server")["spec"]
    with pytest.raises(PermanentError) as raised:
        shift.write(sides.fence, ALL_BLUE, TEN)
    assert "it is api-server-blue 60 %, api-server-green 40 %; expected was api-server-blue 100 %" in str(raised.value)
    assert sides.api.read(*ROUTES, "api-server")["spec"] == kept


def test_a_holder_that_was_replaced_writes_nothing(sides: Sides) -> None:
    sides.route(pair(100, 0))
    shift = sides.stamped(traffic(sides))
    stamp(sides.client, shift.managed_paths()[0], Fence("staging", "recovery-2", 8))
    with pytest.raises(FencedError):
        shift.write(sides.fence, ALL_BLUE, TEN)
    assert shift.read() == ALL_BLUE


@pytest.mark.parametrize(
    ("said", "state", "found"),
    [
        ({"behind": 1}, "pending", "gateway web speaks of generation 0, and the route is at 1"),
        ({"ResolvedRefs": ("False", "BackendNotFound")}, "refused", "ResolvedRefs is False (BackendNotFound)"),
        ({"Accepted": ("False", "NoMatchingParent")}, "refused", "Accepted is False (NoMatchingParent)"),
        ({"Accepted": ("False", "Pending")}, "pending", "Accepted is False (Pending)"),
        ({"Accepted": ("Unknown", "Pending")}, "pending", "Accepted is Unknown"),
        ({"PartiallyInvalid": ("True", "UnsupportedValue")}, "refused", "in part only"),
        ({"parents": ("other",)}, "pending", "gateway web says nothing of the route yet"),
        ({}, "effective", "accepted by web"),
    ],
)
def test_what_the_gateway_says_of_this_generation_counts(
    sides: Sides, said: dict[str, Any], state: str, found: str
) -> None:
    sides.route(pair(90, 10))
    sides.accept(**said)
    told = traffic(sides).effective(TEN)
    assert (told.state, found in told.found) == (state, True), told


def test_every_gateway_must_have_taken_it(sides: Sides) -> None:
    sides.route(pair(90, 10), parents=("web", "inner"))
    sides.accept(parents=("web",))
    assert "gateway inner says nothing" in traffic(sides).effective(TEN).found
    sides.accept(parents=("web", "inner"))
    assert traffic(sides).effective(TEN).state == "effective"


def test_a_route_without_a_gateway_is_refused(sides: Sides) -> None:
    sides.route(pair(90, 10), parents=())
    told = traffic(sides).effective(TEN)
    assert (told.state, "no parent" in told.found) == ("refused", True)


def test_a_side_with_weight_but_without_a_ready_pod_is_not_effective(sides: Sides) -> None:
    sides.route(pair(90, 10))
    sides.accept()
    for name in ("green-1", "green-2"):
        sides.ready(name, False)
    sides.settle()
    told = traffic(sides).effective(TEN)
    assert (told.state, told.found) == ("pending", "green has no ready Pod")
    # Without weight it need not have any.
    sides.api.merge(*ROUTES, "api-server", {"spec": {"rules": [pair(100, 0)]}})
    sides.accept()
    assert traffic(sides).effective(ALL_BLUE).state == "effective"


def test_weights_that_the_gateway_never_takes_end_the_wait_with_what_was_seen(sides: Sides) -> None:
    sides.route(pair(90, 10))
    sides.accept(behind=1)
    with pytest.raises(NotEffectiveError) as raised:
        traffic(sides).wait_effective(TEN, 1, ours)
    assert "not within 1 s: gateway web speaks of generation 0, and the route is at 1" in str(raised.value)


def test_a_refusal_ends_the_wait_at_the_second_look(sides: Sides) -> None:
    sides.route(pair(90, 10))
    sides.accept(ResolvedRefs=("False", "BackendNotFound"))
    looks: list[int] = []
    with pytest.raises(NotEffectiveError, match="BackendNotFound"):
        traffic(sides).wait_effective(TEN, 60, lambda: looks.append(1))
    assert len(looks) == 2


def test_weights_moved_by_somebody_else_during_the_wait_end_it(sides: Sides) -> None:
    sides.route(pair(50, 50))
    sides.accept()
    with pytest.raises(NotEffectiveError, match="somebody else moved it: it is api-server-blue 50 %"):
        traffic(sides).wait_effective(TEN, 60, ours)


def test_a_wait_ends_when_it_is_no_longer_ours(sides: Sides) -> None:
    sides.route(pair(90, 10))

    def lost() -> None:
        raise FencedError("x", "y", "z")

    with pytest.raises(FencedError):
        traffic(sides).wait_effective(TEN, 60, lost)


@contextmanager
def served_by_both(sides: Sides) -> Iterator[None]:
    """Let one Pod of each side really answer, at 127.0.0.2 and 127.0.0.3."""
    servers: list[ThreadingHTTPServer] = []
    for side, address in ((BLUE, "127.0.0.2"), (GREEN, "127.0.0.3")):
        for number in (1, 2):
            sides.ready(f"{side.name}-{number}", number == 1, address)
        port = servers[0].server_address[1] if servers else 0
        servers.append(ThreadingHTTPServer((address, port), type("Handler", (_Answer,), {"name": side.name})))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
    sides.target_port = int(servers[0].server_address[1])
    sides.settle()
    yield
    for server in servers:
        server.shutdown()
        server.server_close()


class _Answer(BaseHTTPRequestHandler):
    name = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.name.encode())

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def asked(address: str, times: int) -> list[str]:
    answers = []
    for _ in range(times):
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.request("GET", "/")
        answers.append(connection.getresponse().read().decode())
        connection.close()
    return answers


def test_requests_really_go_where_the_weights_say(sides: Sides) -> None:
    sides.route(pair(100, 0))
    with served_by_both(sides), SplittingProxy(NAMESPACE, "api-server") as proxy:
        shift = sides.stamped(traffic(sides))
        before = ALL_BLUE
        for percent in (10, 25, 50, 100):
            wanted = split_between(BLUE, GREEN, percent)
            shift.write(sides.fence, before, wanted)
            sides.accept()
            shift.wait_effective(wanted, 10, ours)
            wait_until(lambda expected=percent: proxy.weight(GREEN.service) == expected, "the proxy read the weights")
            answers = asked(proxy.address, 100)
            assert (answers.count("green"), answers.count("blue")) == (percent, 100 - percent)
            before = wanted
        assert proxy.failed == []
