"""Numbers and times as people read them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

#: An array of nothing but short values, as it is written over several lines, and what stands between two of them.
_COMMA = re.compile(r",\n\s*")
_FLAT = re.compile(r"\[\s+([^\[\]{}]{1,100}?)\s+\]")


def ago(then_ms: int, now_ms: int) -> str:
    """How long ago that was, in its largest unit."""
    seconds = max(0, now_ms - then_ms) // 1000
    if seconds < 5:
        return "just now"
    for size, unit in ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def moment(then_ms: int) -> str:
    """A moment to the second, in UTC."""
    return datetime.fromtimestamp(then_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def rate(per_second: float) -> str:
    """Requests a second; "–" for none at all."""
    if per_second == 0:
        return "–"
    if per_second < 0.1:
        return "< 0.1"
    return f"{per_second:.1f}" if per_second < 100 else f"{per_second:,.0f}"


def milliseconds(value: float | None) -> str:
    """A duration given in milliseconds."""
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def percent(part: float | None) -> str:
    """A part as per cent."""
    if part is None:
        return "–"
    if 0 < part < 0.0001:
        return "< 0.01 %"
    if part in {0.0, 1.0}:
        return f"{100 * part:.0f} %"
    return f"{100 * part:.1f} %" if part >= 0.01 else f"{100 * part:.2f} %"


def to(least: int | str, most: int | str) -> str:
    """A range whose ends may be "", as somebody who gave only one of them reads it."""
    if least == "" or most == "":
        return f"up to {most}" if least == "" else f"{least}"
    return f"{least} to {most}"


def pretty(value: Any) -> str:
    """JSON over several lines, with arrays of few values on one."""
    written = json.dumps(value, indent=2, ensure_ascii=False)
    for _ in range(2):  # rows, and a short list of them
        written = _FLAT.sub(lambda found: "[" + _COMMA.sub(", ", found[1]) + "]", written)
    return written
