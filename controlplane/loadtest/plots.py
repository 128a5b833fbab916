"""Plots as inline SVG: lines over a scale, and intervals. Values in, text out; every word is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 860, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 30, 14, 40
#: Classes of the style sheet, which has a colour for each.
COLOURS = 6

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; it is broken where there is no value."""

    name: str
    points: Sequence[Point]
    #: Which of the colours.
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Axis:
    """What is along an axis, and where marks with which words are."""

    title: str
    marks: Sequence[tuple[float, str]]
    lowest: float
    highest: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where on the axis a value is, from 0 to 1."""
        scale: Callable[[float], float] = math.log10 if self.logarithmic else float
        if self.logarithmic:
            value = max(value, self.lowest)
        low, high = scale(self.lowest), scale(self.highest)
        return (scale(value) - low) / (high - low) if high > low else 0.5


def even(title: str, highest: float) -> Axis:
    """From 0 to at least `highest`, with a mark at about every fifth of it."""
    highest = highest or 1.0
    step = 10 ** math.floor(math.log10(highest / 5))
    step = next(step * each for each in (1, 2, 5, 10) if highest / (step * each) <= 6)
    count = math.ceil(highest / step - 1e-9)
    return Axis(title, [(step * each, f"{step * each:,.10g}") for each in range(count + 1)], 0.0, step * count)


def decades(title: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis that holds all (positive) values, with marks at 1, 2 and 5 of each power of ten."""
    held = [each for each in values if each > 0] or [1.0]
    marks = [m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5)]
    low = max((each for each in marks if each <= min(held)), default=marks[0])
    high = min((each for each in marks if each > max(held)), default=marks[-1])
    inside = [each for each in marks if low <= each <= high]
    if len(inside) > 10:
        inside = [each for each in inside if f"{each:e}"[0] == "1"]
    return Axis(title, [(each, f"{each:,.10g}") for each in inside], low, high, logarithmic=True)


def lines(across: Axis, up: Axis, drawn: Sequence[Line]) -> str:
    """A plot of lines, with a legend."""
    parts = [*_frame(across, up)]
    for line in drawn:
        parts += [f'<path class="line c{line.colour % COLOURS}" d="{_path(across, up, line.points)}"/>']
    legend = "".join(
        f'<span><i class="c{line.colour % COLOURS}"></i>{escape(line.name)}</span>' for line in drawn if line.name
    )
    return f'<figure><div class="legend">{legend}</div>{_svg(parts, _HEIGHT, f"{up.title} by {across.title}")}</figure>'


@dataclass(frozen=True, slots=True)
class Interval:
    """A named point with an interval around it, and a mark for what was meant."""

    name: str
    low: float
    point: float
    high: float
    meant: float | None


def intervals(across: Axis, drawn: Sequence[Interval]) -> str:
    """Intervals, one below the other."""
    row = 34
    height = row * len(drawn) + _TOP + _BOTTOM
    left = 180
    width = _WIDTH - left - _RIGHT

    def x(value: float) -> float:
        return left + across.place(value) * width

    parts = []
    for value, words in across.marks:
        parts.append(f'<path class="grid" d="M{x(value):.1f} {_TOP}V{height - _BOTTOM}"/>')
        parts.append(
            f'<text class="mark" x="{x(value):.1f}" y="{height - _BOTTOM + 16}" text-anchor="middle">{words}</text>'
        )
    for index, each in enumerate(drawn):
        y = _TOP + row * (index + 0.5)
        parts.append(f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(each.name))}</text>')
        if each.meant is not None:
            parts.append(f'<path class="meant" d="M{x(each.meant):.1f} {y - 12:.1f}v24"/>')
        parts.append(f'<path class="line c0" d="M{x(each.low):.1f} {y:.1f}H{x(each.high):.1f}"/>')
        parts += [f'<path class="line c0" d="M{x(end):.1f} {y - 5:.1f}v10"/>' for end in (each.low, each.high)]
        parts.append(f'<circle class="dot" cx="{x(each.point):.1f}" cy="{y:.1f}" r="4"/>')
    parts.append(
        f'<text class="mark" x="{left + width / 2:.0f}" y="{height - 6}" text-anchor="middle">{escape(across.title)}</text>'
    )
    return f"<figure>{_svg(parts, height, across.title)}</figure>"


def _svg(parts: Sequence[str], height: int, title: str) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img"><title>{escape(title)}</title>{inside}</svg>'


def _x(across: Axis, value: float) -> float:
    return _LEFT + across.place(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(up: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - up.place(value) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(across: Axis, up: Axis) -> list[str]:
    parts = []
    for value, words in up.marks:
        y = _y(up, value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="mark" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(words)}</text>')
    for value, words in across.marks:
        x = _x(across, value)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(
            f'<text class="mark" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(words)}</text>'
        )
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    parts.append(
        f'<text class="mark" x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across.title)}</text>'
    )
    parts.append(
        f'<text class="mark" x="{-_HEIGHT / 2 + 12:.0f}" y="12" transform="rotate(-90)" text-anchor="middle">{escape(up.title)}</text>'
    )
    return parts


def _path(across: Axis, up: Axis, points: Sequence[Point]) -> str:
    path, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{_x(across, x):.1f} {_y(up, y):.1f}")
        pen = "L"
    return "".join(path)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
