"""Training and asking the models of the study."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from calibration.network.checkpoint import load_checkpoint, save_checkpoint
from calibration.network.fitting import Progress, Training, device, fit
from calibration.network.losses import LOSSES
from calibration.network.metrics import stability_iterations
from calibration.network.resampling import Composition, ResampledPatches
from calibration.network.sampling import Web
from calibration.network.study.recipes import LEARNING_RATE, OURS, RECIPES, WEIGHT_DECAY, Recipe
from calibration.network.study.results import Settings
from calibration.network.thresholds import choose_thresholds, probabilities
from calibration.network.train import THREADS, new_network, settings_of, train
from calibration.network.unet import UNet
from edge.core.types import F32, U8

Say = Callable[[str], None]
AfterStep = Callable[[int, UNet], None]


@dataclass(frozen=True)
class Model:
    """Trained networks that decide together: one, or one a defect. `thresholds` for all classes but background, None
    where the most probable class is taken."""

    networks: list[UNet]
    thresholds: list[float] | None = None

    def class_map(self, surface: F32) -> U8:
        """Classes (H,W) u8 of a surface (C,H,W) f32."""
        if len(self.networks) > 1:
            yes = np.stack([_whole(network, surface)[1] for network in self.networks])
            return np.where(yes.max(axis=0) > 0.5, yes.argmax(axis=0) + 1, 0).astype(np.uint8)
        p = _whole(self.networks[0], surface)
        if self.thresholds is None:
            classes: U8 = p.argmax(axis=0).astype(np.uint8)
            return classes
        sure = np.where(p[1:] >= np.array(self.thresholds, np.float32)[:, None, None], p[1:], 0)
        return np.where(sure.max(axis=0) > 0, sure.argmax(axis=0) + 1, 0).astype(np.uint8)


@dataclass(frozen=True)
class Place:
    """Where a training of a model keeps its files."""

    folder: Path
    name: str

    def checkpoint(self, network: int) -> Path:
        return self.folder / f"{self.name}-{network}.pt"

    def snapshot(self, network: int, iteration: int) -> Path:
        return self.folder / f"{self.name}-{network}-at-{iteration}.pt"


def train_model(
    name: str, webs: Sequence[Web], labels: Sequence[str], settings: Settings, seed: int, place: Place, say: Say
) -> list[str]:
    """Train the networks of a model, going on where an earlier run stopped; what their first patches held, as text.

    Leaves each network's checkpoint and its snapshots at `stability_iterations`, the last of which is the network.
    Raises TrainingError, ModelError, KeyboardInterrupt.
    """
    torch.set_num_threads(THREADS)
    if name == OURS:
        _train_ours(webs, labels, settings, seed, place, say)
        _stop_if_interrupted(settings, place, 0)
        return []
    recipe = RECIPES[name]
    if not recipe.one_vs_rest:
        return [_train_network(recipe, webs, labels, settings, seed, place, 0, say)]
    told = []
    for k in range(1, len(labels)):
        binary = [(surface, (truth == k).astype(np.uint8)) for surface, truth in webs]
        told.append(_train_network(recipe, binary, ("rest", labels[k]), settings, seed, place, k - 1, say))
    return told


def trained_model(name: str, iteration: int, classes: int, place: Place, validation: Sequence[Web]) -> Model:
    """A model as it was at an iteration of its training. Thresholds of ours are chosen on `validation`."""
    several = name != OURS and RECIPES[name].one_vs_rest
    networks = [
        load_checkpoint(place.snapshot(at, iteration)).to(device()) for at in range(classes - 1 if several else 1)
    ]
    return Model(networks, choose_thresholds(networks[0], validation) if name == OURS else None)


def _train_ours(
    webs: Sequence[Web], labels: Sequence[str], settings: Settings, seed: int, place: Place, say: Say
) -> None:
    checkpoint = place.checkpoint(0)
    train(
        webs,
        labels=labels,
        channels=settings.channels,
        features=settings.features,
        iterations=settings.iterations,
        batch=settings.batch,
        patch=settings.patch,
        seed=seed,
        checkpoint=checkpoint,
        resume=checkpoint.exists(),
        progress=_progress(place.name, say),
        after_step=_keep_snapshots(settings.iterations, place, 0),
    )


def _train_network(
    recipe: Recipe,
    webs: Sequence[Web],
    labels: Sequence[str],
    settings: Settings,
    seed: int,
    place: Place,
    number: int,
    say: Say,
) -> str:
    torch.manual_seed(seed)
    told: list[str] = []

    def report(composition: Composition) -> None:
        if not told:
            told.append(composition.text(labels))
            say(f"{place.name}, first set of patches, {told[0]}")

    size = settings.refresh * settings.batch
    sampler = ResampledPatches(webs, len(labels), settings.patch, seed, recipe.scheme, size, report)
    network = new_network(webs, len(labels), settings.features)
    training = Training(
        network,
        sampler,
        LOSSES[recipe.loss](sampler.class_pixels),
        torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        None,
        settings.iterations,
        settings.batch,
        f"{recipe.name}, sets of {size}, "
        + settings_of(
            webs,
            labels,
            settings.channels,
            settings.features,
            settings.iterations,
            settings.batch,
            settings.patch,
            seed,
        ),
    )
    checkpoint = place.checkpoint(number)
    if checkpoint.exists():
        training.resume(checkpoint)
    fit(
        training,
        checkpoint=checkpoint,
        progress=_progress(f"{place.name} {labels[1]}" if recipe.one_vs_rest else place.name, say),
        after_step=_keep_snapshots(settings.iterations, place, number),
    )
    _stop_if_interrupted(settings, place, number)
    return told[0]


def _stop_if_interrupted(settings: Settings, place: Place, number: int) -> None:
    """A training ends early on ctrl-C, and the study with it: half a training must not be judged."""
    if not place.snapshot(number, settings.iterations).exists():
        raise KeyboardInterrupt


def _keep_snapshots(iterations: int, place: Place, number: int) -> AfterStep:
    wanted = set(stability_iterations(iterations))

    def keep(iteration: int, network: UNet) -> None:
        if iteration in wanted:
            save_checkpoint(network, place.snapshot(number, iteration))

    return keep


def _progress(name: str, say: Say) -> Callable[[Progress], None]:
    return lambda progress: say(f"{name}  {progress}")


def _whole(network: UNet, surface: F32) -> F32:
    return np.concatenate([p for _, p in probabilities(network, surface)], axis=1)
