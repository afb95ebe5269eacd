"""The page of the latency benchmark: how often events were how late, and where a strip spends its time."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from edge.service import markup
from edge.service.markup import Html

_WIDTH, _HEIGHT, _BINS, _BAR = 900, 240, 60, 26
_INK, _PALE, _BLUE = "#1c2430", "#66707e", "#2f6fb0"


def write_page(
    path: Path, words: str, ms: Sequence[float], stages_ms: Mapping[str, float], strip_ms: float, mm_per_ms: float
) -> None:
    """Write the page (HTML); `words` is the summary, `strip_ms` the time in which a strip passes."""
    passed = {"passing under the camera": strip_ms, **stages_ms}
    parts = [
        markup.heading("Latency", "From the last strobe that lit a piece of web to its event at a subscriber"),
        Html(f'<pre style="white-space:pre-wrap">{escape(words)}</pre>'),
        markup.section("How late events were", _histogram(ms, mm_per_ms)),
        markup.section("Where a strip spends its time", _waterfall(passed)),
    ]
    markup.write_html(path, "Latency", parts)


def _histogram(ms: Sequence[float], mm_per_ms: float) -> Html:
    counts, edges = np.histogram(ms, bins=_BINS, range=(0, max(ms, default=1.0)))
    wide, high = _WIDTH / _BINS, _HEIGHT / max(1, int(counts.max()))
    bars = [
        f'<rect x="{at * wide:.1f}" y="{_HEIGHT - count * high:.1f}" width="{wide - 1:.1f}" '
        f'height="{count * high:.1f}" fill="{_BLUE}">'
        f"<title>{edges[at]:.0f} to {edges[at + 1]:.0f} ms: {count}</title></rect>"
        for at, count in enumerate(counts)
    ]
    labels = [
        f'<text x="{part * _WIDTH:.0f}" y="{_HEIGHT + 18}" fill="{_PALE}" text-anchor="{anchor}" font-size="13">'
        f"{part * edges[-1]:.0f} ms, {part * edges[-1] * mm_per_ms:.0f} mm</text>"
        for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    ]
    return _svg(_HEIGHT + 26, [*bars, *labels])


def _waterfall(steps_ms: Mapping[str, float]) -> Html:
    total, begun, drawn = max(1e-9, sum(steps_ms.values())), 0.0, []
    for row, (name, took) in enumerate(steps_ms.items()):
        x, width, y = begun / total * _WIDTH, max(1.0, took / total * _WIDTH), row * _BAR
        anchor, at, colour = "start", x + width + 6, _INK
        if at > 0.7 * _WIDTH:
            anchor, at, colour = ("start", x + 6, "white") if width > _WIDTH / 3 else ("end", x - 6, _INK)
        drawn.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR - 6}" fill="{_BLUE}"/>')
        drawn.append(
            f'<text x="{at:.1f}" y="{y + 15}" fill="{colour}" text-anchor="{anchor}" font-size="13">'
            f"{escape(name)} {took:.1f} ms</text>"
        )
        begun += took
    return _svg(_BAR * len(steps_ms), drawn)


def _svg(height: int, parts: Sequence[str]) -> Html:
    return Html(f'<svg viewBox="0 0 {_WIDTH} {height}" style="width:100%;max-width:{_WIDTH}px">{"".join(parts)}</svg>')
