"""Pages of the public address over a day: bucket by bucket whether each answered as it is to, and how soon. It sends nothing back.

One look that fails may be a lost packet; two in a row are five minutes in which users had none of it either. What was seen is kept by bucket, so that it does not
matter in which order looks come in, or how often.
"""

from itertools import groupby

from pydantic import Field

from core.environment_watch_probes import MOST_PATHS
from core.evidence import Finding
from core.manifest import Record
from core.watch_counts import BUCKETS
from core.watch_words import at_bucket, note, warning

_LASTING = 2
_WELL, _FAILED, _UNKNOWN = ".", "x", " "
_SLOWEST_MS = 99_999
_LONGEST_WORDS = 160


class ProbeLook(Record):
    """What one page answered. `why`: what was not as it is to be."""

    path: str
    ok: bool
    ms: int | None = None
    why: str = ""


class ProbesLook(Record):
    """One look at all pages; `url` "": none is configured."""

    url: str = ""
    probes: tuple[ProbeLook, ...] = ()


class PathSeen(Record):
    """All that was seen of one page: a letter for each bucket (`.` well, `x` failed, blank: not known), milliseconds where it was well, and why it last failed."""

    buckets: str = ""
    ms: tuple[int | None, ...] = ()
    why: str = ""
    why_at: int = -1

    @property
    def looks(self) -> int:
        """How often it was read."""
        return len(self.buckets) - self.buckets.count(_UNKNOWN)

    @property
    def failed(self) -> int:
        """How often it was not as it is to be."""
        return self.buckets.count(_FAILED)

    @property
    def longest(self) -> tuple[int, int]:
        """The longest row of looks that failed: how many, and the bucket of the first. Buckets that nobody looked at neither add to it nor end it."""
        known = [(bucket, letter) for bucket, letter in enumerate(self.buckets) if letter != _UNKNOWN]
        runs = [list(run) for letter, run in groupby(known, key=lambda one: one[1]) if letter == _FAILED]
        return max(((len(run), run[0][0]) for run in runs), key=lambda one: one[0], default=(0, 0))


class ProbesSeen(Record):
    """All that was seen until the look of `bucket`."""

    bucket: int
    url: str = ""
    paths: dict[str, PathSeen] = Field(default_factory=dict)


def probes_after(before: ProbesSeen | None, look: ProbesLook, *, bucket: int) -> ProbesSeen:
    """Given what was seen before, and the look made when a bucket was over, return what was seen after it. A look before the first bucket's end (-1) is not kept."""
    known = before or ProbesSeen(bucket=bucket)
    paths = dict(known.paths)
    for one in look.probes if 0 <= bucket < BUCKETS else ():
        if one.path in paths or len(paths) < MOST_PATHS:
            paths[one.path] = _path_after(paths.get(one.path) or PathSeen(), one, bucket)
    return ProbesSeen(bucket=max(known.bucket, bucket), url=look.url or known.url, paths=paths)


def probes_findings(seen: ProbesSeen) -> tuple[Finding, ...]:
    """Given what was seen, return what is worth telling."""
    if not seen.url:
        return (note("nothing was asked from outside: watch.probes.url is empty"),)
    found = [_of_path(seen, path, one) for path, one in sorted(seen.paths.items()) if one.failed]
    return tuple(sorted(found, key=lambda one: one.severity != "warning"))


def _path_after(known: PathSeen, look: ProbeLook, bucket: int) -> PathSeen:
    letters, ms = list(known.buckets.ljust(bucket + 1, _UNKNOWN)), [*known.ms]
    ms += [None] * (bucket + 1 - len(ms))
    letters[bucket] = _WELL if look.ok else _FAILED
    ms[bucket] = None if look.ms is None or not look.ok else max(0, min(look.ms, _SLOWEST_MS))
    newer = not look.ok and bucket >= known.why_at
    return PathSeen(
        buckets="".join(letters),
        ms=tuple(ms),
        why=look.why[:_LONGEST_WORDS] if newer else known.why,
        why_at=bucket if newer else known.why_at,
    )


def _of_path(seen: ProbesSeen, path: str, one: PathSeen) -> Finding:
    longest, first = one.longest
    in_a_row = f", {longest} in a row from {at_bucket(first)}" if longest >= _LASTING else ""
    share = round(100 * one.failed / one.looks)
    text = f"GET {seen.url}{path} failed in {one.failed} of {one.looks} looks ({share} %){in_a_row}, last in bucket {one.why_at}: {one.why}"
    return warning(text) if longest >= _LASTING else note(text)
