"""The steps of a rollback before anything is changed."""

from core.environment import Environment
from core.errors import IntegrityError
from core.release_journal import Journal
from core.release_plan import ReleasePlan, images_of
from core.release_rollback import newest_release, require_compatible
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.object_store import ObjectMissingError
from tasks.release_journal import Journals
from tasks.release_records import read_plan
from tasks.release_run import release_of
from tasks.retrying import step
from tasks.secrets import signing_keys


def rollback_id_of(flow_run_id: str) -> str:
    """Given the id of a flow run, return the id of its rollback: the same for a run that is started again."""
    return f"b-{flow_run_id.replace('-', '')[:12]}"


@step("choose the release that is taken back")
def choose_release(environment_name: str, release_id: str) -> ReleasePlan:
    """The signed plan of the newest release. Raise PermanentError when it cannot be taken back, saying why and what can be done instead."""
    environment = load_environment(environment_name)
    journal = newest_release(closed_journals(environment), environment_name, release_id)
    try:
        plan = read_plan(environment, journal.plan_id, journal.plan_sha256)
    except ObjectMissingError as error:
        raise IntegrityError(
            "read the release's plan",
            error.on,
            "it is not in the bucket any more",
            "Start a release of the version that you want",
        ) from error
    require_compatible(plan, journal)
    return plan


def closed_journals(environment: Environment) -> tuple[Journal, ...]:
    """The verified journals of what came to its end, oldest first. Raise IntegrityError when somebody edited one."""
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        journals = Journals(client, release, environment.name, signing_keys(environment))
        return tuple(journals.parse(one) for one in journals.closed_documents())


def way_back(plan: ReleasePlan) -> list[str]:
    """Each change of the way back, one line each."""
    return [
        f"{one.key} {name}: {image} → {images_of(one.before).get(name)}"
        for one in plan.targets
        for name, image in images_of(one.after).items()
        if image != images_of(one.before).get(name)
    ]
