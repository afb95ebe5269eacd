"""Networks over a dilated ResNet-50: FCN, DeepLabV3 and DeepLabV3+.

FCN (Long et al. 2015) and DeepLabV3 (Chen et al. 2017) have an output stride of 8 and torchvision's layers, without its
second head for training. DeepLabV3+ (Chen et al. 2018) has an output stride of 16 and a decoder.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.network.networks.network import LineNetwork, Network
from calibration.network.networks.resnet import FEATURES, ResNet50

DILATIONS = (6, 12, 18)
"""Of DeepLabV3+."""
GRID = 16
HALO = 544
"""Pixels that DeepLabV3+ must see beyond an edge on the grid for all up to the edge to be exact, where it does not
pool the whole image."""


class FCN(Network):
    """Two convolutions over the last level, enlarged bilinearly."""

    def __init__(self, channels: int, classes: int, features: int = FEATURES) -> None:
        super().__init__(channels, classes, features)
        self.encoder = ResNet50(channels, features, output_stride=8)
        width = self.encoder.channels // 4
        self.head = nn.Sequential(
            *_convolution(self.encoder.channels, width, 3), nn.Dropout(0.1), nn.Conv2d(width, classes, 1)
        )

    def forward(self, surface: Tensor) -> Tensor:
        return _enlarged(self.head(self.encoder(self.normalised(surface))[-1]), surface)


class DeepLabV3(Network):
    """A pyramid of dilated convolutions (12, 24, 36) over the last level, enlarged bilinearly."""

    def __init__(self, channels: int, classes: int, features: int = FEATURES) -> None:
        super().__init__(channels, classes, features)
        self.encoder = ResNet50(channels, features, output_stride=8)
        width = 4 * features
        self.pyramid = Pyramid(self.encoder.channels, width, (12, 24, 36), dropout=0.5)
        self.head = nn.Sequential(*_convolution(width, width, 3), nn.Conv2d(width, classes, 1))

    def forward(self, surface: Tensor) -> Tensor:
        return _enlarged(self.head(self.pyramid(self.encoder(self.normalised(surface))[-1])), surface)


class DeepLabV3Plus(Network):
    """A pyramid (DILATIONS) over the last level, joined with the first level of a quarter of the size.

    `pooling_convolution`: whether the pooled image passes a convolution of its own before it joins the pyramid.
    """

    def __init__(
        self, channels: int, classes: int, features: int = FEATURES, *, pooling_convolution: bool = True
    ) -> None:
        super().__init__(channels, classes, features)
        self.encoder = ResNet50(channels, features, output_stride=16)
        width, skipped = 4 * features, 3 * features // 4
        self.pyramid = Pyramid(self.encoder.channels, width, DILATIONS, pooling_convolution=pooling_convolution)
        self.skip = _convolution(4 * features, skipped)
        self.decoder = nn.Sequential(_convolution(width + skipped, width, 3), _convolution(width, width, 3))
        self.final = nn.Conv2d(width, classes, 1)

    def forward(self, surface: Tensor) -> Tensor:
        first, *_, last = self.encoder(self.normalised(surface))
        joined = torch.cat([_enlarged(self.pyramid(last), first), self.skip(first)], dim=1)
        return _enlarged(self.final(self.decoder(joined)), surface)


class WindowedDeepLabV3Plus(DeepLabV3Plus, LineNetwork):
    """DeepLabV3+ that pools what lies around a pixel instead of the whole image, as far as its pyramid reaches: for
    the line. H and W multiples of GRID."""

    def __init__(self, channels: int, classes: int, features: int = FEATURES) -> None:
        super().__init__(channels, classes, features)
        self.reduction, self.grid, self.halo = 1, GRID, HALO
        reach = DILATIONS[-1]
        self.pyramid.pool = nn.AvgPool2d(2 * reach + 1, stride=1, padding=reach, count_include_pad=False)


class Pyramid(nn.Module):
    """What lies at a pixel, around it at several distances, and in the whole image: [N,after,h,w] (ASPP)."""

    def __init__(
        self,
        before: int,
        after: int,
        dilations: Sequence[int],
        *,
        dropout: float = 0.0,
        pooling_convolution: bool = True,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_convolution(before, after), *(_convolution(before, after, 3, dilation) for dilation in dilations)]
        )
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.pooled = _convolution(before, after) if pooling_convolution else nn.Sequential()
        joined = after * (1 + len(dilations)) + (after if pooling_convolution else before)
        self.join = nn.Sequential(_convolution(joined, after), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        image = self.pooled(self.pool(x)).expand(-1, -1, *x.shape[2:])
        out: Tensor = self.join(torch.cat([*(branch(x) for branch in self.branches), image], dim=1))
        return out


def _convolution(before: int, after: int, size: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, size, padding=dilation * (size // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def _enlarged(x: Tensor, as_: Tensor) -> Tensor:
    return F.interpolate(x, size=as_.shape[2:], mode="bilinear", align_corners=False)
