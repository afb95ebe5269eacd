"""Weights to begin with: a network's own, trained on other data, or a ResNet-50 as torchvision names it."""

from pathlib import Path

import torch
from torch import nn

from calibration.network.checkpoint import load_file, load_network
from calibration.network.networks.resnet import ResNet50
from edge.core.errors import ModelError

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


def load_resnet(encoder: ResNet50, path: Path) -> None:
    """Load the state dict of a ResNet-50 in torchvision's names, without its last layer.

    Where the images have not three channels the first convolution gets the sum over its three, shared out evenly: gray
    images give what they gave as three equal channels. Raises ModelError.
    """
    loaded = load_file(path)
    if not isinstance(loaded, dict) or not isinstance(loaded.get("conv1.weight"), torch.Tensor):
        raise ModelError(f"{path}: not the weights of a ResNet-50 in torchvision's names")
    channels = encoder.conv1.in_channels
    try:
        state = {name: values for name, values in loaded.items() if not name.startswith("fc.")}
        if state["conv1.weight"].shape[1] != channels:
            state["conv1.weight"] = state["conv1.weight"].sum(dim=1, keepdim=True).repeat(1, channels, 1, 1) / channels
        encoder.load_state_dict(state)
    except (AttributeError, IndexError, RuntimeError) as error:
        raise ModelError(f"{path}: the weights of another network than this ResNet-50") from error


def _described(network: nn.Module) -> str:
    channels, classes, features = network.shape
    return f"{network.architecture} of {channels} channels, {classes} classes and {features} features"
