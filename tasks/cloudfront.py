"""CloudFront: a distribution is looked at; what it keeps is invalidated, and waited for."""

import time
from collections.abc import Callable, Sequence

from core.errors import NightshiftError, PermanentError, TemporaryError
from tasks.aws import aws_client, aws_errors

POLL_SECONDS = 5.0


def read_distribution(distribution: str) -> str:
    """Given a distribution's id, return its state in words. Raise as `invalidate`. Nothing is changed."""
    attempted = "read the distribution"
    client = aws_client("cloudfront", "us-east-1")
    try:
        with aws_errors(
            attempted, distribution, "cloudfront:GetDistribution", missing=_missing(attempted, distribution)
        ):
            found = client.get_distribution(Id=distribution)["Distribution"]
    finally:
        client.close()
    switched = "" if found.get("DistributionConfig", {}).get("Enabled", True) else ", switched off"
    return f"{found.get('Status', 'there')}{switched}"


def _missing(attempted: str, distribution: str) -> dict[str, NightshiftError]:
    found, next_step = "there is no such distribution", "Correct release.frontend.distribution"
    return {"NoSuchDistribution": PermanentError(attempted, distribution, found, next_step)}


def invalidate(
    distribution: str, paths: Sequence[str], reference: str, *, seconds: float, still_ours: Callable[[], None]
) -> str:
    """Invalidate paths of a distribution, wait until that is done everywhere, and return the invalidation's id.

    reference: the same one is the same invalidation, however often it is asked for (CloudFront API, CreateInvalidation, CallerReference). Raise PermanentError when
    the role may not or there is no such distribution, TemporaryError when AWS stays away or the time is over.
    """
    client = aws_client("cloudfront", "us-east-1")
    batch = {"Paths": {"Quantity": len(paths), "Items": list(paths)}, "CallerReference": reference}
    try:
        with aws_errors(
            "invalidate CloudFront",
            distribution,
            "cloudfront:CreateInvalidation",
            missing=_missing("invalidate CloudFront", distribution),
        ):
            name = str(
                client.create_invalidation(DistributionId=distribution, InvalidationBatch=batch)["Invalidation"]["Id"]
            )
        ends = time.monotonic() + seconds
        while True:
            with aws_errors("wait for CloudFront", distribution, "cloudfront:GetInvalidation"):
                found = client.get_invalidation(DistributionId=distribution, Id=name)["Invalidation"]["Status"]
            if str(found).lower() == "completed":
                return name
            if time.monotonic() >= ends:
                told = f"invalidation {name} is {found} after {seconds / 60:.0f} min"
                raise TemporaryError("wait for CloudFront", distribution, told, "Look at it in CloudFront")
            still_ours()
            time.sleep(POLL_SECONDS)
    finally:
        client.close()
