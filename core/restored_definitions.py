"""How the definitions of a restored database stand against what the manifest recorded: the schema's fingerprint, the number of objects, indexes, constraints.

A manifest has one fingerprint and one number for all definitions. PostgreSQL prints some of them otherwise from one major to the next, so on another major an equal
fingerprint proves that they are the same, and another one nothing.
"""

from core.manifest import Manifest, Record
from core.restore_record import Restored
from core.restored_comparison import ComparisonFinding, Kind, Severity


class InvalidIndex(Record):
    """An index that PostgreSQL does not use. `complete`: a partitioned one with a valid index of every partition attached, so it could be valid."""

    name: str
    partitioned: bool
    complete: bool


class Definitions(Record):
    """What was found of the copy's definitions. `objects` are those that a dump of the copy would have to list, roles included."""

    server_version_number: int
    fingerprint: str
    objects: int
    invalid_indexes: tuple[InvalidIndex, ...]
    not_validated: tuple[str, ...]


def compare_definitions(manifest: Manifest, restored: Restored, found: Definitions) -> tuple[ComparisonFinding, ...]:
    """Given a manifest, what was restored of it and how the copy's definitions stand, return what differs or cannot be told."""
    whole = not restored.partial and not restored.skipped
    same_major = manifest.server.version_number // 10_000 == found.server_version_number // 10_000
    same = found.fingerprint == manifest.schema_fingerprint
    findings: list[ComparisonFinding] = []

    def add(kind: Kind, severity: Severity, text: str) -> None:
        findings.append(ComparisonFinding(kind=kind, severity=severity, text=text))

    if not same and not whole:
        add("schema", "note", "definitions were not compared: not all entries of the dump were restored")
    elif not same and same_major:
        add("schema", "mismatch", "the schema's fingerprint is another one: a definition differs from the snapshot's")
    elif not same:
        add("schema", "note", "definitions were not compared: another major version prints some of them otherwise")
    recorded = manifest.coverage.expected - len(manifest.coverage.missing)
    if found.objects != recorded and whole:
        severity: Severity = "mismatch" if same_major or found.objects < recorded else "note"
        add("coverage", severity, f"the copy has {found.objects} objects, the dump listed {recorded}")
    for index in found.invalid_indexes:
        # pg_dump leaves invalid indexes out, but for partitioned ones, which are invalid until each partition's index is attached.
        if not index.partitioned or index.complete:
            add("indexes", "mismatch", f"index {index.name} is not valid")
        else:
            _add_state(
                add_to=findings,
                kind="indexes",
                text=f"index {index.name} is not valid",
                same=same,
                strict=same_major and whole,
            )
    for constraint in found.not_validated:
        text = f"constraint {constraint} is not validated"
        _add_state(add_to=findings, kind="constraints", text=text, same=same, strict=same_major and whole)
    return tuple(findings)


def _add_state(*, add_to: list[ComparisonFinding], kind: Kind, text: str, same: bool, strict: bool) -> None:
    """A state that the source may have had too: it had when the fingerprints are equal; when they should be and are not, it may be what differs."""
    if same:
        severity: Severity = "note"
        text += ", as in the source"
    else:
        severity = "mismatch" if strict else "note"
        text += "; whether it was in the source cannot be told"
    add_to.append(ComparisonFinding(kind=kind, severity=severity, text=text))
