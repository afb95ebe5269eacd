"""What stands out from its surroundings, whatever the exposure and the lamp's fall-off."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 3
"""The surroundings of a pixel: its cell and so many further ones in each direction."""
HALO_CELLS = 2 * (REACH + 1)
"""Cells beyond an edge between cells on which those up to it hang: the mean's surroundings, and again the spread's."""
FLOOR = 0.06
"""Of the mean brightness: what is darker than this is all alike."""
LEAST_VARIANCE = 1e-3


class LocalContrast(nn.Module):
    """Two planes [N,2C,H,W] for each of brightness [N,C,H,W] relative to its mean over the training images.

    The first is the logarithm, in which exposure is an offset; the second what of it is left when the mean of the
    surroundings is taken off, in units of their standard deviation. Both are of cells of `cell_px` pixels squared, of
    which H and W are multiples.
    """

    def __init__(self, cell_px: int) -> None:
        super().__init__()
        self.cell_px = cell_px

    def forward(self, brightness: Tensor) -> Tensor:
        level = torch.log(brightness.clamp(min=0) + FLOOR)
        detail = level - self._around(level)
        spread = torch.sqrt(self._around(detail * detail) + LEAST_VARIANCE)
        return torch.cat([level, detail / spread], dim=1)

    def _around(self, x: Tensor) -> Tensor:
        """Mean of each pixel's surroundings, those within the image."""
        cells = F.avg_pool2d(x, self.cell_px)
        cells = F.avg_pool2d(cells, 2 * REACH + 1, stride=1, padding=REACH, count_include_pad=False)
        return F.interpolate(cells, scale_factor=float(self.cell_px), mode="bilinear", align_corners=False)
