"""Training: patches in, a U-Net out."""

import io
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from calibration.network.losses import FocalLoss, inverse_square_root_frequency
from calibration.network.sampling import PatchSampler, Web
from calibration.network.thresholds import pixel_f1
from calibration.network.unet import UNet
from edge.core.errors import ModelError

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-5
REPORT_EVERY = 20
CHECKPOINT_EVERY = 250
THREADS = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands: mean loss and speed since the last report, pixel F1 by label where it was validated."""

    iteration: int
    iterations: int
    loss: float
    iterations_per_s: float
    f1: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        scores = "".join(f"  {label} {f1:.3f}" for label, f1 in self.f1.items())
        return f"{self.iteration}/{self.iterations}  loss {self.loss:.5f}  {self.iterations_per_s:.2f} it/s{scores}"


def print_progress(progress: Progress) -> None:
    """One line a report."""
    print(progress, flush=True)


def train(
    webs: Sequence[Web],
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
    progress: Callable[[Progress], None] = print_progress,
) -> UNet:
    """Train a U-Net on webs of (surface (C,H,W) f32, truth (H,W) u8); gives it in evaluation mode, on the CPU.

    AdamW under a one-cycle learning rate, focal loss weighted by inverse square root class frequency, bfloat16 autocast
    in channels-last order. `checkpoint` is rewritten every CHECKPOINT_EVERY iterations and at the end. Ctrl-C ends the
    training early with the network as it stands. Repeatable under `seed` on one machine. Raises ConfigError for
    webs that do not fit.
    """
    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    sampler = PatchSampler(webs, channels, len(labels), patch, seed)
    model = UNet(len(channels), len(labels), features)
    model.set_normalisation(*channel_statistics(webs))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss_of = FocalLoss(inverse_square_root_frequency(sampler.class_pixels))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=LEARNING_RATE, total_steps=iterations)

    def finish_period(iteration: int, losses: list[float], since: float) -> None:
        speed = len(losses) / (time.perf_counter() - since)
        scores: dict[str, float] = {}
        if iteration % CHECKPOINT_EVERY == 0 or iteration == iterations:
            if checkpoint is not None:
                save_checkpoint(model, checkpoint)
            if validation:
                scores = dict(zip(labels[1:], pixel_f1(model, validation), strict=True))
        progress(Progress(iteration, iterations, float(np.mean(losses)), speed, scores))

    model.train()
    losses: list[float] = []
    since = time.perf_counter()
    try:
        for iteration in range(1, iterations + 1):
            losses.append(_step(model, loss_of, optimiser, sampler, batch))
            schedule.step()
            if iteration % REPORT_EVERY == 0 or iteration % CHECKPOINT_EVERY == 0 or iteration == iterations:
                finish_period(iteration, losses, since)
                losses, since = [], time.perf_counter()
    except KeyboardInterrupt:
        if checkpoint is not None:
            save_checkpoint(model, checkpoint)
    return model.eval()


def _step(
    model: UNet, loss_of: FocalLoss, optimiser: torch.optim.Optimizer, sampler: PatchSampler, batch: int
) -> float:
    drawn, labelled = sampler.draw(batch)
    surface = torch.from_numpy(drawn).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(surface)
    loss = loss_of(logits, torch.from_numpy(labelled))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.item())


def channel_statistics(webs: Sequence[Web]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels of the webs."""
    pixels = sum(truth.size for _, truth in webs)
    mean = sum(surface.sum(axis=(1, 2), dtype=np.float64) for surface, _ in webs) / pixels
    square = sum(np.square(surface, dtype=np.float64).sum(axis=(1, 2)) for surface, _ in webs) / pixels
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-6))
    return mean.tolist(), deviation.tolist()


def save_checkpoint(model: UNet, path: Path) -> None:
    """Write a network so that it can be read back or exported; an older one stays until the new one is whole."""
    new = path.with_suffix(path.suffix + ".new")
    torch.save({"shape": model.shape, "state": model.state_dict()}, new)
    new.replace(path)


def load_checkpoint(path: Path) -> UNet:
    """Read a network written by `save_checkpoint`, in evaluation mode. Raises ModelError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: checkpoint cannot be read ({error.strerror})") from error
    try:
        saved = torch.load(io.BytesIO(data), weights_only=True)
        model = UNet(*saved["shape"])
        model.load_state_dict(saved["state"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: not a checkpoint of this network ({type(error).__name__})") from error
    return model.eval()
