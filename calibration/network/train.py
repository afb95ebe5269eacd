"""Our training: webs in, a network of the line out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from calibration.network.augmentation import Augmentation
from calibration.network.fitting import Progress, Training, device, fit, print_progress
from calibration.network.losses import FocalLoss, ReducedLoss, inverse_square_root_frequency
from calibration.network.networks.network import LineNetwork
from calibration.network.networks.table import architecture, build
from calibration.network.sampling import PatchSampler, Web, Webs
from calibration.network.thresholds import pixel_f1
from calibration.network.unet import UNet, require_grid
from edge.core.errors import ModelError

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-5
THREADS = 2


class Course(TypedDict):
    """What a training of any data is told, as `train` takes it."""

    network_name: str
    features: int
    iterations: int
    batch: int
    patch: int
    seed: int
    checkpoint: Path
    resume: bool
    start: LineNetwork | None


def train(
    webs: Webs,
    *,
    labels: Sequence[str],
    channels: Sequence[str],
    features: int,
    iterations: int,
    batch: int,
    seed: int,
    patch: int = 256,
    validation: Sequence[Web] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
    start: LineNetwork | None = None,
    progress: Callable[[Progress], None] = print_progress,
    after_step: Callable[[int, LineNetwork], None] | None = None,
    network_name: str = UNet.architecture,
    loss: nn.Module | None = None,
    learning_rate: float = LEARNING_RATE,
    augmentation: Augmentation | None = None,
) -> LineNetwork:
    """Train a network on webs of (surface (C,H,W) f32, truth (H,W) u8); gives it in evaluation mode, on the CPU.

    AdamW under a one-cycle learning rate up to `learning_rate`, bfloat16 autocast in channels-last order.
    `network_name`: one that is a LineNetwork. Left out, `loss` is the focal one weighted by inverse square root class
    frequency, `augmentation` the web mirrored. `start`: the network whose weights to begin with, random ones without.
    `checkpoint` is rewritten as `fit` says; with `resume` the training goes on from it. Ctrl-C ends the
    training early with the network as it stands. Repeatable under `seed` on one machine. Raises ConfigError for webs
    that do not fit, ModelError for a checkpoint or `start` that does not, TrainingError where the loss is no number.
    """
    require_grid(patch, architecture(network_name).grid)
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    torch.manual_seed(seed)
    sampler = PatchSampler(webs, channels, len(labels), patch, seed, augmentation)
    network = new_network(webs, len(labels), features, network_name)
    if start is not None:
        take_weights(network, start)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    per_pixel = FocalLoss(inverse_square_root_frequency(sampler.class_pixels)) if loss is None else loss
    training = Training(
        network,
        sampler,
        ReducedLoss(per_pixel, network.reduction),
        optimiser,
        torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=learning_rate, total_steps=iterations),
        iterations,
        batch,
        settings_of(webs, labels, channels, features, iterations, batch, patch, seed)
        + ("" if loss is None else f", {network_name}, {loss}, {augmentation}"),
        {"channels": list(channels), "classes": list(labels)},
    )
    if resume and checkpoint is not None:
        training.resume(checkpoint)

    def validate() -> Mapping[str, float]:
        return dict(zip(labels[1:], pixel_f1(network, validation), strict=True)) if validation else {}

    return fit(training, checkpoint=checkpoint, progress=progress, validate=validate, after_step=after_step)


def new_network(webs: Webs, classes: int, features: int, name: str = UNet.architecture) -> LineNetwork:
    """An untrained network that normalises by the webs' own statistics, where it is to be trained."""
    network = build(name, len(webs[0][0]), classes, features)
    assert isinstance(network, LineNetwork)
    network.set_normalisation(*channel_statistics(webs))
    network.to(device())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def take_weights(network: LineNetwork, start: LineNetwork) -> None:
    """Give a network the weights and the normalisation of another, but not its last layer where that tells another
    number of classes apart. Raises ModelError where they are not built alike."""
    ours, theirs = (
        f"{net.architecture} of {net.shape[0]} channels and {net.shape[2]} features" for net in (network, start)
    )
    if ours != theirs:
        raise ModelError(f"a {ours} cannot start from a {theirs}: choose a model built alike")
    with_last = start.shape[1] == network.shape[1]
    state = {name: value for name, value in start.state_dict().items() if with_last or not name.startswith("final.")}
    network.load_state_dict(state, strict=False)


def settings_of(
    webs: Webs,
    labels: Sequence[str],
    channels: Sequence[str],
    features: int,
    iterations: int,
    batch: int,
    patch: int,
    seed: int,
) -> str:
    """What must be the same for a training to be resumed."""
    return (
        f"{len(webs)} webs of {sum(truth.size for _, truth in webs):,} pixels, {'/'.join(channels)}, "
        f"{'/'.join(labels)}, features {features}, iterations {iterations}, batch {batch}, patch {patch}, seed {seed}"
    )


def channel_statistics(webs: Webs) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels of the webs."""
    pixels = sum(truth.size for _, truth in webs)
    mean = sum(surface.sum(axis=(1, 2), dtype=np.float64) for surface, _ in webs) / pixels
    square = sum(np.square(surface, dtype=np.float64).sum(axis=(1, 2)) for surface, _ in webs) / pixels
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-6))
    return mean.tolist(), deviation.tolist()
