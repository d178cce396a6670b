"""How the sources of a watch say what they found."""

from core.evidence import Finding


def at_bucket(bucket: int) -> str:
    """When a bucket was over, in words."""
    minutes = 5 * (bucket + 1)
    return f"bucket {bucket}, {minutes // 60}:{minutes % 60:02} h after the release"


def note(text: str) -> Finding:
    """Something to know."""
    return Finding(severity="note", text=text)


def warning(text: str) -> Finding:
    """Something to look at."""
    return Finding(severity="warning", text=text)
