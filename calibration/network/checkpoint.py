"""Networks on disk, with what a training needs to go on from there."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from calibration.network.unet import UNet
from edge.core.errors import ModelError

_DAMAGE = (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError)


def save_checkpoint(model: UNet, path: Path, training: dict[str, Any] | None = None) -> None:
    """Write a network so that it can be read back or exported; an older one stays until the new one is whole.

    `training`: state of a training, for `load_training`.
    """
    new = path.with_suffix(path.suffix + ".new")
    torch.save({"shape": model.shape, "state": model.state_dict(), "training": training}, new)
    new.replace(path)


def load_checkpoint(path: Path) -> UNet:
    """Read a network written by `save_checkpoint`, in evaluation mode, on the CPU. Raises ModelError."""
    saved = _load(path)
    try:
        model = UNet(*saved["shape"])
        model.load_state_dict(saved["state"])
    except _DAMAGE as error:
        raise _not_ours(path, error) from error
    return model.eval()


def load_training(path: Path, settings: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """State of the network and of its training, both on the CPU, as `save_checkpoint` wrote them.

    Raises ModelError for a damaged file, one that holds no training, or one of other `settings`.
    """
    saved = _load(path)
    try:
        state, training = saved["state"], saved["training"]
        written = training["settings"] if training is not None else None
    except _DAMAGE as error:
        raise _not_ours(path, error) from error
    if training is None:
        raise ModelError(f"{path}: holds a network but no training to resume: train it anew")
    if written != settings:
        raise ModelError(f"{path}: of another training ({written}), this one is {settings}: choose another file")
    return state, training


def _load(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: checkpoint cannot be read ({error.strerror})") from error
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except _DAMAGE as error:
        raise _not_ours(path, error) from error


def _not_ours(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: not a checkpoint of this network ({type(error).__name__})")
