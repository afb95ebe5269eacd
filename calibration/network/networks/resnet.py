"""ResNet-50 (He et al. 2016), as an encoder and as a classifier of whole images.

The stride of a level lies in its first 3x3 convolution, and parameters carry torchvision's names: its weight files fit.
"""

from torch import Tensor, nn

from calibration.network.networks.network import Network

FEATURES = 64
BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut; gives EXPANSION times `width` channels."""

    def __init__(self, before: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        after = EXPANSION * width
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential()
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return out


class ResNet50(nn.Module):
    """The levels of ResNet-50: [N,4,8,16,32 times features,...], each half as large as the one before.

    `output_stride` 8 or 16 keeps the later levels as large as that says and dilates their convolutions instead: the
    first block of a level as far as the level before, the others twice as far.
    """

    def __init__(self, channels: int, features: int = FEATURES, output_stride: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        before, reached, dilation = features, 4, 1
        for level, blocks in enumerate(BLOCKS):
            stride, first = (1 if level == 0 else 2), dilation
            if reached * stride > output_stride:
                stride, dilation = 1, 2 * dilation
            reached *= stride
            width = features << level
            layers = [Bottleneck(before, width, stride, first)]
            layers += [Bottleneck(EXPANSION * width, width, 1, dilation) for _ in range(blocks - 1)]
            self.add_module(f"layer{level + 1}", nn.Sequential(*layers))
            before = EXPANSION * width
        self.channels = before

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        levels = []
        for level in range(1, len(BLOCKS) + 1):
            x = self.get_submodule(f"layer{level}")(x)
            levels.append(x)
        return levels


class ResNetClassifier(Network):
    """Logits [N,classes] of whole images."""

    def __init__(self, channels: int, classes: int, features: int = FEATURES) -> None:
        super().__init__(channels, classes, features)
        self.encoder = ResNet50(channels, features)
        self.fc = nn.Linear(self.encoder.channels, classes)

    def forward(self, surface: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.encoder(self.normalised(surface))[-1].mean(dim=(2, 3)))
        return logits
