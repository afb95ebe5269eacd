"""The loop every training runs through: steps, progress, checkpoints, and going on from them."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from calibration.network.checkpoint import load_training, save_checkpoint
from edge.core.errors import FoilsightError, ModelError
from edge.core.types import F32

Net = TypeVar("Net", bound=nn.Module)
REPORT_EVERY = 20
CHECKPOINT_EVERY = 250


class TrainingError(FoilsightError):
    """A training that cannot go on; the message says what is left of it."""


class Sampler(Protocol):
    """Where patches come from. `state` says where the drawing stands, `restore` goes on from there."""

    @property
    def state(self) -> str: ...

    def restore(self, state: str) -> None: ...

    def draw(self, count: int) -> tuple[F32, NDArray[np.int64]]: ...


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


@dataclass
class Training(Generic[Net]):
    """A network in training. `settings` say in words what must be the same for it to be resumed.

    `about`: what must be known to ask the network, kept in its checkpoints. `iteration` steps of `iterations` are done.
    `schedule` is None for a constant learning rate.
    """

    model: Net
    sampler: Sampler
    loss_of: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: LRScheduler | None
    iterations: int
    batch: int
    settings: str
    about: dict[str, Any] = field(default_factory=dict)
    iteration: int = 0

    def __post_init__(self) -> None:
        self._device = next(self.model.parameters()).device
        self.loss_of.to(self._device)

    def step(self) -> float:
        """One step of the optimiser, bfloat16 autocast in channels-last order; gives the loss.

        Where that is not finite the network stays as it was.
        """
        drawn, labelled = self.sampler.draw(self.batch)
        surface = torch.from_numpy(drawn).to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = self.model(surface)
        loss = self.loss_of(logits, torch.from_numpy(labelled).to(self._device))
        value = float(loss.item())
        if math.isfinite(value):
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            if self.schedule is not None:
                self.schedule.step()
            self.iteration += 1
        return value

    def save(self, path: Path) -> bool:
        """Write a checkpoint to go on from, unless a weight is not a number; says whether it was written."""
        if not all(bool(torch.isfinite(weights).all()) for weights in self.model.parameters()):
            return False
        training = {
            "settings": self.settings,
            "iteration": self.iteration,
            "optimiser": self.optimiser.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "sampler": self.sampler.state,
        }
        save_checkpoint(self.model, path, training, self.about)
        return True

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, as if there had been no break. Raises ModelError."""
        state, training = load_training(path, self.settings)
        try:
            self.model.load_state_dict(state)
            self.optimiser.load_state_dict(training["optimiser"])
            if self.schedule is not None:
                self.schedule.load_state_dict(training["schedule"])
            self.sampler.restore(training["sampler"])
            self.iteration = int(training["iteration"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: its training cannot be resumed ({type(error).__name__})") from error


def device() -> torch.device:
    """Where to train: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    training: Training[Net],
    *,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] = print_progress,
    validate: Callable[[], Mapping[str, float]] | None = None,
    after_step: Callable[[int, Net], None] | None = None,
) -> Net:
    """Train until all iterations are done; gives the network in evaluation mode, on the CPU.

    `checkpoint` is rewritten every CHECKPOINT_EVERY iterations and at the end; `validate` gives the F1 to report then;
    `after_step` is told each iteration done, and the network. Ctrl-C ends the training early with the network as it
    stands. Raises TrainingError where the loss is not a number any more: the last checkpoint is left as it is.
    """
    training.model.train()
    losses: list[float] = []
    since = time.perf_counter()
    saved = training.iteration

    def due() -> bool:
        return training.iteration % CHECKPOINT_EVERY == 0 or training.iteration == training.iterations

    try:
        while training.iteration < training.iterations:
            losses.append(training.step())
            if not math.isfinite(losses[-1]):
                raise _diverged(training.iteration + 1, checkpoint, saved)
            if after_step is not None:
                after_step(training.iteration, training.model)
            if training.iteration % REPORT_EVERY and not due():
                continue
            speed = len(losses) / (time.perf_counter() - since)
            if due() and checkpoint is not None:
                if not training.save(checkpoint):
                    raise _diverged(training.iteration, checkpoint, saved)
                saved = training.iteration
            scores = dict(validate()) if due() and validate is not None else {}
            progress(Progress(training.iteration, training.iterations, float(np.mean(losses)), speed, scores))
            losses, since = [], time.perf_counter()
    except KeyboardInterrupt:
        if checkpoint is not None:
            training.save(checkpoint)
    return training.model.cpu().eval()


def _diverged(iteration: int, checkpoint: Path | None, saved: int) -> TrainingError:
    kept = f"; {checkpoint} is kept as of iteration {saved}" if checkpoint is not None and saved else ""
    return TrainingError(
        f"the loss is not a number at iteration {iteration}{kept}: look at the data for values that are out of range"
    )
