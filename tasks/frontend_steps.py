"""The steps by which a release promotes its front end, and takes it back. Each can be done again: it looks at Vercel first."""

from datetime import timedelta

from core.errors import NightshiftError, PermanentError, TemporaryError
from core.evidence import Finding
from core.fence import FencedError
from core.frontend import BACK, PROMOTE, FrontendPlan, was_asked
from core.release_checks import API_CACHE_ITEM
from core.release_journal import Journal
from core.release_plan import release_id_of
from core.rollout_change import ForeignChangeError
from tasks import frontend
from tasks.cloudfront import invalidate
from tasks.frontend import frontend_of, move, read_standing
from tasks.public_address import ask_public, require_uncached
from tasks.recording import Notes, utc_now
from tasks.release_gates import pause
from tasks.release_run import Facts, ReleaseRun

# What the first try of the way back may take before the traffic goes back.
AT_ONCE_SECONDS = 45.0


class NotAskedError(ForeignChangeError):
    """Somebody else moved the domains before Vercel was asked to: the way back has nothing to do there."""

    def __init__(self, error: ForeignChangeError) -> None:
        super().__init__(error.attempted, error.on, f"{error.found}; the backend is new", error.next_step)
        self.facts: Facts = {"asked": 0}


def note_frontend(run: ReleaseRun, notes: Notes) -> Facts:
    """Put into the journal, before it is changed, which deployment is live. Raise ForeignChangeError when it is neither what the plan found nor what it wants."""
    plan = _planned(run)
    standing = read_standing(run)
    if set(standing.domains.values()) - {plan.before, plan.deployment}:
        raise frontend.theirs(plan, standing, forward=True)
    notes.add(facts={"domains": dict(standing.domains)})
    return {"before": plan.before, "live": standing.live or str(standing), "domains": ", ".join(plan.domains)}


def promote_frontend(run: ReleaseRun, notes: Notes) -> Facts:
    """All domains to the release's deployment, read back one by one."""
    plan, settings = _planned(run), frontend_of(run.release)
    try:
        standing = move(run, plan, forward=True, seconds=settings.minutes * 60.0)
    except FencedError:
        raise
    except ForeignChangeError as error:
        raise NotAskedError(error) from error
    except NightshiftError as error:
        told = f"the backend is new, and the front end is not: {plan.before} was live before"
        raise _partial(error, told, f"vercel promote {plan.deployment}") from error
    notes.add(facts={"domains": dict(standing.domains), "before": plan.before})
    return {"deployment": plan.deployment, "before": plan.before}


def invalidate_frontend(run: ReleaseRun, notes: Notes) -> Facts:
    """What CloudFront keeps of the other front end is thrown away, everywhere."""
    settings, journal = frontend_of(run.release), run.journal.journal
    distribution = settings.distribution or ""
    way = "back" if journal.goes_back else "forward"
    reference = f"nightshift-{run.environment.name}-{journal.release_id}-{way}"
    name = invalidate(
        distribution, settings.invalidate, reference, seconds=settings.minutes * 60.0, still_ours=run.still_ours
    )
    notes.add(facts={"distribution": distribution, "invalidation": name, "paths": list(settings.invalidate)})
    return {"invalidation": name, "reference": reference}


def ask_frontend(run: ReleaseRun, notes: Notes) -> Facts:
    """The public address answers, with the new front end where it can tell, and the API comes from no cache."""
    plan, settings = _planned(run), frontend_of(run.release)
    seen = ask_public(settings, plan.commit, run.still_ours)
    notes.add(facts=seen)
    if settings.commit_path is None or not plan.commit:
        told = "that the public address answers with this deployment was not seen: release.frontend.commit_path is not set, or the deployment tells no commit"
        notes.findings.append(Finding(severity="note", text=told))
    try:
        notes.add(facts={"api": require_uncached(settings)})
    except PermanentError as error:
        if API_CACHE_ITEM not in run.plan.waived:
            raise
        notes.findings.append(Finding(severity="warning", text=f"{error} (waived: {run.plan.waived[API_CACHE_ITEM]})"))
    return {"answered": seen["answered"]}


def takes_front_end_back(run: ReleaseRun) -> bool:
    """Whether the way back has anything to do with the front end: it was promoted, or was about to be, or nobody knows since the journal was lost."""
    plan, journal = run.plan.frontend, run.journal.journal
    if plan is None or plan.is_live:
        return False
    # A journal that a recovery made anew has the recovery's run.
    remade = journal.kind == "release" and release_id_of(journal.flow_run_id) != journal.release_id
    return journal.kind == "rollback" or remade or was_asked(journal)


def frontend_back_at_once(run: ReleaseRun, notes: Notes) -> Facts:
    """The first try, before the backend goes back. Whatever is in the way is told, and keeps nothing from going back."""
    try:
        standing = move(run, _planned(run), forward=False, seconds=AT_ONCE_SECONDS)
    except FencedError:
        raise
    except NightshiftError as error:
        told = f"the front end could not go back first; it is tried again after the backend: {error}"
        notes.findings.append(Finding(severity="warning", text=told))
        return {"back": 0}
    notes.add(facts={"domains": dict(standing.domains)})
    return {"back": 1}


def frontend_back(run: ReleaseRun, notes: Notes) -> Facts:
    """All domains to the deployment that was live before, read back one by one.

    What somebody else put there meanwhile is left as it is, and raised; a person's decision to go back (release-recovery) after that lets it be.
    """
    plan, settings, journal = _planned(run), frontend_of(run.release), run.journal.journal
    pause(run, _seconds_until_late(journal))
    try:
        standing = move(run, plan, forward=False, seconds=settings.minutes * 60.0)
    except FencedError:
        raise
    except ForeignChangeError as error:
        if not _was_decided(journal, error.found):
            told = "the backend is old, and the front end is somebody else's"
            leave = (
                f"nightshift release-recovery {run.environment.name} {journal.release_id} --decision back --reason …"
            )
            next_step = f"vercel rollback {plan.before}; or leave it so: {leave}"
            raise _partial(error, told, next_step) from error
        notes.findings.append(Finding(severity="warning", text=f"left as it is, by a person's decision: {error.found}"))
        return {"left": 1}
    except NightshiftError as error:
        told = f"the backend is old, and the front end may be the new one, {plan.deployment}"
        raise _partial(
            error, told, f"vercel rollback {plan.before}; release-recovery tries again every two minutes"
        ) from error
    notes.add(facts={"domains": dict(standing.domains)})
    return {"deployment": plan.before}


def _planned(run: ReleaseRun) -> FrontendPlan:
    if run.plan.frontend is None:
        raise PermanentError("promote the front end", run.plan.release_id, "its plan has none")
    return run.plan.frontend


def _partial(error: NightshiftError, told: str, by_hand: str) -> NightshiftError:
    """The same error, which says how backend and front end stand together, and what to do."""
    kind = TemporaryError if isinstance(error, TemporaryError) else type(error)
    return kind(
        error.attempted, error.on, f"{error.found}; {told}", f"{error.next_step}. By hand: {by_hand}".lstrip(". ")
    )


def _seconds_until_late(journal: Journal) -> float:
    """How long a promotion that nobody saw an answer to may still arrive: seen too early the domains would move after it was said that they are back."""
    last = next((one for one in reversed(journal.entries) if one.step == PROMOTE), None)
    if last is None or last.event == "done":
        return 0.0
    return max(0.0, (last.at + timedelta(seconds=frontend.LATE_SECONDS) - utc_now()).total_seconds())


def _was_decided(journal: Journal, found: str) -> bool:
    """Whether a person, once told of just this, decided to go back all the same."""
    decided = [one.number for one in journal.entries if one.event == "decided" and one.facts.get("what") == "go back"]
    told = [
        one.number
        for one in journal.entries
        if one.event == "failed" and one.step == BACK and found in str(one.facts.get("why", ""))
    ]
    return bool(told and decided) and min(told) < max(decided)
