"""The networks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from calibration.network import unet
from calibration.network.networks import deeplab, elu_unet, resnet
from calibration.network.networks.deeplab import FCN, DeepLabV3, DeepLabV3Plus, WindowedDeepLabV3Plus
from calibration.network.networks.elu_unet import EluUNet
from calibration.network.networks.resnet import ResNetClassifier
from edge.core.errors import ConfigError


@dataclass(frozen=True)
class Architecture:
    """How a network is built, of (channels, classes, features).

    `features`: the published channels of its first level; `grid`: patches and images must be multiples of it;
    `pools_globally`: what it says of a pixel depends on the whole image; `sigmoids`: its logits are one a defect, each
    for a sigmoid, instead of one a class for a softmax; `classifies`: its logits are of whole images.
    """

    build: Callable[[int, int, int], nn.Module]
    features: int
    grid: int
    pools_globally: bool = False
    sigmoids: bool = False
    classifies: bool = False


NETWORKS = {
    "unet": Architecture(unet.UNet, 32, unet.GRID),
    "unet_half": Architecture(partial(unet.UNet, reduction=2), 32, 2 * unet.GRID),
    "unet_contrast": Architecture(partial(unet.UNet, reduction=2, contrast=True), 32, 2 * unet.GRID),
    "unet_contrast_quarter": Architecture(partial(unet.UNet, reduction=4, contrast=True), 32, 4 * unet.GRID),
    "elu_unet": Architecture(EluUNet, elu_unet.FEATURES, elu_unet.GRID, sigmoids=True),
    "fcn": Architecture(FCN, resnet.FEATURES, 8),
    "deeplabv3": Architecture(DeepLabV3, resnet.FEATURES, 8, pools_globally=True),
    "deeplabv3plus": Architecture(DeepLabV3Plus, resnet.FEATURES, 16, pools_globally=True),
    "deeplabv3plus_plain": Architecture(
        partial(DeepLabV3Plus, pooling_convolution=False), resnet.FEATURES, 16, pools_globally=True
    ),
    "deeplabv3plus_windowed": Architecture(WindowedDeepLabV3Plus, resnet.FEATURES, deeplab.GRID),
    "resnet50": Architecture(ResNetClassifier, resnet.FEATURES, 32, pools_globally=True, classifies=True),
}
"""`unet_half` is the U-Net on the surface at half its resolution, `unet_contrast` on local contrast in photographs at
half theirs, `unet_contrast_quarter` at a quarter; `deeplabv3plus_plain` joins the pooled image to the pyramid without a
convolution of its own, `deeplabv3plus_windowed` pools around each pixel."""


def architecture(name: str) -> Architecture:
    """A network's row of the table. Raises ConfigError for a name that is not there."""
    if name not in NETWORKS:
        raise ConfigError(f"there is no network {name!r}: choose of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def build(name: str, channels: int, classes: int, features: int | None = None) -> nn.Module:
    """An untrained network, of the published width unless `features` says otherwise. Raises ConfigError."""
    row = architecture(name)
    network = row.build(channels, classes, row.features if features is None else features)
    network.architecture = name
    return network
