"""Signatures of errors: the lines of a log with what differs between them left open, mined from earlier days, and then only compared with.

Mining is Drain's (P. He, J. Zhu, Z. Zheng, M. R. Lyu: "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS 2017), as drain3 has it, here by its
maintained fork drain3-improved. A line is put to a signature with as many words, the same first word, and enough equal words at the same places; where they
differ, the signature gets <*>.

For a watch the signatures are frozen: a line is known when one of them fits word by word, and nothing is learned from it, else the trouble itself would soon be known.
What is kept is text of our own, never a pickle of the miner. The miner is loaded when there is something to mine: a tick that sees nothing new does without.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from core.log_lines import SIGNATURE_BYTES, SIGNATURE_WORDS
from core.manifest import Record

ANY = "<*>"
# Drain's own default is 0.4: of two words one may differ, and "Error: <*>" would know every error there is. With 0.6 no signature of two words is ever opened,
# and of a longer one at most four words in ten.
SIMILARITY = 0.6
DEPTH = 4
LARGEST_TREE = 1000
# What bounds the work: kinds of lines that the miner is given, the most frequent, signatures that are kept, and their bytes in all.
MOST_DISTINCT = 5000
MOST_SIGNATURES = 1000
MOST_BYTES = 150_000
Kind = Literal["pods", "elasticsearch"]
Template = Annotated[str, Field(max_length=SIGNATURE_BYTES + SIGNATURE_WORDS * len(ANY))]


class LogBaseline(Record):
    """What was in the logs before: the signatures of its error lines, at most 200 KB as JSON.

    days: of so many days lines were read. whole: whether all error lines of those days were; `why` says in a few words why not. Only of a whole baseline of enough
    days it can be said that something was not there.
    """

    format: Literal["nightshift-watch-logs/1"] = "nightshift-watch-logs/1"
    kind: Kind
    read_at: AwareDatetime
    days: int = Field(ge=0)
    lines: int = Field(ge=0)
    templates: tuple[Template, ...] = Field((), max_length=MOST_SIGNATURES)
    whole: bool
    why: str = Field("", max_length=300)


class KnownSignatures:
    """The frozen signatures, to look lines up in."""

    def __init__(self, templates: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._open: dict[tuple[int, str], list[list[str]]] = {}
        for template in templates:
            words = template.split()
            if ANY in words:
                self._open.setdefault((len(words), words[0]), []).append(words)
            else:
                self._exact.add(template)

    def knows(self, signature: str) -> bool:
        """Whether one of them fits a line's signature, word by word."""
        if signature in self._exact:
            return True
        words = signature.split()
        candidates = [*self._open.get((len(words), words[0]), ()), *self._open.get((len(words), ANY), ())]
        return any(all(ours in (ANY, theirs) for ours, theirs in zip(one, words, strict=True)) for one in candidates)


def train(
    signatures: Iterable[str],
    *,
    kind: Kind,
    read_at: datetime,
    days: int,
    whole: bool = True,
    why: str = "",
) -> LogBaseline:
    """Given the signatures of all error lines of earlier days (core.log_lines), return what is to be known of them.

    Each of the lines is known afterwards, but for what bounds left out: then the baseline is not whole, and says so.
    """
    counts = Counter(signatures)
    ordered = [signature for signature, _ in counts.most_common()]
    kept: list[str] = []
    size = 0
    # What the most frequent kinds' signatures do not fit is mined in turn, while there is room.
    while (batch := ordered[:MOST_DISTINCT]) and len(kept) < MOST_SIGNATURES and size < MOST_BYTES:
        sizes: Counter[str] = Counter()
        for signature, template in zip(batch, grouped(batch), strict=True):
            sizes[template] += counts[signature]
        for template, _ in sizes.most_common(MOST_SIGNATURES - len(kept)):
            size += len(template.encode())
            if size > MOST_BYTES:
                break
            kept.append(template)
        known = KnownSignatures(kept)
        ordered = [signature for signature in ordered[MOST_DISTINCT:] if not known.knows(signature)]
    known = KnownSignatures(kept)
    lines, lost = counts.total(), sum(hits for one, hits in counts.items() if not known.knows(one))
    if lost:
        whole, why = False, why or f"{lost} of {lines} error lines are of too many kinds to be kept"
    return LogBaseline(
        kind=kind, read_at=read_at, days=days, lines=lines, templates=tuple(kept), whole=whole, why=why[:300]
    )


def grouped(signatures: Sequence[str]) -> list[str]:
    """Given signatures, the most frequent first, return for each the signature of its group, which fits it."""
    if len(signatures) < 2:
        return list(signatures)
    # Up to 70 ms, which a tick with nothing new does not pay.
    from drain3.drain import Drain  # noqa: PLC0415

    # Digits are left open before a line comes here.
    miner = Drain(depth=DEPTH, sim_th=SIMILARITY, max_clusters=LARGEST_TREE, param_str=ANY)
    groups = [miner.add_log_message(signature)[0] for signature in signatures]
    return [str(group.get_template()) for group in groups]
