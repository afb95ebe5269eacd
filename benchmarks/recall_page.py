"""The ablation of `benchmarks.recall` as a page that opens from disk."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge.service import markup
from edge.service.evaluation_page import TARGET, percent
from edge.service.markup import Html, text
from edge.service.matching import Score
from edge.service.page import named

PAGE = "ablation.html"
FALSE_PER_M2_TARGET = 1.0


@dataclass
class Result:
    """Objects of all webs of a case, by class; how many false events lie in degraded web; the area of web; the pages of
    its webs, relative to the report."""

    scores: dict[str, Score]
    false_in_degraded: int
    web_m2: float
    pages: list[str] = field(default_factory=list)

    @property
    def total(self) -> Score:
        """All classes together."""
        return Score.total(self.scores.values())

    @property
    def false_events(self) -> int:
        """Events where nothing of their class was planted."""
        return self.total.events - self.total.true_events

    @property
    def false_per_m2(self) -> float:
        """The same a square metre of web."""
        return self.false_events / self.web_m2

    @property
    def false_per_m2_at_most(self) -> float:
        """What the rate is below with 95 % confidence, were false events to come at random.

        Approximation of the Poisson limit by Wilson and Hilferty (1931).
        """
        above = self.false_events + 1
        limit: float = above * (1 - 1 / (9 * above) + 1.645 / (3 * math.sqrt(above))) ** 3
        return limit / self.web_m2


def write_page(folder: Path, results: dict[str, Result], dense: str, stained: str, model: str, how: str) -> None:
    """Write the page; `dense` and `stained` name the cases that are held against what is asked, `how` says what the
    webs are."""
    area_m2 = sum(result.web_m2 for result in results.values())
    parts = [
        markup.heading("What each effect costs", f"Foilsight ablation: {area_m2:.2f} m² of web, model {model[:12]}"),
        _verdict(results[dense].total, results[stained]),
        markup.section("Object recall", _table(results, _recall, "found", lambda s: f"{s.found:,} of {s.planted:,}")),
        markup.section(
            "Object precision", _table(results, _precision, "true", lambda s: f"{s.true_events:,} of {s.events:,}")
        ),
        markup.section("False objects", _false(results)),
        markup.section("How it was measured", markup.paragraph(how)),
    ]
    markup.write_html(folder / PAGE, "Ablation", parts)


def _verdict(total: Score, stains: Result) -> Html:
    shares = (total.object_recall or 0.0, total.object_precision or 0.0)
    fits = min(shares) >= TARGET and stains.false_per_m2 <= FALSE_PER_M2_TARGET
    words = f"Dense web under all effects: recall {100 * shares[0]:.1f} %, precision {100 * shares[1]:.1f} %"
    rate = f"Stains alone raised {stains.false_events} false objects on {stains.web_m2:.2f} m²"
    asked = f"Asked for: {100 * TARGET:.0f} % both, and no more than {FALSE_PER_M2_TARGET:g} false object per m²."
    limit = f"below {stains.false_per_m2_at_most:.1f} per m² with 95 % confidence"
    return markup.verdict(
        words, f"{rate}: {stains.false_per_m2:.2f} per m², {limit}. {asked}", "good" if fits else "bad"
    )


def _table(
    results: dict[str, Result], share: Callable[[Score], Html], counted: str, count: Callable[[Score], str]
) -> Html:
    labels = list(next(iter(results.values())).scores)
    rows = [
        [text(name), *(share(score) for score in (*result.scores.values(), result.total)), text(count(result.total))]
        for name, result in results.items()
        if result.total.planted
    ]
    return markup.table(("effect", *map(named, labels), "all", counted), rows)


def _recall(score: Score) -> Html:
    return percent(score.found, score.planted)


def _precision(score: Score) -> Html:
    return percent(score.true_events, score.events)


def _false(results: dict[str, Result]) -> Html:
    rows = []
    for name, result in results.items():
        pages = Html(" ".join(markup.link(page, str(number)) for number, page in enumerate(result.pages, start=1)))
        figures = (f"{result.web_m2:.3f}", f"{result.false_events:,}", f"{result.false_in_degraded:,}")
        rates = (f"{result.false_per_m2:.1f}", f"{result.false_per_m2_at_most:.1f}")
        rows.append([text(name), *map(text, figures), *map(text, rates), pages])
    head = ("effect", "web m²", "false", "of these in degraded web", "per m²", "95 % below", "web by web")
    note = "Degraded web was seen under three lights: 1.6 mm at each end of every web here, a roll has but two ends."
    return Html(markup.table(head, rows) + markup.paragraph(note, "pale"))
