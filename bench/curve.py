"""A small plain picture of measured curves, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

INK, QUIET, LINE, PAPER = "#2b2125", "#6b5c5c", "#e7d9cb", "#fbf6f0"
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 84, 130, 64, 70


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    colour: str
    points: Sequence[tuple[float, float]]


def draw(curves: Sequence[Curve], *, title: str, across: str, up: str, goal: float) -> str:
    """Both axes are logarithmic. `goal` is drawn as a line that the curves should stay below."""
    xs = sorted({x for curve in curves for x, _ in curve.points})
    ys = [y for curve in curves for _, y in curve.points] + [goal]
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        along = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        above = math.log(y / low) / math.log(high / low)
        return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - above * (HEIGHT - TOP - BOTTOM)

    bottom, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        _text(LEFT, 32, title, size=17, colour=INK),
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = place(xs[0], 10.0**power)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{end}" stroke="{LINE}"/>')
        parts.append(_text(LEFT - 10, y + 5, f"{10.0**power:g}", anchor="end"))
    for x in xs:
        at = place(x, low)[0]
        parts.append(f'<path d="M{at:.1f} {bottom}v6" stroke="{QUIET}"/>')
        parts.append(_text(at, bottom + 24, f"{x:,.0f}", anchor="middle"))
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{end}" fill="none" stroke="{QUIET}"/>')
    parts.append(_text((LEFT + end) / 2, HEIGHT - 18, across, anchor="middle"))
    parts.append(f'<g transform="rotate(-90 24 {(TOP + bottom) / 2})">')
    parts.append(_text(24, (TOP + bottom) / 2, up, anchor="middle") + "</g>")
    y = place(xs[0], goal)[1]
    parts.append(
        f'<path d="M{LEFT} {y:.1f}H{end}" stroke="{INK}" stroke-width="1.5" stroke-dasharray="6 5"/>'
    )
    parts.append(_text(end + 10, y + 5, f"goal {goal:g}", colour=INK))
    for curve in curves:
        places = [place(x, y) for x, y in curve.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{curve.colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{curve.colour}"/>' for x, y in places]
        parts.append(
            _text(end + 10, places[-1][1] + 5, f"{curve.name} {curve.points[-1][1]:.3f}", colour=curve.colour)
        )
    return "\n".join([*parts, "</svg>", ""])


def _text(
    x: float, y: float, text: str, *, size: int = 14, colour: str = QUIET, anchor: str = "start"
) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{text}</text>'
