"""Charts as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edge.service.markup import Html
from edge.service.pictures import colour_of, next_round

_WIDTH, _HEIGHT, _MARGIN = 560, 360, 48
_LEAST = 1e-4


@dataclass(frozen=True)
class Point:
    """A place in a chart with its name; `spread_y` is drawn up and down from it."""

    name: str
    x: float
    y: float
    spread_y: float = 0.0
    outstanding: bool = False


def scatter(points: Sequence[Point], x_title: str, y_title: str) -> Html:
    """Points by name over axes that begin at 0."""
    x_most, y_most = (next_round(max([*values, _LEAST])) for values in ([p.x for p in points], [p.y for p in points]))
    marks = []
    for point in points:
        x, y = _at(point.x / x_most, point.y / y_most)
        colour = "#b3142b" if point.outstanding else "#0b57a4"
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
            f'<text x="{x + 6:.1f}" y="{y - 4:.1f}" font-size="10" fill="{colour}">{escape(point.name)}</text>'
        )
    return _chart(marks, x_title, y_title, x_most, y_most)


def by_name(series: Sequence[tuple[str, Sequence[Point]]], y_title: str) -> Html:
    """For each name a column in which every series has a point with its spread; x counts the columns."""
    names = [point.name for point in series[0][1]]
    y_most = next_round(max([_LEAST, *(point.y + point.spread_y for _, points in series for point in points)]))
    marks = []
    for index, (label, points) in enumerate(series):
        blue, green, red = colour_of(index + 1)
        colour = f"rgb({red},{green},{blue})"
        for column, point in enumerate(points):
            x, y = _at((column + 0.3 + 0.12 * index) / len(names), point.y / y_most)
            reach = point.spread_y / y_most * (_HEIGHT - 2 * _MARGIN)
            marks.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - reach:.1f}" y2="{y + reach:.1f}" stroke="{colour}"/>'
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{escape(label)}, '
                f"{escape(point.name)}: {point.y:.4g}</title></circle>"
            )
    for column, name in enumerate(names):
        x, y = _at((column + 0.5) / len(names), 0)
        marks.append(
            f'<text transform="translate({x:.1f},{y + 12:.1f}) rotate(20)" font-size="9">{escape(name)}</text>'
        )
    return _chart(marks, "", y_title, None, y_most)


def _at(x_share: float, y_share: float) -> tuple[float, float]:
    return _MARGIN + x_share * (_WIDTH - 2 * _MARGIN), _HEIGHT - _MARGIN - y_share * (_HEIGHT - 2 * _MARGIN)


def _chart(marks: Sequence[str], x_title: str, y_title: str, x_most: float | None, y_most: float) -> Html:
    (left, bottom), (right, top) = _at(0, 0), _at(1, 1)
    ticks = []
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = _at(share, share)
        ticks.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dde2e8"/>')
        ticks.append(f'<text x="2" y="{y + 3:.1f}" font-size="9">{share * y_most:.3g}</text>')
        if x_most is not None:
            ticks.append(
                f'<text x="{x:.1f}" y="{bottom + 12}" font-size="9" text-anchor="middle">{share * x_most:.3g}</text>'
            )
    axes = f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#1c2430"/>'
    titles = (
        f'<text x="{left}" y="{top - 8}" font-size="11">{escape(y_title)}</text>'
        f'<text x="{right}" y="{_HEIGHT - 8}" font-size="11" text-anchor="end">{escape(x_title)}</text>'
    )
    return Html(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">{"".join(ticks)}{axes}{"".join(marks)}'
        f"{titles}</svg>"
    )
