"""The U-Net that segments surfaces, as in the thesis (University of Bologna, 2024) after Ronneberger et al. 2015.

Four poolings, two 3x3 convolutions with batch norm and ReLU a level, 2x2 transposed convolutions on the way up, the
skipped level concatenated, 3x3 final layer. Convolutions keep the size by zero padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.network.contrast import HALO_CELLS, LocalContrast
from calibration.network.networks.network import LineNetwork
from edge.core.errors import ConfigError

LEVELS = 4
GRID = 1 << LEVELS
"""Sizes must be multiples of this, and windows must start on them, or the poolings fall between other pixels."""
DARKEST = 1e-6
HALO = 96
"""Pixels that must be seen beyond an edge on the grid for all up to the edge to be exact: 94, rounded up to the grid.

A single pixel can change logits 108 pixels away: those of its whole block of the lowest level change with it."""


def require_grid(patch: int, grid: int = GRID) -> None:
    """Raises ConfigError for patches that the poolings cannot halve."""
    if patch < grid or patch % grid:
        raise ConfigError(f"a patch of {patch} pixels: must be a multiple of {grid}")


class UNet(LineNetwork):
    """Logits f32 [N,classes,H,W] of a surface f32 [N,channels,H,W]; H and W multiples of GRID.

    `features`: channels of the first level, doubled at each pooling; `shape` keeps the first three arguments.
    The surface is normalised first, with the buffers `mean` and `std` (channels,). With a `reduction` above 1 it is
    then averaged over blocks of so many pixels squared, and the logits are interpolated back, but in training: as much
    more is seen around a pixel, at that much less arithmetic squared. With `contrast`, for photographs, the network
    sees instead LocalContrast of what is so averaged, after division by `mean`, of cells of GRID pixels of the surface.
    `grid` and `halo` are GRID and HALO in pixels of the surface, the halo with what LocalContrast needs beyond.
    """

    architecture = "unet"

    def __init__(
        self, channels: int, classes: int, features: int = 32, reduction: int = 1, contrast: bool = False
    ) -> None:
        super().__init__(channels, classes, features)
        self.reduction, self.grid = reduction, reduction * GRID
        self.halo = reduction * HALO + (HALO_CELLS * GRID if contrast else 0)
        self.contrast = LocalContrast(GRID // reduction) if contrast else None
        widths = [features << level for level in range(LEVELS + 1)]
        seen = 2 * channels if contrast else channels
        self.down = nn.ModuleList(_level(before, after) for before, after in zip([seen, *widths], widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[-2::-1])
        self.merge = nn.ModuleList(_level(2 * width, width) for width in widths[-2::-1])
        self.final = nn.Conv2d(features, classes, 3, padding=1)

    def forward(self, surface: Tensor) -> Tensor:
        x = self._seen(surface)
        skipped = []
        for level in self.down[:-1]:
            x = level(x)
            skipped.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skipped.pop(), up(x)], dim=1))
        logits: Tensor = self.final(x)
        if self.reduction > 1 and not self.training:
            logits = F.interpolate(logits, scale_factor=float(self.reduction), mode="bilinear", align_corners=False)
        return logits

    def _seen(self, surface: Tensor) -> Tensor:
        x = F.avg_pool2d(surface, self.reduction) if self.reduction > 1 else surface
        if self.contrast is None:
            return self.normalised(x)
        planes: Tensor = self.contrast(x / self.mean[:, None, None].clamp(min=DARKEST))
        return planes


def _level(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (before, after):
        layers += [
            nn.Conv2d(source, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after, eps=1e-3, momentum=0.1),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
