"""Bytes, times and ages as people read them."""

from datetime import timedelta

_STEPS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def human_bytes(size: int | float) -> str:
    """Given a number of bytes, return it with a binary unit: `1.2 GiB`, `312 B`."""
    value = float(size)
    for unit in _STEPS:
        if value < 1024 or unit == _STEPS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def human_duration(milliseconds: int) -> str:
    """Given milliseconds, return `85 ms`, `3.2 s`, `4 min 05 s` or `2 h 10 min`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def human_age(age: timedelta) -> str:
    """Given an age, return it in its largest sensible unit: `5 min`, `26 h`, `12 days`; negative ages say `in the future`."""
    seconds = age.total_seconds()
    if seconds < 0:
        return "in the future"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} days"


def counted(number: int, thing: str) -> str:
    """Given how many there are and what one is called, return `1 report` or `3 reports`: for words whose plural ends in s."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def ratio_text(plain: int, stored: int) -> str:
    """How much smaller the stored bytes are: `4.1 : 1`; `–` when nothing was stored."""
    return f"{plain / stored:.1f} : 1" if stored else "–"
