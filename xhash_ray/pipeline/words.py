"""Numbers in words, for lines and reports that people read."""

from __future__ import annotations

SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def duration(seconds: float) -> str:
    """A time without more digits than anybody wants.

    >>> [duration(each) for each in (7.2, 119, 725, 11_100, 200_000)]
    ['7 s', '119 s', '12 min', '3 h 05 min', '2 d 08 h']
    """
    if round(seconds) <= 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24:02d} h"


def size(count_bytes: float) -> str:
    """Bytes with a decimal prefix and two or three digits.

    >>> [size(each) for each in (0, 999, 1_234, 48_000_000, 1_200_000_000)]
    ['0 B', '999 B', '1.2 kB', '48 MB', '1.2 GB']
    """
    power = 0
    while count_bytes >= (9.995e2 if power else 1e3) and power < len(SIZES) - 1:
        count_bytes, power = count_bytes / 1e3, power + 1
    digits = 1 if power and count_bytes < 9.95 else 0
    return f"{count_bytes:,.{digits}f} {SIZES[power]}"


def rate(per_s: float) -> str:
    """A number of things per second; slow ones keep digits.

    >>> [rate(each) for each in (0, 0.0345, 3.456, 1203.7)]
    ['0', '0.035', '3.5', '1,204']
    """
    return f"{per_s:.2g}" if per_s < 9.95 else f"{per_s:,.0f}"


def share(part: float) -> str:
    """A part of a whole as per cent; small ones keep digits, and what is not all is never 100%.

    >>> [share(each) for each in (0, 0.0000123, 0.00123, 0.0512, 0.61, 0.9999, 1)]
    ['0%', '<0.01%', '0.12%', '5.1%', '61%', '99%', '100%']
    """
    if 0 < part < 0.0001:
        return "<0.01%"
    if part < 0.0995:
        return f"{part * 100:.2g}%"
    return f"{min(round(part * 100), 99) if part < 1 else 100}%"
