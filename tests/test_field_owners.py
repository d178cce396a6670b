"""Tools that track an object, and people whose change a release takes the place of."""

from typing import Any

import pytest

from core.errors import PermanentError
from core.field_owners import Displaced, check_trackers, displaced_managers, is_tracking_mark, trackers

Document = dict[str, Any]


def document(**metadata: Any) -> Document:
    return {"metadata": {"name": "api", **metadata}}


@pytest.mark.parametrize(
    ("metadata", "tool"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/api"}}, "argocd"),
        ({"labels": {"argocd.argoproj.io/instance": "shop"}}, "argocd"),
        (
            {"labels": {"app.kubernetes.io/instance": "shop"}, "managedFields": [{"manager": "argocd-controller"}]},
            "argocd",
        ),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "flux"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "api"}}, "flux"),
        ({"managedFields": [{"manager": "kustomize-controller"}]}, "flux"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "helm"),
        ({"annotations": {"meta.helm.sh/release-name": "api"}}, "helm"),
        ({"ownerReferences": [{"kind": "ScaledObject", "name": "api", "controller": True}]}, "owner"),
    ],
)
def test_a_tool_that_puts_things_back_is_found_and_refused_by_name(metadata: Document, tool: str) -> None:
    assert [one.tool for one in trackers(document(**metadata))] == [tool]
    with pytest.raises(PermanentError, match="keeps it as it has it"):
        check_trackers(document(**metadata), (), on="deployment/api")


def test_what_helm_charts_and_people_write_by_themselves_proves_no_tool() -> None:
    quiet = document(
        labels={"app.kubernetes.io/instance": "api", "app.kubernetes.io/managed-by": "kubectl"},
        ownerReferences=[{"kind": "Thing", "name": "x"}],
        managedFields=[{"manager": "kubectl-client-side-apply"}],
    )
    assert trackers(quiet) == ()


def test_the_environment_can_allow_a_tool_but_no_owner() -> None:
    helm = document(annotations={"meta.helm.sh/release-name": "api"})
    assert [one.tool for one in check_trackers(helm, ["helm"], on="x")] == ["helm"]
    with pytest.raises(PermanentError, match=r'add "helm" to release\.tracked_by_allowed'):
        check_trackers(helm, ["argocd"], on="x")
    owned = document(ownerReferences=[{"kind": "Rollout", "name": "api", "controller": True}])
    with pytest.raises(PermanentError, match="belongs to Rollout api"):
        check_trackers(owned, ["owner"], on="x")


def test_marks_of_tools_are_known_by_their_keys() -> None:
    marks = [
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "meta.helm.sh/release-name",
        "argocd.argoproj.io/x",
    ]
    assert all(is_tracking_mark(key) for key in marks)
    assert not is_tracking_mark("app.kubernetes.io/name")


def test_who_set_the_image_and_the_replicas_is_named() -> None:
    image = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"api"}': {".": {}, "f:image": {}}}}}}}
    applied = {"f:spec": {"f:replicas": {}, **image["f:spec"]}}
    fields = [
        {"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": applied},
        {"manager": "kubectl-set", "operation": "Update", "fieldsV1": image},
        {"manager": "kubectl-label", "operation": "Update", "fieldsV1": {"f:metadata": {}}},
        {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": applied},
        {"manager": "nightshift", "operation": "Update", "fieldsV1": applied},
    ]
    assert displaced_managers(document(managedFields=fields)) == (
        Displaced("kubectl-client-side-apply", "Update", ("replicas", "image of api")),
        Displaced("kubectl-set", "Update", ("image of api",)),
    )


def test_who_set_a_services_selector_and_an_autoscalers_minimum_is_named() -> None:
    service = {"f:spec": {"f:ports": {}, "f:selector": {"f:app": {}}}}
    fields = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": service},
        {"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {"f:spec": {"f:minReplicas": {}}}},
    ]
    assert [(one.manager, one.fields) for one in displaced_managers(document(managedFields=fields))] == [
        ("kubectl-edit", ("selector",)),
        ("kubectl-patch", ("minReplicas",)),
    ]
