"""Training a system of the literature from beginning to end."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from calibration.network.datasets.dataset import Dataset, DatasetError
from calibration.network.fitting import Training, device, fit
from calibration.network.literature.crops import Crops
from calibration.network.literature.detector import CLASSIFIER, NETWORK, Detector, on_device
from calibration.network.literature.images import Images, Survey, survey
from calibration.network.literature.judging import Judgement, choose_thresholds, judge, make_folder
from calibration.network.literature.recipes import Recipe
from calibration.network.literature.weights import begin_with, load_resnet
from calibration.network.losses import BceDice, CrossEntropy
from calibration.network.networks.table import architecture, build
from calibration.network.train import THREADS
from edge.core.errors import ConfigError

LOSSES = {"ce": CrossEntropy, "bce_dice": BceDice}
CLEAN, DEFECT = "clean", "defect"


def train(
    recipe: Recipe,
    training: Dataset,
    validation: Dataset,
    folder: Path,
    *,
    iterations: int,
    seed: int,
    weights: Path | None = None,
) -> Judgement:
    """Train what a recipe says, choose its thresholds on the validation data and judge it there.

    Leaves the networks and the judgement in `folder`; started again, a training that was stopped goes on. `weights`: a
    folder that an earlier training left, or a ResNet-50 in torchvision's names. With a classifier the network itself
    learns from images with defects only. Raises ConfigError, DatasetError, ModelError, TrainingError,
    KeyboardInterrupt.
    """
    _check(recipe, training, validation, folder)
    make_folder(folder)
    torch.set_num_threads(THREADS)
    images = Images(training)
    found = survey(images)
    defective = np.flatnonzero(found.defective).tolist()
    if not defective:
        raise DatasetError(f"{training.name}: no image holds a defect")
    everything = list(range(len(images)))
    classifier = None
    if recipe.classifier is not None:
        if len(defective) == len(everything):
            raise DatasetError(f"{training.name}: every image has a defect, a classifier cannot learn of clean ones")
        classifier = _fitted(
            recipe.classifier, recipe, images, found, everything, folder / CLASSIFIER, iterations, seed, weights
        )
    chosen = everything if classifier is None else defective
    network = _fitted(recipe.network, recipe, images, found, chosen, folder / NETWORK, iterations, seed, weights)
    classes, channels = training.classes, training.channels
    detector = on_device(
        Detector(recipe.name, classes, channels, network, classifier, (0.5,) * (len(training.classes) - 1))
    )
    detector = replace(detector, thresholds=choose_thresholds(detector, validation))
    detector.save(folder)
    for name in (CLASSIFIER, NETWORK):
        _unfinished(folder / name).unlink(missing_ok=True)
    return judge(detector, validation, folder)


def _fitted(
    name: str,
    recipe: Recipe,
    images: Images,
    found: Survey,
    indices: Sequence[int],
    out: Path,
    iterations: int,
    seed: int,
    weights: Path | None,
) -> nn.Module:
    """A trained network of a name, on the CPU; what there is of it lies beside `out` until it is whole."""
    row, dataset = architecture(name), images.dataset
    classes = (CLEAN, DEFECT) if row.classifies else dataset.classes
    torch.manual_seed(seed)
    sampler = Crops(images, found, recipe, grid=row.grid, seed=seed, indices=indices, whole_image=row.classifies)
    network = build(name, len(dataset.channels), len(classes), row.features // recipe.narrow)
    if weights is not None:
        _begin(network, weights, out.name, recipe)
    network.set_normalisation(found.mean, found.std)
    network.to(device()).to(memory_format=torch.channels_last)
    training = Training(
        network,
        sampler,
        CrossEntropy() if row.classifies else LOSSES[recipe.loss](),
        torch.optim.Adam(network.parameters(), lr=recipe.learning_rate),
        None,
        iterations,
        recipe.batch,
        f"{recipe}, {name}, {len(indices)} of {len(images)} images of {dataset.name}, {'/'.join(dataset.channels)}, "
        f"{'/'.join(classes)}, iterations {iterations}, weights {weights}, seed {seed}",
    )
    unfinished = _unfinished(out)
    if unfinished.exists():
        training.resume(unfinished)
    fit(training, checkpoint=unfinished)
    if training.iteration < iterations:
        raise KeyboardInterrupt
    return network


def _begin(network: nn.Module, weights: Path, file: str, recipe: Recipe) -> None:
    encoder = getattr(network, "encoder", None)
    if weights.is_dir():
        begin_with(network, weights / file)
    elif encoder is not None:
        load_resnet(encoder, weights)
    elif recipe.classifier is None:
        raise ConfigError(f"{weights}: {recipe.network} has no ResNet-50: give the folder of an earlier training")


def _unfinished(out: Path) -> Path:
    return out.with_name(f"unfinished-{out.name}")


def _check(recipe: Recipe, training: Dataset, validation: Dataset, folder: Path) -> None:
    if (folder / NETWORK).exists():
        raise ConfigError(f"{folder}: holds a trained network: choose another folder")
    for name in filter(None, (recipe.network, recipe.classifier)):
        if recipe.narrow < 1 or architecture(name).features % recipe.narrow:
            raise ConfigError(f"--narrow {recipe.narrow}: must divide the {architecture(name).features} of {name}")
    if recipe.batch < 2 and architecture(recipe.network).pools_globally:
        raise ConfigError(
            f"{recipe.network} pools whole images, whose batch norm takes two: give a --batch of 2 or more"
        )
    if (validation.classes, validation.channels) != (training.classes, training.channels):
        raise DatasetError(
            f"{validation.name}: {'/'.join(validation.channels)} with {'/'.join(validation.classes)}, trained on "
            f"{'/'.join(training.channels)} with {'/'.join(training.classes)}: they must be the same"
        )
