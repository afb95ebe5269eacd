"""The small U-Net of the Severstal competition's notebooks: ELU, no batch norm, a sigmoid for each class of defect."""

import torch
from torch import Tensor, nn

from calibration.network.networks.network import Network

FEATURES = 8
GRID = 32
DOWN = (1, 2, 4, 8, 8, 16)
UP = (8, 4, 4, 2, 1)
"""Channels of the levels on the way down (8-16-32-64-64-128) and up (64-32-32-16-8), in multiples of `features`."""


class EluUNet(Network):
    """Logits [N,classes - 1,H,W], one a defect, each for a sigmoid of its own; H and W multiples of GRID."""

    def __init__(self, channels: int, classes: int, features: int = FEATURES) -> None:
        super().__init__(channels, classes, features)
        down, up = [features * times for times in DOWN], [features * times for times in UP]
        self.down = nn.ModuleList(_level(before, after) for before, after in zip([channels, *down], down, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in zip([down[-1], *up], up, strict=False)
        )
        self.merge = nn.ModuleList(
            _level(skipped + after, after) for skipped, after in zip(down[-2::-1], up, strict=True)
        )
        self.final = nn.Conv2d(features, classes - 1, 1)

    def forward(self, surface: Tensor) -> Tensor:
        x = self.normalised(surface)
        skipped = []
        for level in self.down[:-1]:
            x = level(x)
            skipped.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skipped.pop(), up(x)], dim=1))
        logits: Tensor = self.final(x)
        return logits


def _level(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.ELU(), nn.Conv2d(after, after, 3, padding=1), nn.ELU()
    )
