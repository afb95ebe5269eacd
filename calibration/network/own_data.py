"""Training on a user's own images and masks, and judging what came of it on those it has not seen."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from calibration.network.augmentation import are_photographs, augmentation_for
from calibration.network.datasets.dataset import Dataset, DatasetError, warn_of_shared_groups
from calibration.network.datasets.opening import open_dataset
from calibration.network.evaluation import ADJUSTED_ON, TRAINED_ON
from calibration.network.finishing import finish
from calibration.network.literature.images import Images
from calibration.network.losses import ComponentLoss
from calibration.network.sampling import Web
from calibration.network.splitting import split_groups
from calibration.network.train import LEARNING_RATE, Course, train
from edge.segmentation.model import ModelInfo

OF_PHOTOGRAPHS = 6e-3
"""Their learning rate: what they show is faint at first, and a lower one is long about it."""


def network_for(channels: Sequence[str]) -> Literal["unet", "unet_contrast"]:
    """The network that images with channels of these names are trained with unless another is asked for."""
    return "unet_contrast" if are_photographs(channels) else "unet"


class GroupedWebs(Images):
    """The images of a data set as webs to train on; the same in the same order at each iteration."""

    def __iter__(self) -> Iterator[Web]:
        return (self[at] for at in range(len(self)))


def three_parts(data: Dataset, validation: float, held_back: float, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and held-back images without a common group, shares of every kind of group."""
    classes: dict[str, frozenset[int]] = {}
    for sample in data:
        found = frozenset(np.unique(sample.mask).tolist()) - {0}
        classes[sample.meta.group] = classes.get(sample.meta.group, frozenset()) | found
    split = split_groups(classes, validation, held_back, seed)
    if validation and not split.validation:
        raise DatasetError(
            f"{data.name}: fewer than three groups of any kind cannot be split: give --validation data of its own"
        )
    training, choosing, apart = (data.of_groups(groups) for groups in split)
    return training, choosing, apart


def train_on(
    data: str,
    validation_data: str | None,
    shares: tuple[float, float],
    out: Path,
    course: Course,
    *,
    command: str,
    false_cost: float | None,
    pitch_mm: float,
    web_channels: Sequence[str],
    clean_alarms: float | None = None,
) -> ModelInfo:
    """Train, calibrate the probabilities and choose the thresholds on the validation data, write the model.

    `data` as `open_dataset` takes it; `shares` of its groups for validation, unless there is `validation_data`, and
    held back; `web_channels` where it is of webs; of its clean images at most a
    share of `clean_alarms`, if given, raises an alarm. Raises DatasetError, ConfigError, ModelError, TrainingError.
    """
    for_validation, held_back = shares
    of_all = open_dataset(data, channels=web_channels)
    training, validation, _ = three_parts(of_all, 0.0 if validation_data else for_validation, held_back, course["seed"])
    if validation_data:
        validation = open_dataset(validation_data, channels=web_channels)
    warn_of_shared_groups(training, validation)
    if clean_alarms is not None and all(sample.mask.any() for sample in validation):
        raise DatasetError(f"{validation.name}: holds no clean image to count alarms on: add some")
    if (validation.classes, validation.channels) != (training.classes, training.channels):
        raise DatasetError(
            f"{validation.name}: {'/'.join(validation.channels)} with {'/'.join(validation.classes)}, trained on "
            f"{'/'.join(training.channels)} with {'/'.join(training.classes)}: they must be the same"
        )
    found = train(
        GroupedWebs(training),
        labels=training.classes,
        channels=training.channels,
        loss=ComponentLoss(together=1.0),
        learning_rate=OF_PHOTOGRAPHS if are_photographs(training.channels) else LEARNING_RATE,
        augmentation=augmentation_for(training.channels),
        **course,
    )
    return finish(
        found,
        GroupedWebs(validation),
        out,
        classes=training.classes,
        channels=training.channels,
        pitch_mm=pitch_mm,
        false_cost=false_cost,
        clean_alarms=clean_alarms,
        provenance={
            "command": command,
            "data": training.name,
            TRAINED_ON: json.dumps(training.groups),
            ADJUSTED_ON: json.dumps(validation.groups),
        },
    )
