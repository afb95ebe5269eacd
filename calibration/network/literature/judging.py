"""How well a system of the literature does on a data set: figures, APRF curves and pictures."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.network.datasets.dataset import Dataset
from calibration.network.literature.curves import At, curves, draw, figures_at
from calibration.network.literature.detector import Detector
from calibration.network.literature.images import intensity_channels
from calibration.network.metrics import Scores, confusion_matrix, dice, score
from calibration.network.study.results import write_json
from calibration.network.tables import text_table
from calibration.network.thresholds import ThresholdCounts
from edge.core.errors import ConfigError
from edge.core.types import F32, U8
from edge.service.pictures import file_name, write_picture

PICTURES, PICTURES_FOLDER = 8, "pictures"
FOUND, FALSE, MISSED = (0, 200, 0), (0, 0, 230), (230, 0, 0)
"""Blue, green, red."""


class Judgement(msgspec.Struct, frozen=True):
    """`figures` of each defect at its threshold, over pixels; `dice` of each defect and `mean_dice`, means over images,
    an empty mask that was called empty being 1; `scores` of the class map with its confusion matrix.

    `clean_images`: images [truth][called] of clean and defective as the classifier called them, None without one.
    """

    recipe: str
    data: str
    images: int
    figures: dict[str, At]
    dice: dict[str, float]
    mean_dice: float
    scores: Scores
    clean_images: list[list[int]] | None


def choose_thresholds(detector: Detector, dataset: Dataset) -> tuple[float, ...]:
    """Thresholds of best pixel F1 on a data set."""
    counts = ThresholdCounts(len(detector.classes) - 1)
    for image, mask, _ in dataset:
        counts.add(detector.ask(image)[1], mask)
    return tuple(counts.best_thresholds())


def judge(detector: Detector, dataset: Dataset, folder: Path) -> Judgement:
    """Ask for every image; leaves judgement.json, curves-CLASS.png and pictures/ of the first images with defects.

    Raises ConfigError for a folder that cannot be made, DatasetError.
    """
    make_folder(folder)
    classes = len(detector.classes)
    counts, confusions, dices = ThresholdCounts(classes - 1), [], []
    images = np.zeros((2, 2), np.int64)
    shown = 0
    for image, mask, meta in dataset:
        clean, p = detector.ask(image)
        called = detector.classes_of(p)
        counts.add(p, mask)
        confusions.append(confusion_matrix(mask, called, classes))
        dices.append([dice(mask == k, called == k) for k in range(1, classes)])
        images[int(mask.any()), int(not clean)] += 1
        if shown < PICTURES and (mask.any() or called.any()):
            shown += 1
            (folder / PICTURES_FOLDER).mkdir(exist_ok=True)
            picture = right_and_wrong(gray(image, dataset.channels), mask, called)
            write_picture(folder / PICTURES_FOLDER / f"{shown}-{file_name(Path(meta.name).stem)}.png", picture)
    found = curves(counts)
    defects = detector.classes[1:]
    for label, curve, threshold in zip(defects, found, detector.thresholds, strict=True):
        draw(folder / f"curves-{file_name(label)}.png", curve, label, threshold)
    each = np.mean(dices, axis=0)
    judgement = Judgement(
        detector.recipe,
        dataset.name,
        len(dataset),
        {
            label: figures_at(curve, threshold)
            for label, curve, threshold in zip(defects, found, detector.thresholds, strict=True)
        },
        dict(zip(defects, each.tolist(), strict=True)),
        float(each.mean()),
        score(confusions, detector.classes),
        images.tolist() if detector.classifier is not None else None,
    )
    write_json(folder / "judgement.json", judgement)
    return judgement


def make_folder(folder: Path) -> None:
    """Make a folder that results are to lie in. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror}): choose another folder") from error


def judgement_text(judgement: Judgement) -> str:
    """A judgement as tables."""
    rows = [
        (label, *(_text(getattr(at, name)) for name in At.__struct_fields__), f"{judgement.dice[label]:.3f}")
        for label, at in judgement.figures.items()
    ]
    lines = [text_table(("class", *At.__struct_fields__, "dice"), rows)]
    lines.append(f"Dice, mean over {judgement.images} images and their classes: {judgement.mean_dice:.4f}")
    labels = list(judgement.scores.classes)
    confusion = [(label, *row) for label, row in zip(labels, judgement.scores.confusion, strict=True)]
    lines.append(text_table(("pixels, called", *labels), confusion))
    if judgement.clean_images is not None:
        rows_ = [(name, *row) for name, row in zip(("clean", "defect"), judgement.clean_images, strict=True)]
        lines.append(text_table(("images, called", "clean", "defect"), rows_))
    return "\n\n".join(lines)


def gray(image: F32, channels: tuple[str, ...]) -> U8:
    """An image (C,H,W) as gray values: the mean of the channels that hold brightness, from its darkest to brightest."""
    mean = image[intensity_channels(channels) or slice(None)].mean(axis=0)
    low, high = np.percentile(mean, [0.5, 99.5])
    levels: U8 = np.clip(255 * (mean - low) / max(high - low, 1e-6), 0, 255).astype(np.uint8)
    return levels


def right_and_wrong(shown: U8, truth: U8, called: U8) -> U8:
    """A picture (H,W,3): defects found green, false or of the wrong class red, missed blue, over gray values (H,W)."""
    picture = np.repeat(shown[:, :, None], 3, axis=2)
    for where, colour in (
        ((called > 0) & (called == truth), FOUND),
        ((called > 0) & (called != truth), FALSE),
        ((called == 0) & (truth > 0), MISSED),
    ):
        picture[where] = _blend(picture[where], colour)
    return picture


def _blend(pixels: U8, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return (0.35 * pixels + 0.65 * np.array(colour)).astype(np.uint8)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
