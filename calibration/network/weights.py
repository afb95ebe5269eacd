"""Weights to begin with: a network's own, trained on other data, or of its encoder, as others have published them."""

from pathlib import Path

import torch
from torch import nn

from calibration.network.checkpoint import load_file, load_network
from edge.core.errors import ConfigError, ModelError

_STATISTICS = ("mean", "std")


def begin_with(network: nn.Module, path: Path) -> None:
    """Take over the weights of a checkpoint of the same network; its normalisation is not. Raises ModelError."""
    source, _ = load_network(path)
    if (source.architecture, source.shape) != (network.architecture, network.shape):
        raise ModelError(
            f"{path}: {_described(source)}, this training is of {_described(network)}: they must be the same"
        )
    state = {name: values for name, values in source.state_dict().items() if name not in _STATISTICS}
    network.load_state_dict(state, strict=False)


def load_encoder(network: nn.Module, path: Path) -> None:
    """Load published weights into a network's encoder: a state dict in the names that the encoder's class tells.

    Its last layers, and what else the encoder does without, are left. Where the images have not three channels the
    first convolution gets the sum over its three, shared out evenly: gray images give what they gave as three equal
    channels. Raises ConfigError for a network without encoder, ModelError for a file that does not fit.
    """
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        raise ConfigError(f"{path}: {network.architecture} has no encoder whose weights are published: choose another")
    loaded, first = load_file(path), f"{encoder.first}.weight"
    if not isinstance(loaded, dict) or not isinstance(loaded.get(first), torch.Tensor):
        raise ModelError(f"{path}: not the weights of {encoder.published}")
    channels = encoder.get_submodule(encoder.first).in_channels
    try:
        state = {name: values for name, values in loaded.items() if not name.startswith(encoder.not_taken)}
        if state[first].shape[1] != channels:
            state[first] = state[first].sum(dim=1, keepdim=True).repeat(1, channels, 1, 1) / channels
        encoder.load_state_dict(state)
    except (AttributeError, IndexError, RuntimeError) as error:
        raise ModelError(f"{path}: the weights of another network than {encoder.published}") from error


def _described(network: nn.Module) -> str:
    channels, classes, features = network.shape
    return f"{network.architecture} of {channels} channels, {classes} classes and {features} features"
