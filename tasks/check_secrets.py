"""Item secrets of the checklist: what the new version needs is there, synced and fresh. Values are never kept, told or compared."""

from datetime import timedelta

from core.environment_checks import NamedSecret, SecretsCheck
from core.external_secrets import external_secret_problem
from core.release_checks import ReleaseCheck, not_configured, verdict
from core.units import counted
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_kinds import find_kind
from tasks.preflight_item import Preflight, asked


@asked("secrets")
def check_secrets(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the ExternalSecrets are Ready, synced and fresh, and the named Secrets have their keys."""
    settings = preflight.release.checks.secrets
    if settings is None or not (settings.external or settings.named):
        return not_configured("secrets", "nobody said which Secrets are needed", "Write [release.checks.secrets]")
    if not settings.external and not settings.read_secrets:
        return not_configured("secrets", "Secrets are not read (read_secrets = false), and no ExternalSecret is named")
    problems = [*_external(preflight, settings), *(_named(preflight, settings) if settings.read_secrets else ())]
    looked = (
        [counted(len(settings.external), "ExternalSecret") + " ready, synced and fresh"] if settings.external else []
    )
    if settings.named:
        unread = "not looked into: read_secrets = false"
        looked.append(
            f"{counted(len(settings.named), 'Secret')} {'with every key' if settings.read_secrets else unread}"
        )
    return verdict(
        "secrets",
        problems,
        "; ".join(looked),
        "Look at the ExternalSecret's events and at its store; or correct [release.checks.secrets]",
        external=list(settings.external),
        named=[one.name for one in settings.named] if settings.read_secrets else [],
    )


def _external(preflight: Preflight, settings: SecretsCheck) -> list[str]:
    if not settings.external:
        return []
    kind = find_kind(preflight.client, "ExternalSecret")
    problems = []
    for name in settings.external:
        try:
            document = preflight.client.get(kind.path(preflight.namespace, name))
        except MissingError:
            problems.append(f"ExternalSecret {name} does not exist")
            continue
        most = timedelta(hours=settings.refreshed_hours)
        if problem := external_secret_problem(document, preflight.clock(), most):
            problems.append(f"ExternalSecret {name} {problem}")
    return problems


def _named(preflight: Preflight, settings: SecretsCheck) -> list[str]:
    kind = find_kind(preflight.client, "Secret")
    return [
        problem
        for one in settings.named
        if (problem := _secret_problem(preflight, kind.path(preflight.namespace, one.name), one))
    ]


def _secret_problem(preflight: Preflight, path: str, named: NamedSecret) -> str:
    try:
        # Only the keys that have a value leave this line.
        filled = {key for key, value in (preflight.client.get(path).get("data") or {}).items() if value}
    except MissingError:
        return f"Secret {named.name} does not exist"
    missing = [key for key in named.keys if key not in filled]
    return f"Secret {named.name} lacks {', '.join(missing)}, or it is empty" if missing else ""
