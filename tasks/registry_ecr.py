"""Which image a tag is in AWS ECR, by its own API and the worker's role."""

import hashlib
import re

from core.environment_release import Registry
from core.errors import ConfigurationError, IntegrityError, PermanentError
from core.image_reference import ImageReference
from tasks.aws import aws_client, aws_errors

# A private registry's host names its account and region ("Private registry" in ECR's user guide; FIPS and China are such hosts, too).
_HOST = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)"
)
_RIGHT = "ecr:BatchGetImage"


def ecr_digest(registry: Registry, reference: ImageReference, tag: str | None, digest: str | None) -> str:
    """Given a repository's name and a tag or a digest (which counts when both are given), return the digest of the image that ECR has.

    Raise PermanentError when there is none or it may not be read, IntegrityError when ECR answers something else, TemporaryError when it stays away.
    """
    account, region = ecr_place(registry, reference)
    asked = {"imageDigest": digest} if digest else {"imageTag": str(tag)}
    on = f"{reference.repository}, {digest or tag}"
    client = aws_client("ecr", region)
    gone = PermanentError(
        "look up the image", on, "there is no such repository", f"Look at release.repository, region {region}"
    )
    with aws_errors("look up the image", on, _RIGHT, missing={"RepositoryNotFoundException": gone}):
        answer = client.batch_get_image(registryId=account, repositoryName=reference.path, imageIds=[asked])
    images = answer.get("images") or []
    if not images:
        reason = "; ".join(
            str(one.get("failureReason") or one.get("failureCode")) for one in answer.get("failures") or []
        )
        raise PermanentError(
            "look up the image",
            on,
            reason or "ECR has no such image",
            "Look at the tag: was it built and pushed, and to this repository?",
        )
    found = str(images[0]["imageId"]["imageDigest"])
    manifest = str(images[0].get("imageManifest") or "")
    read = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    wrong = [one for one in (digest, read) if one is not None and one != found]
    if wrong:
        raise IntegrityError(
            "verify the image's manifest", on, f"ECR says {found}, and it is {wrong[0]}", "Nothing was changed"
        )
    return found


def ecr_place(registry: Registry, reference: ImageReference) -> tuple[str, str | None]:
    """Given an image's name, return account and region of its repository. Raise ConfigurationError when the host is not ECR's."""
    match = _HOST.fullmatch(reference.domain)
    if match is None:
        raise ConfigurationError(
            "look up the image",
            reference.repository,
            f"{reference.domain} is not a host of ECR, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            'Correct release.repository, or set release.registry.kind = "registry"',
        )
    return match["account"], registry.region or match["region"]
