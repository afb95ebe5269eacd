"""An evaluation as a page that opens from disk: recall and precision by class, and pictures of what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.core.types import U8
from edge.service import markup
from edge.service.markup import Html, text
from edge.service.matching import DILATION_PX, FOUND_SHARE, TRUE_SHARE, Comparison, Fate, Judged, Score, interval
from edge.service.page import class_legend, named, panel_legend
from edge.service.pictures import Colour, Crop, Look, colour_of, file_name, palette, write_picture
from edge.service.report import fresh_folder, writing
from edge.service.roll_map import RollMap

PAGE, MAP, OBJECTS = "evaluation.html", "evaluation_map.png", "objects"
TARGET = 0.9
"""The object recall and precision that are asked of dense web."""
SHOWN_PER_CLASS = 6
_MOST_LISTED = 300
_FATES: dict[Fate, Colour] = {
    "found": (75, 140, 30),
    "missed": (43, 20, 200),
    "false": (200, 0, 190),
    "unseen": (140, 140, 140),
}
_TITLES: dict[Fate, str] = {
    "found": "found",
    "missed": "missed",
    "false": "false event",
    "unseen": "planted but not seen",
}


@dataclass(frozen=True)
class Heading:
    """What was evaluated: its name, the model's digest and the length of web inspected."""

    name: str
    model: str
    seen_mm: float


class EvaluationPage:
    """Gathers the pictures of an evaluation from the strips of the web as they pass, then writes its page.

    `truth` (rows, width) u8. Raises EventsError where the folder cannot be written.
    """

    def __init__(
        self, folder: Path, heading: Heading, comparison: Comparison, truth: U8, classes: Sequence[str], pitch_mm: float
    ) -> None:
        fresh_folder(folder, (PAGE, MAP), (OBJECTS,))
        rows, width_px = truth.shape
        self._folder, self._heading, self._comparison = folder, heading, comparison
        self._truth, self._classes, self._pitch_mm = truth, classes, pitch_mm
        self._shown = [
            (each, Crop(each.box_px, kind, width_px, 0, rows))
            for fate in ("missed", "false")
            for kind, label in enumerate(classes[1:], start=1)
            for each in _largest(comparison.judged, fate, label)
        ]
        self._map = RollMap(list(_TITLES.values()), width_px, pitch_mm, rows * pitch_mm, colours=list(_FATES.values()))

    def add(self, look: Look) -> None:
        """Take the pictures that lie in a strip."""
        self._map.add(look)
        for _, crop in self._shown:
            crop.add(look)

    def write(self) -> None:
        """Write page and pictures. Raises EventsError."""
        with writing(self._folder):
            self._write()

    def _write(self) -> None:
        for each in sorted(self._comparison.judged, key=lambda each: list(_FATES).index(each.fate)):
            self._map.count(_TITLES[each.fate])
            for outline in each.outline_px:
                self._map.outline(
                    (outline.astype(np.float64) + 0.5) * self._pitch_mm,
                    _TITLES[each.fate],
                    1 if each.fate == "found" else 2,
                )
        for coverage in self._comparison.not_inspected:
            self._map.add_event(coverage)
        self._map.write(self._folder / MAP, self._heading.name)
        total = Score.total(self._comparison.scores.values())
        parts = [
            markup.heading(self._heading.name, f"Foilsight evaluation, model {self._heading.model[:12]}"),
            _verdict(total, self._heading.seen_mm, self._truth.shape[1] * self._pitch_mm),
            markup.tiles(_figures(total, self._comparison.judged)),
            markup.section("By class", _by_class(self._comparison, total), _definition()),
            markup.section("Where", markup.figure(MAP, "Planted objects and false events", "The web to scale")),
            markup.section("Missed", *self._pictures("missed")),
            markup.section("False", *self._pictures("false")),
            markup.section("All that went wrong", *self._listed()),
        ]
        markup.write_html(self._folder / PAGE, f"{self._heading.name}: evaluation", parts)

    def _pictures(self, fate: Fate) -> list[Html]:
        colours = palette(len(self._classes))
        figures = []
        for number, (each, crop) in enumerate(self._shown, start=1):
            if each.fate != fate:
                continue
            crop.add_classes(self._comparison.found[crop.rows], crop.rows.start)
            path = self._folder / OBJECTS / f"{fate}_{file_name(each.label)}_{number}.png"
            sheet = crop.sheet(colours, self._pitch_mm, self._truth[crop.rows, crop.columns])
            write_picture(path, sheet)
            caption = f"{named(each.label)} at {self._place(each)}: {self._why(each)}"
            figures.append(markup.figure(f"{OBJECTS}/{path.name}", caption, f"{fate} {named(each.label)}"))
        if not figures:
            return [markup.paragraph("Nothing.", "good")]
        count = sum(each.fate == fate for each in self._comparison.judged)
        note = f"{len(figures)} of {count:,}" + (", the largest of each class" if len(figures) < count else "")
        note += ". Found: what was reported as events. Planted: the truth."
        return [class_legend(self._classes[1:]), panel_legend(), markup.paragraph(note, "pale"), *figures]

    def _place(self, each: Judged) -> str:
        x0, y0, x1, y1 = each.box_px
        along, across = ((low + high) / 2 * self._pitch_mm for low, high in ((y0, y1), (x0, x1)))
        return f"{along:,.1f} mm, {across:.1f} mm across"

    def _why(self, each: Judged) -> str:
        """Size of an object and how it fell short."""
        x0, y0, x1, y1 = (edge * self._pitch_mm for edge in each.box_px)
        size = f"{each.area_px * self._pitch_mm**2:.3f} mm² in {x1 - x0:.2f} × {y1 - y0:.2f} mm"
        network = f"the network calls {100 * each.pixel_share:.0f} % of it {named(each.label)}"
        if each.fate == "missed":
            how = f"{100 * each.share:.0f} % covered by true events, {network}"
            other = f"{100 * each.instead_share:.0f} % {named(each.instead)}"
        else:
            how = f"{100 * each.share:.0f} % near planted {named(each.label)}"
            other = f"{100 * each.instead_share:.0f} % on planted {named(each.instead)}"
        where = ", in degraded web" if self._comparison.degraded(each) else ""
        return f"{size}{where}; {how}" + (f", {other}" if each.instead else "")

    def _listed(self) -> list[Html]:
        wrong = [each for each in self._comparison.judged if each.fate in ("missed", "false")]
        if not wrong:
            return []
        rows = [
            (text(each.fate, "bad"), text(named(each.label)), text(self._place(each)), text(self._why(each)))
            for each in sorted(wrong, key=lambda each: (each.fate, -each.area_px))[:_MOST_LISTED]
        ]
        table = markup.table(("", "class", "at", "size and overlap"), rows, words=4)
        return [markup.folded(f"{len(rows):,} of {len(wrong):,}", table)]


def percent(part: int, whole: int) -> Html:
    """A share with its confidence interval; red where it is below what is asked."""
    if not whole:
        return text("–", "pale")
    low, high = interval(part, whole)
    share = f"{100 * part / whole:.1f} %"
    bounds = f"<small>{100 * low:.1f}–{100 * high:.1f}</small>"
    return Html(text(share, "" if part >= TARGET * whole else "bad") + bounds)


def _largest(judged: Sequence[Judged], fate: str, label: str) -> list[Judged]:
    own = [each for each in judged if each.fate == fate and each.label == label]
    return sorted(own, key=lambda each: -each.area_px)[:SHOWN_PER_CLASS]


def _verdict(total: Score, seen_mm: float, width_mm: float) -> Html:
    shares = (total.object_recall, total.object_precision)
    recall, precision = ("undefined" if share is None else f"{100 * share:.1f} %" for share in shares)
    seen = f"{seen_mm:,.1f} mm of web, {width_mm:.1f} mm wide, were inspected ({seen_mm * width_mm * 1e-6:.4f} m²)."
    if not total.planted:
        words = f"Nothing was planted, {total.events:,} events were raised"
        return markup.verdict(words, seen, "bad" if total.events else "good")
    low = any(share is not None and share < TARGET for share in shares)
    return markup.verdict(f"Object recall {recall}, precision {precision}", seen, "bad" if low else "good")


def _figures(total: Score, judged: Sequence[Judged]) -> list[tuple[str, str, str]]:
    missed, false = total.planted - total.found, total.events - total.true_events
    return [
        ("planted", f"{total.planted:,}", ""),
        ("found", f"{total.found:,}", "good"),
        ("missed", f"{missed:,}", "bad" if missed else ""),
        ("events", f"{total.events:,}", ""),
        ("false", f"{false:,}", "bad" if false else ""),
        ("planted where nothing was seen", f"{sum(each.fate == 'unseen' for each in judged):,}", ""),
    ]


def _by_class(comparison: Comparison, total: Score) -> Html:
    head = ("class", "reported from mm²", "planted", "found", "recall", "events", "true", "precision")
    rows = [
        (markup.swatch(named(label), colour_of(index)), text(f"{comparison.least_mm2[label]:g}"), *_cells(score))
        for index, (label, score) in enumerate(comparison.scores.items(), start=1)
    ]
    return markup.table(head, [*rows, (text("all"), text(""), *_cells(total))], sums=True)


def _cells(score: Score) -> tuple[markup.Cell, ...]:
    return (
        score.planted,
        score.found,
        percent(score.found, score.planted),
        score.events,
        score.true_events,
        percent(score.true_events, score.events),
    )


def _definition() -> Html:
    return markup.paragraph(
        f"An event is true if at least {100 * TRUE_SHARE:.0f} % of it lies within {DILATION_PX} px of what was planted "
        f"of its class; a planted object is found if true events cover at least {100 * FOUND_SHARE:.0f} % of it. "
        "Smaller ones than are reported of their class are not asked for. Small figures: 95 % confidence.",
        "pale",
    )
