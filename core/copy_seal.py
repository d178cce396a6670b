"""A copy that is closed while it is compared for a swap: what its comment says meanwhile, so that whoever finds it closed knows why and how it is opened."""

from pydantic import AwareDatetime, ValidationError

from core.canonical import canonical_bytes
from core.manifest import DatabaseProperties, Record


class Seal(Record):
    """Stands in the copy's comment from the moment it refuses connections for its last comparison until it is live or open again. `comment` is its own, `begun` when it
    was closed: two seals of one copy differ. `way_back`: the statements that open it, for a person."""

    nightshift: str = "verification"
    restore_id: str
    copied: str
    copied_oid: int
    comment: str | None
    begun: AwareDatetime
    way_back: str


class SealedCopy(Record):
    """A copy that was compared behind its seal, and its properties as a session within read them; its comment among them is its own."""

    seal: Seal
    properties: DatabaseProperties


def seal_text(seal: Seal) -> str:
    """Given a seal, return the comment that holds it."""
    return canonical_bytes(seal.model_dump(mode="json")).decode()


def read_seal(comment: str | None, oid: int) -> Seal | None:
    """Given a database's comment and its oid, return the seal in it; None when there is none, or when it is another database's."""
    if comment is None or not comment.startswith("{"):
        return None
    try:
        seal = Seal.model_validate_json(comment)
    except ValidationError:
        return None
    return seal if seal.nightshift == "verification" and seal.copied_oid == oid else None


def properties_without(seal: Seal | None, properties: DatabaseProperties) -> DatabaseProperties:
    """Given a seal (None: there is none) and a database's properties, return them as they are without it; unchanged where it is not on the database."""
    if seal is None or properties.allow_connections or properties.comment != seal_text(seal):
        return properties
    return properties.model_copy(update={"allow_connections": True, "comment": seal.comment})
