"""A plot of points as an SVG file: loss against size, with errors as bars."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 70, 24, 40, 56
LEAST = 1e-6  # of its values, and by itself: less than that could not be told apart on an axis
INK, FAINT, POINT = "#24292f", "#d0d7de", "#0969da"


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    x: float
    y: float
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Axis:
    """From the first to the last of evenly spaced, round numbers; `begin` and `length` are in pixels."""

    marks: tuple[float, ...]
    begin: float
    length: float

    def place(self, value: float) -> float:
        low, high = self.marks[0], self.marks[-1]
        return self.begin + (value - low) / (high - low) * self.length


def axis(values: Sequence[float], begin: float, length: float) -> Axis:
    """An axis that has all values."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    step = round_step(max((high - low) or size or 1.0, LEAST * size, LEAST))
    first, last = math.floor(low / step), math.ceil(high / step)
    last += first == last
    return Axis(tuple(round(number * step, 9) for number in range(first, last + 1)), begin, length)


def round_step(span: float) -> float:
    """1, 2 or 5 times a power of ten that divides a span into five to ten."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(times * power for times in (1, 2, 5, 10) if span / (times * power) <= 8)


def plot(title: str, points: Sequence[Point], across: str, up: str) -> str:
    """The points as an SVG, with `across` and `up` beside the axes."""
    heights = [one.y + side * one.error for one in points for side in (-1, 1)]
    x = axis([one.x for one in points], LEFT, WIDTH - LEFT - RIGHT)
    y = axis([0.0, *heights], HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            text(LEFT, 22, title, "start", 15),
            *grid(x, y),
            text(LEFT + x.length / 2, HEIGHT - 14, across, "middle"),
            f'<g transform="translate(18 {HEIGHT / 2}) rotate(-90)">{text(0, 0, up, "middle")}</g>',
            *drawn(points, x, y),
            "</svg>\n",
        ]
    )


def grid(x: Axis, y: Axis) -> Iterator[str]:
    for mark in x.marks:
        yield line(x.place(mark), y.begin, x.place(mark), y.begin + y.length)
        yield text(x.place(mark), y.begin + 18, f"{mark:g}", "middle")
    for mark in y.marks:
        yield line(x.begin, y.place(mark), x.begin + x.length, y.place(mark))
        yield text(x.begin - 8, y.place(mark) + 4, f"{mark:g}", "end")


def drawn(points: Sequence[Point], x: Axis, y: Axis) -> Iterator[str]:
    used: list[tuple[float, float]] = []
    for one in sorted(points, key=lambda point: (point.x, point.y, point.name)):
        across, up = x.place(one.x), y.place(one.y)
        yield line(across, y.place(one.y - one.error), across, y.place(one.y + one.error), POINT)
        yield f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="{POINT}"/>'
        right = across < WIDTH * 0.7
        label = free(used, across, up - 8)
        used.append((across, label))
        yield text(across + (8 if right else -8), label, one.name, "start" if right else "end")


def free(used: Sequence[tuple[float, float]], across: float, up: float) -> float:
    """A height for a label that no earlier label nearby has."""
    while any(abs(across - x) < 130 and abs(up - y) < 14 for x, y in used):
        up -= 14
    return up


def line(x1: float, y1: float, x2: float, y2: float, colour: str = FAINT) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def text(x: float, y: float, words: str, anchor: str, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(words)}</text>'
    )
