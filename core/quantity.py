"""Kubernetes' quantities (apimachinery/pkg/api/resource, "Quantity"): 250m, 1.5Gi, 2e3."""

import re
from fractions import Fraction

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]+))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def quantity(text: object) -> Fraction:
    """Given a quantity as Kubernetes writes it, return its value, exactly. Raise ValueError when it is none."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{str(text)[:40]!r} is not a quantity")
    number, suffix, exponent = match.groups()
    value = Fraction(number)
    if suffix in _BINARY:
        return value * int(1024 ** _BINARY[suffix])
    power = _DECIMAL[suffix] if suffix else int(exponent or 0)
    return value * int(10**power) if power >= 0 else value / int(10**-power)


def shown(value: Fraction, resource: str) -> str:
    """Given a value and its resource's name, return it as people write it: 250m, 1.5Gi, 3."""
    if "memory" in resource or "storage" in resource:
        return f"{float(value / 1024**3):.2f}Gi" if abs(value) >= 1024**3 else f"{float(value / 1024**2):.0f}Mi"
    return str(value) if value.denominator == 1 else f"{float(value * 1000):.0f}m"
