"""
Kubernetes quantities: `500m`, `1.5Gi`, `1e3`; read exactly, compared, and written.

Follows the grammar of Kubernetes' own documentation. A gigabyte of Grace's is
what Kubernetes calls `Gi`.
"""

import re
from decimal import ROUND_CEILING, Decimal

from grace.errors import UsageError

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {
    "n": -9,
    "u": -6,
    "m": -3,
    "": 0,
    "k": 3,
    "M": 6,
    "G": 9,
    "T": 12,
    "P": 15,
    "E": 18,
}
# `1E` is an exa, `1E3` a thousand.
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE]?)|[eE](?P<exponent>[+-]?[0-9]{1,9}))"
)
# Beyond this, Kubernetes takes the largest number that it knows for all of them.
_LARGEST_EXPONENT = 18


def parse_quantity(written: object) -> Decimal:
    """
    Return a quantity's exact value: cores, bytes, or a count.

    Args:
        written: As it stands in an object: text, or a number.

    Raises:
        UsageError: Kubernetes would refuse it.

    >>> parse_quantity("500m"), parse_quantity("1.5Ki"), parse_quantity("1e3"), parse_quantity(2)
    (Decimal('0.500'), Decimal('1536.0'), Decimal('1000'), Decimal('2'))
    """
    if isinstance(written, bool) or not isinstance(written, str | int | float):
        raise UsageError(_refusal(written))
    found = _QUANTITY.fullmatch(str(written))
    if found is None:
        raise UsageError(_refusal(written))
    number = Decimal(found["number"])
    if found["exponent"] is not None:
        exponent = int(found["exponent"])
        if abs(exponent) > _LARGEST_EXPONENT:
            raise UsageError(_refusal(written))
        return _scaled(number, exponent)
    suffix = found["suffix"]
    if suffix in _BINARY:
        return number * Decimal(1024 ** _BINARY[suffix])
    return _scaled(number, _DECIMAL[suffix])


def _scaled(number: Decimal, exponent: int) -> Decimal:
    return number.scaleb(exponent) if exponent <= 0 else number * Decimal(10**exponent)


def _refusal(written: object) -> str:
    shown = repr(written)
    return (
        f"{shown if len(shown) <= 40 else shown[:39] + '…'} is not a quantity; expected a number "
        "with a unit of Kubernetes: 500m, 2, 1536Mi, 1.5Gi"
    )


def format_cpu(cores: float) -> str:
    """
    Return cores as Kubernetes writes them, in thousandths at the finest.

    >>> format_cpu(0.5), format_cpu(2), format_cpu(0.0001)
    ('500m', '2', '1m')
    """
    thousandths = _whole(Decimal(str(cores)) * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def format_gb(gigabytes: float) -> str:
    """
    Return gigabytes as Kubernetes writes them; no finer than a mebibyte.

    >>> format_gb(1.5), format_gb(8), format_gb(0.1)
    ('1536Mi', '8Gi', '103Mi')
    """
    mebibytes = _whole(Decimal(str(gigabytes)) * 1024)
    return f"{mebibytes}Mi" if mebibytes % 1024 else f"{mebibytes // 1024}Gi"


def _whole(number: Decimal) -> int:
    """Round up: what is asked for must hold what is needed."""
    return int(number.to_integral_value(ROUND_CEILING))


def in_gb(quantity: Decimal) -> float:
    """Return bytes in gigabytes."""
    return float(quantity / 1024**3)
