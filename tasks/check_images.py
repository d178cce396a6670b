"""Items rollback-target and staging of the checklist: the old image can be had again, and the new one was tried."""

from core.environment_release import Workload
from core.image_reference import is_digest, manifest_digest, parse_reference
from core.live_image import rolled_out
from core.release_checks import ReleaseCheck, not_configured, verdict
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.live_images import read_live_image
from tasks.preflight_item import Preflight, asked
from tasks.registry import resolve_image


@asked("rollback-target")
def check_rollback_target(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the live image of each Deployment is known by its digest, and its registry still has it."""
    targets: dict[str, str] = {}
    problems = []
    for workload in preflight.deployments:
        known = preflight.live.get(workload.key, "")
        image = f"{_repository(preflight, workload)}@{known}" if is_digest(known) else known
        if not manifest_digest(image):
            image, problem = _live(preflight, workload)
            problems += [problem] if problem else []
        if image:
            targets[workload.key] = image
    if not problems and preflight.release.registry.kind == "none":
        return not_configured(
            "rollback-target",
            f'live: {", ".join(targets.values())}; registry.kind = "none", so nobody asked whether it can be pulled',
        )
    for key, image in targets.items():
        reference = parse_reference(image)
        own = {parse_reference(one).domain for one in _repositories(preflight)}
        if reference.domain not in own:
            # Our password is for the release's registries only.
            problems.append(f"{key}: {image} lies in another registry than the release's, which is not asked")
            continue
        resolve_image(preflight.environment, preflight.release, reference.repository, str(reference.digest))
    return verdict(
        "rollback-target",
        problems,
        f"can be pulled: {', '.join(f'{key} {image}' for key, image in targets.items())}",
        "Without it a rollback finds no image: push it again, or deploy it by digest first",
        targets=dict(targets),
    )


@asked("staging")
def check_staging(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether staging's Deployments run the same digest, or were rolled out with it to the end and have no Pods now."""
    settings = preflight.release.checks.staging
    if settings is None:
        return not_configured("staging", "nobody compared with staging", "Write [release.checks.staging]")
    if settings.context is None:
        return _staging(preflight, preflight.client, settings.namespace)
    with KubernetesClient.open(settings.context) as client:
        return _staging(preflight, client, settings.namespace)


def _staging(preflight: Preflight, client: KubernetesClient, namespace: str) -> ReleaseCheck:
    problems = []
    found: dict[str, str] = {}
    for workload in preflight.deployments:
        image = preflight.images.get(workload.key)
        if image is None:
            problems.append(f"{workload.key}: its new image is not known")
            continue
        try:
            deployment, live = read_live_image(client, namespace, workload)
        except MissingError:
            problems.append(f"{workload.key} does not exist in {namespace}")
            continue
        none_run = not live.images and not live.unknown
        was = none_run and rolled_out(deployment) and manifest_digest(live.template) == image.digest
        found[workload.key] = ", ".join(live.images) or (live.template if was else "")
        if live.unknown or (live.digests != {image.digest} and not was):
            also = f", and {live.unknown} Pods by no digest" if live.unknown else ""
            problems.append(f"{workload.key} runs {found[workload.key] or 'nothing'}{also}, not {image.digest}")
    return verdict(
        "staging",
        problems,
        f"{namespace} has the same: {', '.join(found)}",
        "Release it to staging first",
        namespace=namespace,
        images=dict(found),
    )


def _repository(preflight: Preflight, workload: Workload) -> str:
    return workload.repository or preflight.release.repository


def _repositories(preflight: Preflight) -> set[str]:
    return {_repository(preflight, workload) for workload in preflight.release.workloads}


def _live(preflight: Preflight, workload: Workload) -> tuple[str, str]:
    """A Deployment's live image by digest ("" when it is not known), and what is wrong with it."""
    try:
        _, live = read_live_image(preflight.client, preflight.namespace, workload)
    except MissingError:
        return "", f"{workload.key} does not exist: nothing is live"
    if live.unknown:
        return (
            "",
            f"{workload.key}: {live.unknown} ready Pods run an image that no registry has by a digest ({live.template})",
        )
    if len(live.digests) > 1:
        return "", f"{workload.key} runs several images at once: {', '.join(live.images)}"
    image = live.images[0] if live.images else live.template
    return (image, "") if manifest_digest(image) else ("", f"{workload.key} has no ready Pod, and {image} is no digest")
