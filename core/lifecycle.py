"""What a bucket's own rules (lifecycle, versioning, object lock) would do to backups: pure functions of what S3 answers.

Source of the rules' meaning: Amazon S3 User Guide, "Lifecycle configuration elements" and "Using S3 Object Lock". A rule is the dictionary that
GetBucketLifecycleConfiguration returns; a disabled one does nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from core.checks import Check
from core.environment import Retention
from core.keys import evidence_folder, releases_folder, restores_folder, watches_folder

# A restore from these takes minutes to hours, so decode, drill and restore would fail. GLACIER_IR is read at once.
NOT_READABLE_AT_ONCE = frozenset({"GLACIER", "DEEP_ARCHIVE"})

NAME = "lifecycle rules"
_FIX = "Change the rule so that it leaves {folders} out; nightshift deletes backups itself"

State = Literal["passed", "warning", "failed"]


class _Effect(NamedTuple):
    state: State
    found: str


def longest_needed_days(policy: Retention) -> int:
    """Given a retention policy, return for how many days a backup may be needed: twice its days (runs may fail for a while), or its longest generation."""
    return max(2 * policy.days, policy.keep_daily, 7 * policy.keep_weekly, 31 * policy.keep_monthly)


def check_lifecycle(
    rules: Sequence[Mapping[str, Any]], folders: Sequence[str], prefix: str, policy: Retention
) -> list[Check]:
    """Given a bucket's lifecycle rules, the databases' folders (with a slash at their end), the environment's prefix and the retention policy, return one check
    for each thing that a rule does to backups, or where it leaves those alone, to what else is kept; or one that passed.
    """
    checks, records = [], _records(prefix)
    for number, rule in enumerate(rules, start=1):
        name = f"rule {rule.get('ID') or number} (on {_prefix(rule) or 'the whole bucket'})"
        touched = [folder for folder in folders if rule_touches(rule, folder)]
        effects = [*_expiration(rule, policy), *_transitions(rule, policy)] if touched else []
        if not touched:
            touched = [folder for folder in records if rule_touches(rule, folder)]
            effects = [effect for folder in touched for effect in _on_records(rule, *records[folder])]
        checks += [
            Check(
                name=NAME,
                state=effect.state,
                found=f"{name} {effect.found}",
                next_step=_FIX.format(folders=", ".join(touched)),
            )
            for effect in effects
        ]
    return checks or [Check(name=NAME, state="passed", found="no rule expires or archives what is ours")]


def _records(prefix: str) -> Mapping[str, tuple[str, str]]:
    """The folders of what is kept beside backups, each with what it holds, and what does not work without."""
    return {
        evidence_folder(prefix): ("reports", "`nightshift evidence verify` fails without them"),
        releases_folder(prefix): (
            "plans and ends of releases",
            "an older release can be neither recovered nor taken back",
        ),
        watches_folder(prefix): ("what watches saw", "one that goes on could not be told to its end"),
        restores_folder(prefix): (
            "records of restored copies",
            "one that is older can be neither swapped in nor taken back",
        ),
    }


def rule_touches(rule: Mapping[str, Any], folder: str) -> bool:
    """Given a rule and a folder's key (with its slash), return whether the rule can apply to an object in it.

    nightshift's objects carry no tags, so a rule that asks for one never does. A rule with a size bound can: a backup has objects of every size, and
    the loss of one is the loss of the backup.
    """
    if rule.get("Status") != "Enabled" or _tags(rule):
        return False
    prefix = _prefix(rule)
    return folder.startswith(prefix) or prefix.startswith(folder)


def expires_noncurrent(rules: Iterable[Mapping[str, Any]], folder: str) -> bool:
    """Given a bucket's rules and a folder, return whether one of them removes the noncurrent versions of everything in it."""
    return any(
        rule_touches(rule, folder)
        and folder.startswith(_prefix(rule))
        and not _sized(rule)
        and rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
        for rule in rules
    )


def check_versioning(status: str, rules: Iterable[Mapping[str, Any]], folder: str) -> Check:
    """Given the bucket's versioning status ("Enabled", "Suspended" or ""), its rules and our folder, return how deletions will turn out."""
    name = "versioning"
    if status not in ("Enabled", "Suspended"):
        return Check(name=name, state="passed", found="off: a deleted backup is gone")
    if expires_noncurrent(rules, folder):
        return Check(name=name, state="passed", found=f"{status.lower()}, and old versions of {folder} expire")
    return Check(
        name=name,
        state="warning",
        found=f"{status.lower()}, but no lifecycle rule removes old versions of {folder}: deleted backups stay and are paid for",
        next_step=f"Add a rule with NoncurrentVersionExpiration on {folder} (it does not touch current versions)",
    )


def check_object_lock(configuration: Mapping[str, Any] | None, lock_days: int, policy: Retention) -> Check:
    """Given the bucket's ObjectLockConfiguration (None: it has none), store.object_lock_days and the retention policy, return how they agree."""
    name = "object lock"
    enabled = configuration is not None and configuration.get("ObjectLockEnabled") == "Enabled"
    if lock_days and not enabled:
        return Check(
            name=name,
            state="failed",
            found=f"store.object_lock_days = {lock_days}, but object lock is not enabled on the bucket: each upload would be refused",
            next_step="Enable object lock on the bucket (it needs versioning), or set store.object_lock_days = 0",
        )
    default = (configuration or {}).get("Rule", {}).get("DefaultRetention", {}) if enabled else {}
    default_days = int(default.get("Days") or 365 * int(default.get("Years") or 0))
    longest = max(lock_days, default_days)
    if longest > policy.days:
        source = "store.object_lock_days" if lock_days == longest else "the bucket's default retention"
        return Check(
            name=name,
            state="warning",
            found=f"{source} is {longest} days, longer than retention.days = {policy.days}: deletions are reported as locked until then",
            next_step="Lower it, or raise retention.days to it",
        )
    return Check(name=name, state="passed", found=f"objects are locked for {longest} days" if longest else "not used")


def check_public_access(configuration: Mapping[str, Any]) -> Check:
    """Given the bucket's PublicAccessBlockConfiguration (empty: it has none), return whether all of public access is blocked."""
    name = "public access"
    parts = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    off = [part for part in parts if not configuration.get(part)]
    if not off:
        return Check(name=name, state="passed", found="blocked")
    return Check(
        name=name,
        state="warning",
        found=f"not blocked on the bucket: {', '.join(off)} off (the account may block it)",
        next_step="Switch on all of S3 Block Public Access for the bucket",
    )


def _filter(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen: Mapping[str, Any] = rule.get("Filter") or {}
    return {**chosen, **(chosen.get("And") or {})}


def _prefix(rule: Mapping[str, Any]) -> str:
    # Rules made before 2016 have the prefix beside the filter's place.
    return str(_filter(rule).get("Prefix") or rule.get("Prefix") or "")


def _tags(rule: Mapping[str, Any]) -> bool:
    chosen = _filter(rule)
    return bool(chosen.get("Tag") or chosen.get("Tags"))


def _sized(rule: Mapping[str, Any]) -> bool:
    chosen = _filter(rule)
    return "ObjectSizeGreaterThan" in chosen or "ObjectSizeLessThan" in chosen


def _expiration(rule: Mapping[str, Any], policy: Retention) -> list[_Effect]:
    expiration = rule.get("Expiration") or {}
    if expiration.get("Date"):
        return [_Effect("failed", f"expires everything from {expiration['Date']:%Y-%m-%d} on, the newest backup too")]
    days = expiration.get("Days")
    if days is None:
        # ExpiredObjectDeleteMarker only: removes markers, no data.
        return []
    needed = longest_needed_days(policy)
    if days < needed:
        return [
            _Effect(
                "failed",
                f"expires objects after {days} days, but a backup may be needed for {needed}: the last good one could go",
            )
        ]
    return [
        _Effect(
            "warning",
            f"expires objects after {days} days: also pinned backups, and the newest good one when no newer is made",
        )
    ]


def _on_records(rule: Mapping[str, Any], what: str, without: str) -> list[_Effect]:
    expiration = rule.get("Expiration") or {}
    expires = bool(expiration.get("Date") or expiration.get("Days"))
    classes = [str(one.get("StorageClass")) for one in rule.get("Transitions") or ()]
    archived = [
        f"moves {what} to {one}, which cannot be read at once" for one in classes if one in NOT_READABLE_AT_ONCE
    ]
    found = [f"expires {what}", *archived] if expires else archived
    return [_Effect("warning", f"{one}: {without}") for one in found]


def _transitions(rule: Mapping[str, Any], policy: Retention) -> list[_Effect]:
    effects = []
    for transition in rule.get("Transitions") or ():
        storage_class = transition.get("StorageClass")
        if storage_class not in NOT_READABLE_AT_ONCE:
            continue
        days = transition.get("Days")
        dated = transition.get("Date")
        when = f"from {dated:%Y-%m-%d} on" if dated else f"after {days or 0} days"
        state: State = "failed" if dated or (days or 0) < policy.days else "warning"
        effects.append(_Effect(state, f"moves objects to {storage_class} {when}, which cannot be read at once"))
    return effects
