"""The study as a page that opens from disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from calibration.network.sampling import Web
from calibration.network.study.charts import Point, by_name, scatter
from calibration.network.study.recipes import OURS, PUBLISHED, published_mean
from calibration.network.study.results import ModelResult, Settings, figure_of
from calibration.network.study.wording import mean_text, percent, reservations, verdict
from edge.core.types import F32, U8
from edge.service import markup
from edge.service.markup import Html, text
from edge.service.pictures import colour_of, palette, write_picture

PICTURES = "pictures"
SHOWN_PX = 384
"""Side of the square of web that is shown, as far as the web reaches."""


def write_page(
    path: Path, results: Sequence[ModelResult], settings: Settings, web: Web, shown: Mapping[str, U8]
) -> None:
    """Write the page and, beside it, a three-way picture a model: `web` (surface, truth) and the classes `shown`."""
    folder = path.parent / PICTURES
    folder.mkdir(exist_ok=True)
    labels = list(results[0].scores.classes)
    place = busiest(web[1], SHOWN_PX)
    figures = []
    for name, called in shown.items():
        write_picture(folder / f"{name}.png", three_way(web, called, place, len(labels)))
        caption = f"{name}: surface, truth, called"
        figures.append(markup.figure(f"{PICTURES}/{name}.png", caption, caption))
    judged = verdict(results)
    markup.write_html(
        path,
        "Study",
        [
            markup.heading("Study of class imbalance", f"{len(results)} models, {settings.generator}"),
            *([markup.paragraph(judged, "note")] if judged else []),
            markup.section("Means over the defects", markup.paragraph(reservations(settings)), _means(results)),
            markup.section("True and false positive rate", _rates_chart(results)),
            markup.section("Precision and recall", _precision_chart(results)),
            markup.section("By class", _legend(labels), _class_chart(results, labels), _classes(results, labels)),
            markup.section("One place in every model's eyes", _legend(labels), *figures),
            markup.section("What was called what", *(_confusion(result) for result in results)),
            markup.section("What the patches held", *_compositions(results)),
            markup.section("Settings", markup.facts((name, str(getattr(settings, name))) for name in _FIELDS)),
        ],
    )


FIGURES = ("tpr", "fpr", "precision", "precision_per_image", "f1")
_FIELDS = Settings.__struct_fields__


def busiest(truth: U8, side: int) -> tuple[slice, slice]:
    """The square with most defect pixels, on a lattice of half its side; the whole of a smaller web."""
    rows, columns = (range(0, max(size - side, 0) + 1, max(side // 2, 1)) for size in truth.shape)
    places = [(slice(row, row + side), slice(column, column + side)) for row in rows for column in columns]
    return max(places, key=lambda place: np.count_nonzero(truth[place]))


def three_way(web: Web, called: U8, place: tuple[slice, slice], classes: int) -> U8:
    """Surface, truth and what it was called, side by side, (h, w, 3) BGR. Of the surface the first three channels."""
    colours = palette(classes)
    planes = [_stretched(plane[place]) for plane in web[0][:3]]
    surface = cv2.merge([planes[min(at, len(planes) - 1)] for at in (2, 1, 0)])
    gutter = np.full((surface.shape[0], 4, 3), 255, np.uint8)
    picture: U8 = np.concatenate([surface, gutter, colours[web[1][place]], gutter, colours[called[place]]], axis=1)
    return picture


def _stretched(plane: F32) -> U8:
    low, high = np.percentile(plane, (1, 99))
    stretched: U8 = np.clip(255 * (plane - low) / max(high - low, 1e-6), 0, 255).astype(np.uint8)
    return stretched


def _means(results: Sequence[ModelResult]) -> Html:
    rows = []
    for result in results:
        published = published_mean(result.name) or (None, None)
        own = (mean_text(result.scores, each) for each in FIGURES)
        spread = (result.psoi("tpr"), result.psoi("fpr"), result.psoi("precision"), result.psomt("tpr"))
        rows.append(
            [
                text(result.name),
                *(text(each) for each in own),
                *(text(percent(value)) for value in (*spread, *published)),
            ]
        )
    head = ("model", "TPR", "FPR", "precision", "per image", "F1")
    spreads = ("PSoI TPR", "PSoI FPR", "PSoI precision", "PSoMT TPR", "thesis TPR", "thesis FPR")
    return markup.table((*head, *spreads), rows)


def _classes(results: Sequence[ModelResult], labels: Sequence[str]) -> Html:
    rows = []
    for result in results:
        for label in labels[1:]:
            one, published = result.scores.classes[label], PUBLISHED.get(result.name, {}).get(label, (None, None))
            own = (one.tpr, one.fpr, one.precision, one.precision_per_image, one.f1, result.psoi("tpr", label))
            cells = [text(percent(value)) for value in (*own, *published)]
            rows.append([text(result.name), text(label), *cells])
    head = ("model", "class", "TPR", "FPR", "precision", "per image", "F1", "PSoI TPR", "thesis TPR", "thesis FPR")
    return markup.table(head, rows, words=2)


def _rates_chart(results: Sequence[ModelResult]) -> Html:
    return scatter(_points(results, "fpr", "tpr"), "mean FPR", "mean TPR")


def _precision_chart(results: Sequence[ModelResult]) -> Html:
    return scatter(_points(results, "tpr", "precision"), "mean recall (TPR)", "mean precision")


def _class_chart(results: Sequence[ModelResult], labels: Sequence[str]) -> Html:
    series = [
        (
            label,
            [
                Point(result.name, 0.0, figure_of(result.scores, "tpr", label) or 0.0, result.psoi("tpr", label) or 0.0)
                for result in results
            ],
        )
        for label in labels[1:]
    ]
    return by_name(series, "TPR and its variation over checkpoints")


def _points(results: Sequence[ModelResult], x: str, y: str) -> list[Point]:
    """Models by two figures of their means; one for which either is not defined has no point."""
    points = []
    for result in results:
        at, up = (figure_of(result.scores, figure) for figure in (x, y))
        if at is not None and up is not None:
            points.append(Point(result.name, at, up, outstanding=result.name == OURS))
    return points


def _confusion(result: ModelResult) -> Html:
    labels = list(result.scores.classes)
    rows: list[list[Html | int]] = [
        [text(label), *counts] for label, counts in zip(labels, result.scores.confusion, strict=True)
    ]
    head = ("pixels of \\ called", *labels)
    return markup.folded(result.name, markup.table(head, rows))


def _legend(labels: Sequence[str]) -> Html:
    return markup.legend(markup.swatch(label, colour_of(at)) for at, label in enumerate(labels) if at)


def _compositions(results: Sequence[ModelResult]) -> list[Html]:
    return [
        markup.folded(f"{result.name}: {told.splitlines()[0]}", Html(f"<pre>{text(told)}</pre>"))
        for result in results
        for told in result.trainings[0].composition
        if told
    ]
