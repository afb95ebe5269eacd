"""Training on a user's own images and masks, and judging what came of it on those it has not seen."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from calibration.network.augmentation import augmentation_for
from calibration.network.datasets.dataset import Dataset, DatasetError, warn_of_shared_groups
from calibration.network.datasets.opening import open_dataset
from calibration.network.evaluation import ADJUSTED_ON, TRAINED_ON
from calibration.network.export import export
from calibration.network.literature.images import Images
from calibration.network.losses import ComponentLoss
from calibration.network.sampling import Web
from calibration.network.splitting import split_groups
from calibration.network.temperature import calibrate, reliability
from calibration.network.thresholds import choose_thresholds, pixel_f1
from calibration.network.train import train
from calibration.network.unet import UNet
from edge.segmentation.model import ModelInfo

PITCH_MM = 0.05


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
    *,
    command: str,
    network: str,
    features: int,
    iterations: int,
    batch: int,
    patch: int,
    seed: int,
    resume: bool,
    false_cost: float | None,
) -> ModelInfo:
    """Train, calibrate the probabilities and choose the thresholds on the validation data, write the model.

    `data` as `open_dataset` takes it; `shares` of its groups for validation, unless there is `validation_data`, and
    held back. Raises DatasetError, ConfigError, ModelError, TrainingError.
    """
    for_validation, held_back = shares
    of_all = open_dataset(data)
    training, validation, _ = three_parts(of_all, 0.0 if validation_data else for_validation, held_back, seed)
    if validation_data:
        validation = open_dataset(validation_data)
    warn_of_shared_groups(training, validation)
    if (validation.classes, validation.channels) != (training.classes, training.channels):
        raise DatasetError(
            f"{validation.name}: {'/'.join(validation.channels)} with {'/'.join(validation.classes)}, trained on "
            f"{'/'.join(training.channels)} with {'/'.join(training.classes)}: they must be the same"
        )
    found = train(
        GroupedWebs(training),
        labels=training.classes,
        channels=training.channels,
        network_name=network,
        features=features,
        iterations=iterations,
        batch=batch,
        patch=patch,
        seed=seed,
        loss=ComponentLoss(),
        augmentation=augmentation_for(training.channels),
        checkpoint=out.with_suffix(".pt"),
        resume=resume,
    )
    return write(found, training, validation, out, command, false_cost)


def write(
    network: UNet, training: Dataset, validation: Dataset, out: Path, command: str, false_cost: float | None
) -> ModelInfo:
    """Calibrate, choose thresholds and write the model. Changes the network."""
    webs = GroupedWebs(validation)
    temperature, _ = calibrate(network, webs)
    scores = dict(zip(training.classes[1:], pixel_f1(network, webs), strict=True))
    info = ModelInfo(
        classes=list(training.classes),
        channels=list(training.channels),
        pitch_mm=PITCH_MM,
        grid=network.grid,
        halo=network.halo,
        thresholds=choose_thresholds(network, webs, false_cost),
        provenance={
            "command": command,
            "data": training.name,
            TRAINED_ON: json.dumps(training.groups),
            ADJUSTED_ON: json.dumps(validation.groups),
            "pixel_f1": ", ".join(f"{label} {f1:.3f}" for label, f1 in scores.items()),
            "temperature": f"{temperature:.3f}",
            "expected_calibration_error": f"{reliability(network, webs).error:.4f}",
        },
    )
    export(network, out, info)
    return info
