"""Every S3 key that nightshift writes, in one place.

    PREFIX/DATABASE/owner.json                     whose folder this is (signed); another environment's is never written or pruned
    PREFIX/DATABASE/BACKUP_ID/dump/…               the dump's segments
    PREFIX/DATABASE/BACKUP_ID/globals/…            roles and tablespaces
    PREFIX/DATABASE/BACKUP_ID/manifest.json        written last, If-None-Match: *
    PREFIX/DATABASE/BACKUP_ID/state/decoded.json   read back and decoded
    PREFIX/DATABASE/BACKUP_ID/state/proven.json    restored by a drill, and everything matched
    PREFIX/DATABASE/BACKUP_ID/state/damaged.json   a drill or a restore found its data damaged (core.damage)
    PREFIX/evidence/00000042.json                  reports, numbered and chained
    PREFIX/evidence-head.json                      how far the chain went
    PREFIX/restores/1f2e3d4c.json                  a restored copy that waits for its swap, or was swapped
    PREFIX/releases/r-0123456789ab/plan-HASH.json  what a release was to change
    PREFIX/releases/r-0123456789ab/closed.json     that it came to its end, and how
    PREFIX/watches/r-0123456789ab/…                what its watch saw (core.watch_record)

One LIST of PREFIX/DATABASE/ tells every backup's id and state. A database cannot be called `evidence`, `restores`,
`releases` or `watches`: these folders are the environment's.
"""

MANIFEST = "manifest.json"
DECODED = "state/decoded.json"
PROVEN = "state/proven.json"
DAMAGED = "state/damaged.json"
RESERVED_DATABASE_NAMES = frozenset({"evidence", "restores", "releases", "watches"})


def database_folder(prefix: str, database: str) -> str:
    """The folder of a database's backups, with a slash at its end."""
    return f"{prefix}/{database}/"


def backup_folder(prefix: str, database: str, backup_id: str) -> str:
    """The folder of one backup, with a slash at its end."""
    return f"{prefix}/{database}/{backup_id}/"


def owner_key(prefix: str, database: str) -> str:
    """The key of the object that says which environment this folder belongs to."""
    return f"{prefix}/{database}/owner.json"


def evidence_folder(prefix: str) -> str:
    """The folder of an environment's reports, with a slash at its end."""
    return f"{prefix}/evidence/"


def evidence_key(prefix: str, sequence: int) -> str:
    """The key of report number `sequence`; eight digits, so that keys sort as numbers do."""
    return f"{prefix}/evidence/{sequence:08d}.json"


def evidence_head_key(prefix: str) -> str:
    """The key of the chain's head."""
    return f"{prefix}/evidence-head.json"


def restores_folder(prefix: str) -> str:
    """The folder of what is kept of an environment's restored copies, with a slash at its end."""
    return f"{prefix}/restores/"


def restore_key(prefix: str, restore_id: str) -> str:
    """The key of the object that says what a restore made and verified."""
    return f"{restores_folder(prefix)}{restore_id}.json"


def release_plan_key(prefix: str, release_id: str, plan_sha256: str) -> str:
    """The key of a release's plan."""
    return f"{prefix}/releases/{release_id}/plan-{plan_sha256[:16]}.json"


def release_closed_key(prefix: str, release_id: str) -> str:
    """The key of the object that says that a release came to its end."""
    return f"{prefix}/releases/{release_id}/closed.json"


def release_folder(prefix: str, release_id: str) -> str:
    """The folder of what is kept of a release, with a slash at its end."""
    return f"{prefix}/releases/{release_id}/"


def releases_folder(prefix: str) -> str:
    """The folder of an environment's releases, with a slash at its end."""
    return f"{prefix}/releases/"


def watches_folder(prefix: str) -> str:
    """The folder of an environment's watches, with a slash at its end."""
    return f"{prefix}/watches/"


def watch_folder(prefix: str, release_id: str) -> str:
    """The folder of the watch of a release, with a slash at its end."""
    return f"{prefix}/watches/{release_id}/"
