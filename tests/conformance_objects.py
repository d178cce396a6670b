"""The checks of kubernetes_conformance that need no controller: writes, versions, subresources, watches."""

import threading

from tests.kubernetes_conformance import MERGE, STRATEGIC, Document, World, config_map, deployment

# No Pods: nothing runs for these.
IDLE = {"replicas": 0}


def a_taken_name_is_a_conflict(world: World) -> None:
    path = world.path("v1", "configmaps")
    assert world.ask("POST", path, config_map())[0] == 201
    code, answer = world.ask("POST", path, config_map())
    assert (code, answer["reason"]) == (409, "AlreadyExists")


def a_change_of_what_was_changed_meanwhile_is_a_conflict(world: World) -> None:
    made = world.make("v1", "configmaps", config_map(x="0"))
    path, version = world.path("v1", "configmaps", "a"), made["metadata"]["resourceVersion"]
    known = {"metadata": {"resourceVersion": version}, "data": {"x": "1"}}
    assert world.ask("PATCH", path, known, MERGE)[0] == 200
    for method, body, kind in (
        ("PATCH", {**known, "data": {"x": "2"}}, MERGE),
        ("PATCH", {**known, "data": {"x": "2"}}, STRATEGIC),
        ("PUT", {**made, "data": {"x": "2"}}, "application/json"),
    ):
        code, answer = world.ask(method, path, body, kind)
        assert (code, answer["reason"]) == (409, "Conflict")
    assert world.client.get(path)["data"] == {"x": "1"}


def a_put_replaces_all_but_the_identity(world: World) -> None:
    made = world.make("v1", "configmaps", config_map(x="0", y="0"))
    path = world.path("v1", "configmaps", "a")
    code, after = world.ask("PUT", path, config_map(x="1"))
    assert (code, after["data"], after["metadata"]["uid"]) == (200, {"x": "1"}, made["metadata"]["uid"])
    assert world.ask("PUT", world.path("v1", "configmaps", "b"), config_map("b"))[0] == 404


def a_write_that_changes_nothing_leaves_no_trace(world: World) -> None:
    made = world.make("v1", "configmaps", config_map(x="0"))
    path = world.path("v1", "configmaps", "a")
    same = world.client.merge(path, {"data": {"x": "0"}})
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    after = world.client.merge(path, {"data": {"x": None, "y": "1"}})
    assert after["data"] == {"y": "1"}
    assert int(after["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def a_dry_run_keeps_nothing(world: World) -> None:
    path = world.path("v1", "configmaps")
    assert world.client.create(path, config_map(x="0"), dry_run=True)["metadata"]["name"] == "a"
    assert world.ask("GET", f"{path}/a")[0] == 404
    made = world.make("v1", "configmaps", config_map(x="0"))
    assert world.client.merge(f"{path}/a", {"data": {"x": "1"}}, dry_run=True)["data"] == {"x": "1"}
    assert world.ask("DELETE", f"{path}/a?dryRun=All")[0] == 200
    there = world.client.get(f"{path}/a")
    assert (there["data"], there["metadata"]["resourceVersion"]) == ({"x": "0"}, made["metadata"]["resourceVersion"])


def an_object_is_deleted_only_with_its_own_uid(world: World) -> None:
    made = world.make("v1", "configmaps", config_map())
    path = world.path("v1", "configmaps", "a")
    code, answer = world.ask("DELETE", path, {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})
    assert (code, answer["reason"]) == (409, "Conflict")
    assert world.ask("DELETE", path, {"preconditions": {"uid": made["metadata"]["uid"]}})[0] == 200
    assert world.ask("GET", path)[0] == 404


def who_wrote_is_recorded(world: World) -> None:
    world.make("v1", "configmaps", config_map(x="0"))
    path = world.path("v1", "configmaps", "a")
    after = world.ask("PATCH", f"{path}?fieldManager=kubectl-set", {"data": {"x": "1"}}, MERGE)[1]
    managers = {entry["manager"]: entry for entry in after["metadata"]["managedFields"]}
    assert {"nightshift", "kubectl-set"} >= managers.keys() >= {"kubectl-set"}
    assert (managers["kubectl-set"]["operation"], bool(managers["kubectl-set"]["time"])) == ("Update", True)
    world.ask("PATCH", path, {"data": {"x": "2"}}, MERGE)
    assert "conformance" in {entry["manager"] for entry in world.client.get(path)["metadata"]["managedFields"]}


def a_strategic_merge_changes_one_container_and_keeps_the_other(world: World) -> None:
    two = deployment(world, world.first, **IDLE)
    two["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "proxy:1"})
    world.make("apps/v1", "deployments", two)
    path = world.path("apps/v1", "deployments", "api")

    def patched(*containers: Document) -> list[Document]:
        patch = {"spec": {"template": {"spec": {"containers": list(containers)}}}}
        after = world.client.merge(path, patch, strategic=True)
        return list(after["spec"]["template"]["spec"]["containers"])

    api, proxy = patched({"name": "api", "image": world.second, "env": [{"name": "B", "value": "3"}]})
    assert (api["image"], api["ports"][0]["containerPort"], proxy["image"]) == (world.second, 8080, "proxy:1")
    assert {each["name"]: each["value"] for each in api["env"]} == {"A": "1", "B": "3"}
    names = [each["name"] for each in patched({"name": "late", "image": "late:1"}, {"name": "last", "image": "last:1"})]
    assert names == ["late", "last", "api", "proxy"]
    gone = patched({"name": "late", "$patch": "delete"}, {"name": "last", "$patch": "delete"}, {"name": "proxy", "$patch": "delete"})  # fmt: skip
    assert [each["name"] for each in gone] == ["api"]


def a_merge_patch_replaces_lists_as_a_whole(world: World) -> None:
    world.make("apps/v1", "deployments", deployment(world, world.first, **IDLE))
    path = world.path("apps/v1", "deployments", "api")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "other:1"}]}}}}
    after = world.client.merge(path, patch)["spec"]["template"]["spec"]
    assert [(each["name"], each["image"], "env" in each) for each in after["containers"]] == [
        ("other", "other:1", False)
    ]
    assert after["terminationGracePeriodSeconds"] == 0


def the_generation_counts_changes_of_the_spec(world: World) -> None:
    made = world.make("apps/v1", "deployments", deployment(world, world.first, **IDLE))
    path = world.path("apps/v1", "deployments", "api")
    assert made["metadata"]["generation"] == 1
    for patch, generation in (
        ({"metadata": {"labels": {"a": "b"}}}, 1),
        ({"spec": {"progressDeadlineSeconds": 61}}, 2),
        ({"spec": {"progressDeadlineSeconds": 61}}, 2),
        # Of a Deployment, and of no other kind here, annotations count too: a stamp is a new generation, which is then to be observed.
        ({"metadata": {"annotations": {"a": "b"}}}, 3),
    ):
        assert world.client.merge(path, patch)["metadata"]["generation"] == generation
    route = world.make("gateway.networking.k8s.io/v1", "httproutes", http_route())
    assert route["metadata"]["generation"] == 1
    path = world.path("gateway.networking.k8s.io/v1", "httproutes", "api")
    assert world.client.merge(path, {"metadata": {"annotations": {"a": "b"}}})["metadata"]["generation"] == 1
    hosts = world.client.merge(path, {"spec": {"hostnames": ["a.example"]}})
    assert hosts["metadata"]["generation"] == 2


def status_and_the_rest_are_written_apart(world: World) -> None:
    world.make("gateway.networking.k8s.io/v1", "httproutes", {**http_route(), "status": {"parents": []}})
    path = world.path("gateway.networking.k8s.io/v1", "httproutes", "api")
    parents = [{"controllerName": "x.example/y", "parentRef": {"name": "gateway"}, "conditions": []}]
    told = world.client.merge(f"{path}/status", {"status": {"parents": parents}, "spec": {"hostnames": ["b.example"]}})
    assert [one["controllerName"] for one in told["status"]["parents"]] == ["x.example/y"]
    assert "hostnames" not in told["spec"]
    assert told["metadata"]["generation"] == 1
    after = world.client.merge(path, {"spec": {"hostnames": ["a.example"]}, "status": {"parents": []}})
    assert (after["status"], after["spec"]["hostnames"]) == (told["status"], ["a.example"])


def a_route_comes_back_with_its_defaults(world: World) -> None:
    route = http_route()
    route["spec"]["rules"][0]["backendRefs"] = [
        {"name": "blue", "port": 80, "weight": 90},
        {"name": "green", "port": 80},
    ]
    made = world.make("gateway.networking.k8s.io/v1", "httproutes", route)
    (rule,) = made["spec"]["rules"]
    backend = {"group": "", "kind": "Service", "port": 80}
    assert rule["backendRefs"] == [{**backend, "name": "blue", "weight": 90}, {**backend, "name": "green", "weight": 1}]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert made["spec"]["parentRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"},
    ]


def custom_resources_take_no_strategic_merge_and_no_blind_put(world: World) -> None:
    world.make("gateway.networking.k8s.io/v1", "httproutes", http_route())
    path = world.path("gateway.networking.k8s.io/v1", "httproutes", "api")
    assert world.ask("PATCH", path, {"spec": {"hostnames": ["a.example"]}}, STRATEGIC)[0] == 415
    assert world.ask("PATCH", path, {"spec": {"hostnames": ["a.example"]}}, "application/json")[0] == 415
    assert world.ask("PUT", path, http_route())[0] == 422


def the_scale_of_a_deployment_is_read_and_set_apart(world: World) -> None:
    made = world.make("apps/v1", "deployments", deployment(world, world.first, **IDLE, paused=True))
    path = world.path("apps/v1", "deployments", "api")
    scale = world.client.get(f"{path}/scale")
    assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {}, {"replicas": 0, "selector": "app=api"})
    assert scale["metadata"]["uid"] == made["metadata"]["uid"]
    after = world.client.merge(f"{path}/scale", {"spec": {"replicas": 3}})
    assert after["spec"] == {"replicas": 3}
    there = world.client.get(path)
    assert (there["spec"]["replicas"], there["metadata"]["generation"]) == (3, 2)
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"replicas": 4}}
    assert world.ask("PATCH", f"{path}/scale", stale, MERGE)[0] == 409
    known = {"metadata": {"resourceVersion": world.client.get(path)["metadata"]["resourceVersion"]}}
    # Its controller may write in between: the answer is one of both, never a blind success.
    assert world.ask("PATCH", f"{path}/scale", {**known, "spec": {"replicas": 0}}, MERGE)[0] in {200, 409}


def what_must_not_change_is_refused(world: World) -> None:
    world.make("apps/v1", "deployments", deployment(world, world.first, **IDLE))
    path = world.path("apps/v1", "deployments", "api")
    code, answer = world.ask("PATCH", path, {"spec": {"selector": {"matchLabels": {"app": "b"}}}}, MERGE)
    assert (code, answer["reason"]) == (422, "Invalid")
    strange = deployment(world, world.first, selector={"matchLabels": {"app": "other"}})
    assert world.ask("POST", world.path("apps/v1", "deployments"), {**strange, "metadata": {"name": "b"}})[0] == 422
    world.make("v1", "configmaps", {**config_map(x="0"), "immutable": True})
    assert world.ask("PATCH", world.path("v1", "configmaps", "a"), {"data": {"x": "1"}}, MERGE)[0] == 422


def a_lease_is_made_changed_and_never_put_blindly(world: World) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "production"},
        "spec": {"holderIdentity": "one", "leaseTransitions": 1},
    }
    made = world.make("coordination.k8s.io/v1", "leases", lease)
    path = world.path("coordination.k8s.io/v1", "leases", "production")
    version = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    after = world.client.merge(path, {**version, "spec": {"holderIdentity": "two"}})
    assert after["spec"] == {"holderIdentity": "two", "leaseTransitions": 1}
    assert world.ask("PATCH", path, {**version, "spec": {"holderIdentity": "three"}}, MERGE)[0] == 409
    assert world.ask("PUT", path, lease)[0] == 422
    lease["metadata"]["resourceVersion"] = after["metadata"]["resourceVersion"]
    assert world.ask("PUT", path, lease)[1]["spec"]["holderIdentity"] == "one"


def a_watch_sees_what_is_made_changed_and_deleted(world: World) -> None:
    path = world.path("v1", "configmaps")
    version = world.client.get(path)["metadata"]["resourceVersion"]

    def change() -> None:
        made = world.make("v1", "configmaps", config_map(x="0"))
        world.make("v1", "configmaps", config_map("b"))
        world.ask("PATCH", f"{path}/a", {"data": {"x": "1"}}, MERGE)
        world.ask("DELETE", f"{path}/a", {"preconditions": {"uid": made["metadata"]["uid"]}})

    other = threading.Thread(target=change)
    other.start()
    seen = []
    for document in world.client.watch(path, version, seconds=20, fieldSelector="metadata.name=a"):
        seen.append((document["data"], document.get("deleted", False), document["kind"]))
        if seen[-1][1]:
            break
    other.join()
    assert seen == [({"x": "0"}, False, "ConfigMap"), ({"x": "1"}, False, "ConfigMap"), ({"x": "1"}, True, "ConfigMap")]


def selectors_choose_by_labels_and_names(world: World) -> None:
    for name, labels in (("a", {"tier": "x"}), ("b", {"tier": "y", "old": "1"}), ("c", {})):
        world.make("v1", "configmaps", {**config_map(name), "metadata": {"name": name, "labels": labels}})
    path = world.path("v1", "configmaps")
    for selector, names in (
        ("tier=x", "a"),
        ("tier in (x,y)", "ab"),
        ("tier in (x,y),!old", "a"),
        ("old", "b"),
        ("tier notin (x)", "bc"),
        ("tier!=x", "bc"),
    ):
        found = [item["metadata"]["name"] for item in world.client.list(path, labelSelector=selector)]
        assert "".join(name for name in found if len(name) == 1) == names, selector
    assert [one["metadata"]["name"] for one in world.client.list(path, fieldSelector="metadata.name=b")] == ["b"]


def http_route() -> Document:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "api"},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [{"backendRefs": [{"name": "api", "port": 80, "weight": 100}]}],
        },
    }


CHECKS = (
    a_taken_name_is_a_conflict,
    a_change_of_what_was_changed_meanwhile_is_a_conflict,
    a_put_replaces_all_but_the_identity,
    a_write_that_changes_nothing_leaves_no_trace,
    a_dry_run_keeps_nothing,
    an_object_is_deleted_only_with_its_own_uid,
    who_wrote_is_recorded,
    a_strategic_merge_changes_one_container_and_keeps_the_other,
    a_merge_patch_replaces_lists_as_a_whole,
    the_generation_counts_changes_of_the_spec,
    status_and_the_rest_are_written_apart,
    a_route_comes_back_with_its_defaults,
    custom_resources_take_no_strategic_merge_and_no_blind_put,
    the_scale_of_a_deployment_is_read_and_set_apart,
    what_must_not_change_is_refused,
    a_lease_is_made_changed_and_never_put_blindly,
    a_watch_sees_what_is_made_changed_and_deleted,
    selectors_choose_by_labels_and_names,
)
