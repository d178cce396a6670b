"""The steps of a swap, each a Prefect task: what forbids it, what it would do, and doing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from prefect import get_run_logger

from core.copy_seal import SealedCopy, properties_without
from core.environment import Environment
from core.environment_database import Database
from core.errors import NightshiftError, PermanentError, TemporaryError
from core.manifest import Manifest
from core.restore_record import WaitingCopy
from core.restored_comparison import Verification
from core.swap_plan import Session, SwapOutcome, SwapPlan, read_marker
from tasks.catalogue import read_manifest
from tasks.copy_seal import sealed, unseal_left, unseal_or_tell
from tasks.database_properties import UNKNOWN, read_properties
from tasks.environments import load_environment
from tasks.object_store import ObjectStore
from tasks.postgres import describe, translated
from tasks.recording import utc_now
from tasks.restore_records import server_of
from tasks.restore_request import RestoreRequest
from tasks.restore_target import identity_of, login_of
from tasks.retrying import step
from tasks.secrets import signing_keys
from tasks.swap import recover_swap, swap_databases
from tasks.swap_facts import read_database_facts
from tasks.swap_guard import guarded
from tasks.swap_plans import plan_swap, preview_swap
from tasks.swap_session import described, open_session
from tasks.swap_transactions import require_sealed
from tasks.verify_restored import verify_restored

# That compare a copy before its swap, all opened before it is closed.
_SESSIONS = 2


@step("verify {record.restored.name} again")
def verify_again(record: WaitingCopy, live: str) -> SealedCopy:
    """Close a copy that waited for its approval, and compare it with its manifest once more: somebody may have written to it, and nobody can from now on.

    It stays closed for the swap. Raise PermanentError when it differs, or somebody is in it and stays; then it is open again.
    """
    environment, restored = load_environment(record.environment), record.restored
    manifest = _manifest(environment, record)
    login, copy = (
        maintenance_login(environment, record),
        login_of(server_of(environment, restored.server), restored.name),
    )
    with sealed(login, live, copy, restored, record.restore_id, begun=utc_now(), sessions=_SESSIONS) as (seal, opening):
        verification = verify_restored(
            copy,
            manifest,
            restored,
            sessions=_SESSIONS,
            exclude_schemas=environment.databases[record.database].exclude_schemas,
            opening=opening,
            seal=seal,
        )
        require_unchanged(verification, restored.name)
        with opening() as session, translated("read the database's properties", describe(copy)):
            properties = properties_without(seal, read_properties(session))
    return SealedCopy(seal=seal, properties=properties)


@contextmanager
def opened_after_failure(record: WaitingCopy, live: str) -> Iterator[None]:
    """A block whose failure opens the copy again, if it was closed for its comparison."""
    login = maintenance_login(load_environment(record.environment), record)
    try:
        yield
    except BaseException:
        unseal_or_tell(login, live, record.restored, record.restore_id)
        raise


def require_unchanged(verification: Verification, name: str) -> None:
    """Raise PermanentError when the copy differs from what was verified before, or cannot be looked at any more; it is kept."""
    if found := verification.mismatches:
        text = f"it was changed since it was verified: {'; '.join(found[:5])}"
        raise PermanentError("swap", name, text, "It was kept. Restore again for a swap")
    if unseen := verification.unseen:
        text = f"it cannot be compared again before the swap; not looked at: {'; '.join(unseen[:5])}"
        raise PermanentError(
            "swap", name, text, "It was kept, and nothing was swapped. Grant what is missing and press Retry"
        )


@step("look whether a swap that was killed left {live} closed")
def open_left(record: WaitingCopy, live: str) -> str:
    """Open the live database, and the copy, where a process that was killed between closing and renaming left them closed. Return what was found; "" when none did.

    Raise PermanentError when a swap is going on.
    """
    login = maintenance_login(load_environment(record.environment), record)
    with (
        closing(open_session(login, live)) as connection,
        translated("look whether the live database is open", described(login, live)),
    ):
        facts = read_database_facts(connection, live)
    # Only then the turn to swap is taken: a run that asks for an approval need not wait for one that compares its copy.
    if isinstance(facts, str) or read_marker(facts.comment, facts.oid) is None:
        return ""
    recovered = recover_swap(login, live)
    if recovered.reopened:
        get_run_logger().warning("%s", recovered.found)
    return recovered.found if recovered.reopened else ""


@step("look whether {record.restored.name} can take the place of {live}")
def check_swap(record: WaitingCopy, live: str, accepted: tuple[str, ...] = ()) -> SwapPlan:
    """Return what the swap would do; `accepted`: topics of differences. Raise PermanentError with the reasons when it must not be done; the plan of a swap that was made
    already is returned."""
    environment = load_environment(record.environment)
    login = maintenance_login(environment, record)
    if unseal_left(login, live, record.restored, record.restore_id):
        get_run_logger().warning(
            "%s was left closed by an earlier process of this run; it is open again", record.restored.name
        )
    plan = _plan(environment, record, live, _manifest(environment, record))
    # Nobody is asked to approve what would be refused a moment later.
    reasons = [
        *plan.refusals,
        *map(str, plan.unaccepted(accepted)),
        *_another_server(environment, record.database, record.restored.server),
    ]
    if reasons and not is_swapped(plan, record):
        next_step = (
            "Nothing was swapped, and this run changed nothing. Mend this and press Retry, or start the restore again"
        )
        raise PermanentError("swap the databases", f"{live} and {record.restored.name}", "; ".join(reasons), next_step)
    return plan


def _another_server(environment: Environment, database: str, server_name: str) -> list[str]:
    """Why the database of the live name on the copy's server is not the environment's own: a swap there would leave the live one as it is and replace a stranger's."""
    ours, server = environment.databases[database], server_of(environment, server_name)
    where = f"{ours.name} on [servers.{server_name}] ({server.host}:{server.port})"
    same_address = (ours.host, ours.port) == (server.host, server.port)
    try:
        mine, theirs = identity_of(ours), identity_of(login_of(server, ours.name))
    except NightshiftError as error:
        # One that is closed or lost cannot be asked who it is; its address can be compared.
        return [] if same_address else [f"it cannot be seen whether {where} is the live database: {error.found}"]
    unknown = UNKNOWN in {mine.system_identifier, theirs.system_identifier}
    if mine.is_same(theirs) or (unknown and same_address and mine.database_oid == theirs.database_oid):
        return []
    return [f"{where} is not the live database, which is at {ours.host}:{ours.port}: name its server"]


def is_swapped(plan: SwapPlan, record: WaitingCopy) -> bool:
    """Whether what has the live database's name is the copy."""
    return (plan.live_oid, plan.system_identifier) == (record.restored.oid, record.restored.system_identifier)


@step("swap {record.restored.name} for {live}")
def swap(record: WaitingCopy, live: str, copy: SealedCopy, accepted: tuple[str, ...] = ()) -> SwapOutcome:
    """Let the copy, which was compared and is closed since, take the live database's name. Raise PermanentError when it must not or could not be done: the live one
    then serves as before."""
    environment = load_environment(record.environment)
    login, manifest = maintenance_login(environment, record), _manifest(environment, record)
    try:
        with guarded(login, live):
            return swap_databases(
                login,
                _plan(environment, record, live, manifest, copy),
                drain_seconds=environment.restore.drain_seconds,
                accepted=accepted,
                on_wait=tell_who_is_there(),
            )
    except TemporaryError as error:
        # Prefect may try again only what nobody can have written to meanwhile; the error is the first one, not that the copy is open.
        with closing(open_session(login, live)) as session, translated("look at the copy", describe(login)):
            try:
                require_sealed(session, copy.seal)
            except PermanentError:
                next_step = f"{error.next_step} Press Retry: the copy is compared again before the next attempt"
                raise PermanentError(error.attempted, error.on, error.found, next_step) from error
        raise


@step("look whether {request.database} can be swapped at all")
def check_swap_early(request: RestoreRequest, live: str) -> None:
    """Raise PermanentError with the reasons that forbid a swap whatever the copy is: before hours of restoring."""
    environment = load_environment(request.environment)
    server = environment.servers[request.server]
    login = login_of(server, server.maintenance_database)
    # A swap that was killed in its middle left the live database closed: opening it comes before everything else.
    if (recovered := recover_swap(login, live)).reopened:
        get_run_logger().warning("%s", recovered.found)
    if refusals := early_refusals(environment, request, live):
        raise PermanentError(
            "swap the databases", live, "; ".join(refusals), "Nothing was restored; leave out the swap, or mend this"
        )


def early_refusals(environment: Environment, request: RestoreRequest, live: str) -> tuple[str, ...]:
    """Return what forbids a swap whatever the copy is. Read-only."""
    server = environment.servers[request.server]
    return (
        *preview_swap(login_of(server, server.maintenance_database), live, request.restore_id),
        *_another_server(environment, request.database, request.server),
    )


def swap_facts(outcome: SwapOutcome) -> dict[str, Any]:
    """What the report says of a swap."""
    return {
        "live": outcome.live,
        "old_name": outcome.old_name,
        "outage_ms": outcome.outage_ms,
        "drain_ms": outcome.drain_ms,
        "sessions": [str(session) for session in outcome.sessions],
        "terminated": [str(session) for session in outcome.terminated],
        "notes": list(outcome.notes),
    }


def tell_who_is_there() -> Callable[[tuple[Session, ...]], None]:
    """Return what logs, for whoever waits, the sessions that are still there."""
    logger = get_run_logger()

    def tell(sessions: tuple[Session, ...]) -> None:
        logger.info("waiting for %d sessions: %s", len(sessions), "; ".join(str(session) for session in sessions[:10]))

    return tell


def _plan(
    environment: Environment, record: WaitingCopy, live: str, manifest: Manifest, copy: SealedCopy | None = None
) -> SwapPlan:
    return plan_swap(
        maintenance_login(environment, record),
        live,
        record.restored.name,
        record.restore_id,
        manifest,
        restored=record.restored,
        sealed=copy,
    )


def _manifest(environment: Environment, record: WaitingCopy) -> Manifest:
    store = ObjectStore.open(environment)
    manifest, _ = read_manifest(
        store, environment, record.database, record.restored.backup_id, signing_keys(environment)
    )
    return manifest


def maintenance_login(environment: Environment, record: WaitingCopy) -> Database:
    """Return the login of another database of the copy's server: no session can rename its own."""
    server = server_of(environment, record.restored.server)
    return login_of(server, server.maintenance_database)
