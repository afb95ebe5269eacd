"""Networks on disk, with what a training needs to go on from there."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from calibration.network.networks.network import LineNetwork
from calibration.network.networks.table import NETWORKS, build
from calibration.network.unet import UNet
from edge.core.errors import ConfigError, ModelError

_DAMAGE = (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError)


def save_checkpoint(
    model: nn.Module, path: Path, training: dict[str, Any] | None = None, about: dict[str, Any] | None = None
) -> None:
    """Write a network of the table so that it can be read back; an older one stays until the new one is whole.

    `training`: state of a training, for `load_training`; `about`: what must be known to ask the network, as plain
    values.
    """
    new = path.with_suffix(path.suffix + ".new")
    saved = {"architecture": model.architecture, "shape": model.shape, "state": model.state_dict()}
    torch.save({**saved, "training": training, "about": about}, new)
    new.replace(path)


def load_checkpoint(path: Path) -> LineNetwork:
    """Read a network of the line as `save_checkpoint` wrote it, in evaluation mode, on the CPU.

    Raises ModelError, also for a network that cannot look at a web window by window.
    """
    model, _ = load_network(path)
    if isinstance(model, LineNetwork):
        return model
    name = str(model.architecture)
    why = (
        "pools over the whole image, so no halo is large enough"
        if NETWORKS[name].pools_globally
        else "is not the network of the line"
    )
    raise ModelError(
        f"{path}: {name} {why}: it stays with `foilsight literature`; the line runs what `foilsight train` writes"
    )


def load_network(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a network and what is `about` it, in evaluation mode, on the CPU. Raises ModelError."""
    saved = load_file(path)
    try:
        model = build(saved.get("architecture", UNet.architecture), *saved["shape"])
        model.load_state_dict(saved["state"])
        about = dict(saved.get("about") or {})
    except (*_DAMAGE, AttributeError, ConfigError) as error:
        raise _not_ours(path, error) from error
    return model.eval(), about


def load_training(path: Path, settings: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """State of the network and of its training, both on the CPU, as `save_checkpoint` wrote them.

    Raises ModelError for a damaged file, one that holds no training, or one of other `settings`.
    """
    saved = load_file(path)
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


def load_file(path: Path) -> Any:
    """What PyTorch wrote into a file, on the CPU; nothing in it is run. Raises ModelError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: checkpoint cannot be read ({error.strerror})") from error
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except _DAMAGE as error:
        raise _not_ours(path, error) from error


def _not_ours(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: not a checkpoint of a network ({type(error).__name__})")
