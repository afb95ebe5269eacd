"""What every network has in common, and what the line asks of one besides."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Logits f32 of a surface f32 [N,channels,H,W], normalised first with the buffers `mean` and `std` (channels,).

    `architecture` is its name in the table of networks, `shape` the arguments it was built with there.
    """

    architecture: str
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, classes: int, features: int) -> None:
        super().__init__()
        self.shape = (channels, classes, features)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Mean and standard deviation of each input channel."""
        self.mean.copy_(torch.as_tensor(mean))
        self.std.copy_(torch.as_tensor(std))

    def normalised(self, surface: Tensor) -> Tensor:
        """The surface with mean 0 and standard deviation 1 in every channel."""
        return (surface - self.mean[:, None, None]) / self.std[:, None, None]


class LineNetwork(Network):
    """A network that can look at a web window by window: logits [N,classes,H,W], H and W multiples of `grid`.

    Windows begin and end on the `grid`; with `halo` pixels seen beyond such an edge, all up to it is as of the whole
    web. In training its logits are of blocks of `reduction` pixels squared. `final`, the last convolution, is where
    probabilities are mended.
    """

    grid: int
    halo: int
    reduction: int
    final: nn.Conv2d
