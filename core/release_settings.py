"""The settings of an environment's [release] that a release is carried out by: part of its plan, so that who approved the plan approved them."""

import json

from core.canonical import canonical_bytes, sha256_hex
from core.environment_release import Release, Strategy
from core.manifest import Record, Sha256

# They change nothing of what is done once the plan is made: its images have digests, and how long somebody is waited for is nobody's risk.
_INDIFFERENT = {"registry", "approval_hours"}


class PlannedSettings(Record):
    """A digest of all settings that matter, and in words those that a person who approves should see."""

    sha256: Sha256
    told: str


def planned_settings(release: Release, strategy: Strategy) -> PlannedSettings:
    """Given the [release] table and the run's strategy, return both. Secret references are in the digest, secrets are not: the file holds none."""
    # A canonical document holds no floats.
    # Without a front end the digest is that of a version that knew none: an approval that waits through the upgrade stays valid.
    indifferent = _INDIFFERENT | ({"frontend"} if release.frontend is None else set())
    document = json.loads(release.model_dump_json(exclude=indifferent), parse_float=str)
    traffic, gates = release.traffic, release.gates
    if strategy == "blue-green":
        steps = f"steps {', '.join(f'{share} %' for share in traffic.shares)}, each soaks {traffic.soak_seconds} s"
        told = [steps, f"drain {release.drain_seconds} s", f"old side full for {release.keep_full_minutes} min"]
    else:
        told = [f"new Pods stay ready for {release.settle_seconds} s"]
    told.append(
        f"gates by health and metrics (errors up to {gates.error_ratio_max:.2%}, slow up to {gates.slow_ratio_max:.2%}, {gates.minimum_requests} requests)"
        if gates.metrics and gates.prometheus_url
        else "gates by health alone, no metrics"
    )
    told.append("asks for approval" if release.approval else "asks nobody")
    return PlannedSettings(sha256=sha256_hex(canonical_bytes(document)), told="; ".join(told))
