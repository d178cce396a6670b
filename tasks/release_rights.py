"""Whether the account that releases run by has the rights that they need, before anything is changed."""

from collections.abc import Iterable

from core.access_right import AccessRight
from core.checks import Check
from core.environment_release import Release
from core.release_rights import rights_for
from tasks.access_review import lacking_rights
from tasks.kubernetes_client import KubernetesClient

NAME = "rights in the cluster"
_NEXT = "Apply deployments/kubernetes/rbac.yaml, with the namespaces of the environment's file"


def check_rights(
    client: KubernetesClient, release: Release, *, secrets: Iterable[str] = (), external_secrets: bool = False
) -> Check:
    """Given the settings of releases and the Secrets that the checklist looks at, check our rights. Every missing verb and resource is named.

    Without an optional one it warns: the release can be made, and less is looked at.
    """
    named = tuple(secrets)
    wanted = rights_for(release, secrets=named, external_secrets=external_secrets)
    if lacking := lacking_rights(client, wanted):
        return Check(name=NAME, state="failed", found=f"our account may not {_in_words(lacking)}", next_step=_NEXT)
    extra = rights_for(release, secrets=named, external_secrets=external_secrets, optional=True)
    if lacking := lacking_rights(client, extra):
        found = f"our account may not {_in_words(lacking)}: what those would tell is not looked at"
        return Check(name=NAME, state="warning", found=found, next_step=_NEXT)
    return Check(name=NAME, state="passed", found=f"all {len(wanted) + len(extra)}")


def check_rights_of_file(client: KubernetesClient, release: Release, *, secrets: Iterable[str] = ()) -> Check:
    """As check_rights, for the Secrets that the file's checklist looks at and these besides."""
    settings = release.checks.secrets
    named = [one.name for one in settings.named] if settings is not None and settings.read_secrets else []
    return check_rights(
        client,
        release,
        secrets=(*named, *secrets),
        external_secrets=settings is not None and bool(settings.external),
    )


def _in_words(rights: tuple[AccessRight, ...]) -> str:
    return ", ".join(right.in_words() for right in rights)
