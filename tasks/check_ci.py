"""Items ci and scan of the checklist: what was said of the commit and of the image before."""

from datetime import datetime, timedelta
from typing import Any

from core.ci_checks import ci_problems
from core.environment_checks import ScanCheck
from core.errors import PermanentError
from core.image_reference import ResolvedImage, parse_reference
from core.release_checks import ReleaseCheck, not_configured, verdict
from core.units import counted, human_age
from tasks.aws import aws_client, aws_errors
from tasks.github_checks import read_commit_checks
from tasks.preflight_item import Preflight, asked
from tasks.registry_ecr import ecr_place

# From the least on; UNDEFINED and UNTRIAGED are not ranked by AWS and are only told.
_SEVERITIES = ("INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
# COMPLETE: basic scanning. ACTIVE: enhanced scanning goes on and on ("Image scanning" in ECR's user guide).
_SCANNED = frozenset({"COMPLETE", "ACTIVE"})


@asked("ci")
def check_ci(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the checks of its commit are good."""
    settings = preflight.release.checks.ci
    if settings is None:
        return not_configured("ci", "nobody asked GitHub about the commit", "Write [release.checks.ci]")
    checks = read_commit_checks(settings, preflight.commit)
    problems = ci_problems(checks, settings.required, settings.ignored)
    good = sum(1 for check in checks if check.outcome == "success")
    return verdict(
        "ci",
        problems,
        f"commit {preflight.commit[:12]}: {counted(good, 'check')} of {len(checks)} succeeded, none failed"
        + (f"; required: {', '.join(settings.required)}" if settings.required else ""),
        "Mend the commit, or wait for its checks",
        commit=preflight.commit,
        repository=settings.repository,
        checks={check.name: check.outcome for check in checks[:100]},
    )


@asked("scan")
def check_scan(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the security scan of its images is good."""
    settings = preflight.release.checks.scan
    if settings is None:
        return not_configured("scan", "nobody asked for a security scan", "Write [release.checks.scan]")
    if settings.kind == "ecr":
        return _ecr_scan(preflight, settings)
    ci = preflight.release.checks.ci
    name = str(settings.name)
    if ci is None:
        return not_configured("scan", "there is no [release.checks.ci]", "Write it")
    problems = ci_problems(read_commit_checks(ci, preflight.commit), (name,), ())
    return verdict("scan", problems, f"{name} succeeded", "Look at the scan", commit=preflight.commit, name=name)


def _ecr_scan(preflight: Preflight, settings: ScanCheck) -> ReleaseCheck:
    problems: list[str] = []
    counts: dict[str, dict[str, int]] = {}
    for image in {one.pinned: one for one in preflight.images.values()}.values():
        found = _findings(preflight, image)
        status = found.get("imageScanStatus") or {}
        findings = found.get("imageScanFindings") or {}
        counts[image.pinned] = {
            str(name): int(many) for name, many in (findings.get("findingSeverityCounts") or {}).items()
        }
        if status.get("status") not in _SCANNED:
            problems.append(
                f"{image.pinned}: the scan is {status.get('status')}: {status.get('description') or ''}".rstrip(": ")
            )
            continue
        problems += [
            f"{image.pinned}: {problem}"
            for problem in _judged(counts[image.pinned], findings, settings, preflight.clock())
        ]
    if not counts:
        problems.append("no image is known")
    return verdict(
        "scan",
        problems,
        f"{counted(len(counts), 'image')} scanned by ECR, nothing of {settings.fail_at} or higher",
        "Look at the findings in ECR; build the image anew on a mended base",
        findings={name: dict(each) for name, each in counts.items()},
    )


def _judged(counts: dict[str, int], findings: dict[str, Any], settings: ScanCheck, now: datetime) -> list[str]:
    high = _SEVERITIES[_SEVERITIES.index(settings.fail_at) :]
    bad = [f"{counts[name]} {name}" for name in reversed(high) if counts.get(name)]
    problems = [f"findings: {', '.join(bad)}"] if bad else []
    completed = findings.get("imageScanCompletedAt")
    if not isinstance(completed, datetime):
        problems.append("it does not say when the scan was")
    elif now - completed > timedelta(days=settings.age_days):
        problems.append(f"the scan is {human_age(now - completed)} old; the limit is {settings.age_days} days")
    return problems


def _findings(preflight: Preflight, image: ResolvedImage) -> dict[str, Any]:
    reference = parse_reference(image.repository)
    account, region = ecr_place(preflight.release.registry, reference)
    never = PermanentError(
        "read the scan",
        image.pinned,
        "the image was never scanned",
        "Switch scanning on push on; an index of several platforms is not scanned itself: release one platform's digest",
    )
    with aws_errors(
        "read the scan", image.pinned, "ecr:DescribeImageScanFindings", missing={"ScanNotFoundException": never}
    ):
        answer: dict[str, Any] = aws_client("ecr", region).describe_image_scan_findings(
            registryId=account,
            repositoryName=reference.path,
            imageId={"imageDigest": image.digest},
            maxResults=1,
        )
    return answer
