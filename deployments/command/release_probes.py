"""What `nightshift check` looks at for releases: the cluster, its namespaces, our rights, the workloads and the registry; beside it the front end. Nothing is changed."""

from collections.abc import Iterator
from functools import partial

from core.checks import Check
from core.environment import Environment
from core.environment_release import Release, Workload
from core.image_reference import parse_reference
from core.release_plan import images_of
from deployments.command.frontend_probes import frontend_probes
from deployments.command.probe import LONG_SECONDS, Probe, row
from tasks.kubernetes_answers import ForbiddenError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.release_rights import check_rights_of_file
from tasks.release_world import find_target
from tasks.web_api import WebApi

CLUSTER, REGISTRY, RIGHTS = "release: cluster", "release: registry", "release: rights"


def release_probes(environment: Environment) -> list[Probe]:
    """Given an environment, return what is tried for its table [release]; nothing when it has none."""
    release = environment.release
    if release is None:
        return []
    return [
        Probe(CLUSTER, partial(_look_at_cluster, release), LONG_SECONDS),
        Probe(REGISTRY, partial(_look_at_registries, release), LONG_SECONDS),
        *frontend_probes(release),
    ]


def _look_at_cluster(release: Release) -> Iterator[Check]:
    with KubernetesClient.open(release.context) as client:
        version = client.get("/version")
        yield Check(name=CLUSTER, state="passed", found=f"{client.address}, Kubernetes {version.get('gitVersion')}")
        for key, namespace in (("namespace", release.namespace), ("control_namespace", release.control_namespace)):
            yield row(f"release: {key}", partial(_look_at_namespace, client, key, namespace))
        yield row(RIGHTS, lambda: check_rights_of_file(client, release).model_copy(update={"name": RIGHTS}))
        for workload in release.workloads:
            yield row(f"release: {workload.key}", partial(_look_at_workload, client, release, workload))


def _look_at_workload(client: KubernetesClient, release: Release, workload: Workload) -> Check:
    target = find_target(client, release, workload, "")
    runs = images_of(target.before)
    found = ", ".join(runs[one] for one in target.containers)
    return Check(name=f"release: {workload.key}", state="passed", found=f"runs {found}")


def _look_at_namespace(client: KubernetesClient, key: str, namespace: str) -> Check:
    name = f"release: {key}"
    try:
        client.get(f"/api/v1/namespaces/{namespace}")
    except MissingError:
        return Check(
            name=name,
            state="failed",
            found=f"{namespace}: there is no such namespace",
            next_step=f"kubectl create namespace {namespace}, or correct release.{key}",
        )
    except ForbiddenError:
        # Releases do without this right.
        return Check(name=name, state="warning", found=f"{namespace}: our account may not look whether it exists")
    return Check(name=name, state="passed", found=f"{namespace} is there")


def _look_at_registries(release: Release) -> Iterator[Check]:
    if release.registry.kind == "none":
        found = "release.registry.kind is none: no tag is looked up; a release takes a digest"
        yield Check(name=REGISTRY, state="passed", found=found)
        return
    repositories = [release.repository, *(one.repository for one in release.workloads if one.repository)]
    if release.migration is not None and release.migration.repository:
        repositories.append(release.migration.repository)
    addresses = {release.registry.address or f"https://{parse_reference(one).registry_host}" for one in repositories}
    for address in sorted(addresses):
        yield row(REGISTRY, partial(_look_at_registry, address))


def _look_at_registry(address: str) -> Check:
    # As the distribution specification has it ("Determining Support"): 200, or 401 where one signs in first.
    with WebApi(address, what="the registry", sleep=lambda _seconds: None) as api:
        answer = api.get("/v2/", accepted=frozenset({401, 403}))
    signs_in = "" if answer.status == 200 else "; whether we may pull shows when a tag is looked up"
    return Check(name=REGISTRY, state="passed", found=f"{address} answers {answer.status}{signs_in}")
