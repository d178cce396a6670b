"""The checklist before a release, in order: each item a plain function, which a flow wraps as a step of its own with its row of evidence.

No item changes anything. An item that could not be asked is failed; one that nobody configured says so and is no pass (core.release_checks).
"""

from dataclasses import dataclass

from core.release_checks import API_CACHE_ITEM, ReleaseCheck, not_configured
from tasks.check_capacity import check_capacity, check_nodes
from tasks.check_ci import check_ci, check_scan
from tasks.check_documentation import check_documentation
from tasks.check_frontend import check_api_cache, check_frontend
from tasks.check_images import check_rollback_target, check_staging
from tasks.check_monitoring import check_baseline, check_monitoring
from tasks.check_posture import check_cloudfront, check_security_groups, check_web_acl
from tasks.check_recovery import check_proof_age, check_recovery_point
from tasks.check_secrets import check_secrets
from tasks.preflight_item import Look, Preflight, asked

__all__ = ["ITEMS", "Item", "Preflight", "check_rehearsal"]


@dataclass(frozen=True)
class Item:
    """One item: its name (in `skip_checks`, reports and evidence), its title for people, and the function that looks."""

    name: str
    title: str
    look: Look


@asked("rehearsal")
def check_rehearsal(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether its migration was tried on a restored copy: it was not, which is a finding and never a pass."""
    migration = preflight.release.migration
    if migration is None:
        return not_configured("rehearsal", "there is no [release.migration]: nothing to rehearse")
    return not_configured(
        "rehearsal",
        f"not rehearsed: nobody tried the migration on a restored copy of {migration.database}",
        "Restore the newest backup side by side (nightshift restore), and migrate that first",
    )


ITEMS: tuple[Item, ...] = (
    Item("ci", "CI of the commit", check_ci),
    Item("scan", "Security scan of the image", check_scan),
    Item("staging", "Staging mirrors production", check_staging),
    Item("documentation", "The change is written down", check_documentation),
    Item("secrets", "Secrets present, synced, fresh", check_secrets),
    Item("recovery-point", "Age of the newest decoded backup", check_recovery_point),
    Item("proof-age", "Age of the newest proven backup", check_proof_age),
    Item("rehearsal", "The migration was rehearsed", check_rehearsal),
    Item("rollback-target", "The live image can be had again", check_rollback_target),
    Item("capacity", "Room in quotas and autoscalers", check_capacity),
    Item("nodes", "Room on the nodes", check_nodes),
    Item("monitoring", "Prometheus, its rules and targets", check_monitoring),
    Item("baseline", "Figures of the running version", check_baseline),
    Item("security-groups", "Ports open to the internet", check_security_groups),
    Item("web-acl", "Web ACL with a rate-based rule", check_web_acl),
    Item("frontend", "The front end's deployment and domains", check_frontend),
    Item(API_CACHE_ITEM, "The API comes from no cache", check_api_cache),
    Item("cloudfront", "Paths that CloudFront must not cache", check_cloudfront),
)
