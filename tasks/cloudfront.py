"""CloudFront: what a distribution keeps is invalidated, and waited for."""

import time
from collections.abc import Callable, Sequence

from core.errors import PermanentError, TemporaryError
from tasks.aws import aws_client, aws_errors

POLL_SECONDS = 5.0


def invalidate(
    distribution: str, paths: Sequence[str], reference: str, *, seconds: float, still_ours: Callable[[], None]
) -> str:
    """Invalidate paths of a distribution, wait until that is done everywhere, and return the invalidation's id.

    reference: the same one is the same invalidation, however often it is asked for (CloudFront API, CreateInvalidation, CallerReference). Raise PermanentError when
    the role may not or there is no such distribution, TemporaryError when AWS stays away or the time is over.
    """
    client = aws_client("cloudfront", "us-east-1")
    missing = PermanentError(
        "invalidate CloudFront", distribution, "there is no such distribution", "Correct release.frontend.distribution"
    )
    batch = {"Paths": {"Quantity": len(paths), "Items": list(paths)}, "CallerReference": reference}
    try:
        with aws_errors(
            "invalidate CloudFront",
            distribution,
            "cloudfront:CreateInvalidation",
            missing={"NoSuchDistribution": missing},
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
