"""A study from webs to tables."""

import sys
from collections.abc import Sequence
from pathlib import Path

from calibration.network.datasets.dataset import class_pixels, require_every_class
from calibration.network.metrics import Scores, confusion_matrix, score, stability_iterations
from calibration.network.rendered import render_webs
from calibration.network.sampling import Web
from calibration.network.study.models import Place, train_model, trained_model
from calibration.network.study.page import write_page
from calibration.network.study.results import (
    ModelResult,
    Settings,
    TrainingResult,
    claim_folder,
    read_result,
    write_json,
)
from calibration.network.unet import require_grid
from edge.simulation.planting import LABELS

SEEDS = {"training": 10_000, "validation": 20_000, "unseen": 30_000}
"""First seeds of the webs to train on, to choose thresholds on and to judge on."""


def study(names: Sequence[str], settings: Settings, folder: Path) -> list[ModelResult]:
    """Train and judge models; what an earlier run into the folder finished is not done again.

    Writes `study.json`, `study.html` and every network as a checkpoint that `export` reads. Raises ConfigError,
    ModelError, TrainingError, and DatasetError for webs that lack a class.
    """
    require_grid(settings.patch)
    claim_folder(folder, settings)
    training, validation, unseen = (
        render_webs(range(SEEDS[use], SEEDS[use] + count), settings.length_mm, settings.width_px, settings.channels)
        for use, count in (
            ("training", settings.webs),
            ("validation", settings.validation_webs),
            ("unseen", settings.unseen_webs),
        )
    )
    for use, webs in (("training", training), ("unseen", unseen)):
        pixels = class_pixels([truth for _, truth in webs], len(LABELS))
        require_every_class(pixels, LABELS, f"{use} webs")
    results = [ModelResult(name, _trainings(name, training, validation, unseen, settings, folder)) for name in names]
    write_json(folder / "study.json", {"settings": settings, "models": results})
    places = {result.name: Place(folder, f"{result.name}-1") for result in results}
    shown = {
        name: trained_model(name, settings.iterations, len(LABELS), place, validation).class_map(unseen[0][0])
        for name, place in places.items()
    }
    write_page(folder / "study.html", results, settings, unseen[0], shown)
    return results


def _trainings(
    name: str,
    training: Sequence[Web],
    validation: Sequence[Web],
    unseen: Sequence[Web],
    settings: Settings,
    folder: Path,
) -> list[TrainingResult]:
    found = []
    for number in range(1, settings.trainings + 1):
        place = Place(folder, f"{name}-{number}")
        path = folder / f"{place.name}.json"
        if not path.exists():
            told = train_model(name, training, LABELS, settings, settings.seed + number - 1, place, _say)
            write_json(path, TrainingResult(_snapshots(name, place, settings, validation, unseen), told))
            _tidy(place, settings)
        found.append(read_result(path))
    return found


def _snapshots(
    name: str, place: Place, settings: Settings, validation: Sequence[Web], unseen: Sequence[Web]
) -> dict[str, Scores]:
    scores = {}
    for iteration in stability_iterations(settings.iterations):
        model = trained_model(name, iteration, len(LABELS), place, validation)
        confusions = [confusion_matrix(truth, model.class_map(surface), len(LABELS)) for surface, truth in unseen]
        scores[str(iteration)] = score(confusions, LABELS)
    return scores


def _tidy(place: Place, settings: Settings) -> None:
    """The last snapshot stays: it is the model."""
    for number in range(len(LABELS) - 1):
        place.checkpoint(number).unlink(missing_ok=True)
        for iteration in stability_iterations(settings.iterations)[:-1]:
            place.snapshot(number, iteration).unlink(missing_ok=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
