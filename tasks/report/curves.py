"""Curves over the tokens of a training run, as inline SVG that takes its colours from the page.

A picture stretches to the page, so it holds no text: its numbers stand beside it, at the heights that `ticks` gives.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from domainlm.tasks.report.training import CurvePoint, Mark, Training

WIDTH, HEIGHT = 1000, 260
TONES = 6  # in the style sheet

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Picture:
    """A picture, its round numbers with their heights (0 at the bottom, 1 at the top), and the names of its lines."""

    svg: Markup
    ticks: list[tuple[float, float]]
    names: tuple[str, ...] = ()


def loss_picture(training: Training) -> Picture:
    """The loss as a line over its spread, and where there was trouble."""
    curve = training.curve
    line = [(point.tokens, point.loss) for point in curve]
    band = [(p.tokens, p.high) for p in curve] + [(p.tokens, p.low) for p in reversed(curve)]
    return draw([("", line)], training.tokens_planned, band=band, marks=training.marks)


def held_out_picture(training: Training) -> Picture:
    """Bits per byte of each source."""
    lines = [(name, [(look.tokens, look.bits_per_byte) for look in looks]) for name, looks in training.held_out.items()]
    return draw(lines, training.tokens_planned, dots=True)


def small_picture(curve: Sequence[CurvePoint], of: str, last: float) -> Picture:
    """Another figure of the steps: `lr` or `tokens_per_s`, from zero."""
    return draw([("", [(point.tokens, getattr(point, of)) for point in curve])], last, from_zero=True)


def draw(
    lines: Sequence[tuple[str, Points]],
    last: float,
    *,
    band: Points = (),
    marks: Sequence[Mark] = (),
    dots: bool = False,
    from_zero: bool = False,
) -> Picture:
    """Named lines from 0 to `last`."""
    values = [value for _, points in lines for _, value in points] + [value for _, value in band]
    low, high = span(values, from_zero=from_zero)

    def at(tokens: float, value: float) -> str:
        return f"{tokens / last * WIDTH:.1f},{(high - value) / (high - low) * HEIGHT:.1f}"

    parts = [f'<polygon points="{" ".join(at(*point) for point in band)}"/>'] if band else []
    parts += [
        f'<line class="{mark.kind}" x1="{x}" x2="{x}" y1="0" y2="{HEIGHT}"><title>{escape(mark.told)}</title></line>'
        for mark in marks
        for x in [f"{mark.tokens / last * WIDTH:.1f}"]
    ]
    for number, (_, points) in enumerate(lines):
        places = [at(*point) for point in points]
        parts.append(f'<polyline class="line{number % TONES}" points="{" ".join(places)}"/>')
        if dots:  # a line of no length with a round end: a circle that does not stretch with the page
            ends = "".join(f"M{place}h0" for place in places)
            parts.append(f'<path class="dots line{number % TONES}" d="{ends}"/>')
    svg = Markup(
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
    return Picture(svg, ticks(low, high), tuple(name for name, _ in lines))


def span(values: Sequence[float], *, from_zero: bool = False) -> tuple[float, float]:
    """Least and greatest value, with some room; no value has a span, too."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if from_zero:
        return 0.0, 1.1 * high or 1.0
    room = max(0.05 * (high - low), 1e-3)
    return low - room, high + room


def ticks(low: float, high: float) -> list[tuple[float, float]]:
    """Three or so round numbers, each with its height."""
    exponent = math.floor(math.log10(high - low))
    step = next(
        s * 10.0**e for e in range(exponent - 1, exponent + 2) for s in (1, 2, 5) if (high - low) / (s * 10.0**e) <= 5
    )
    values = (step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1))
    return [(value, (value - low) / (high - low)) for value in values]
