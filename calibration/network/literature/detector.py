"""A trained system of the literature: what it makes of an image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from calibration.network.checkpoint import load_network, save_checkpoint
from calibration.network.fitting import device
from calibration.network.networks.table import NETWORKS
from edge.core.errors import ConfigError, ModelError
from edge.core.types import F32, U8

NETWORK, CLASSIFIER = "network.pt", "classifier.pt"


@dataclass(frozen=True)
class Detector:
    """Networks with what must be known to ask them. `thresholds` of each class but background.

    With a `classifier` an image that it calls clean has no defect anywhere.
    """

    recipe: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    network: nn.Module
    classifier: nn.Module | None
    thresholds: tuple[float, ...]

    def ask(self, image: F32) -> tuple[bool, F32]:
        """Whether the classifier calls an image (C,H,W) clean, and the probability of each defect (classes - 1,H,W)
        f32, 0 where it does. Without a classifier no image is."""
        height, width = image.shape[1:]
        if self.classifier is not None:
            clean, defective = _ask(self.classifier, image)[0].tolist()
            if clean >= defective:
                return True, np.zeros((len(self.classes) - 1, height, width), np.float32)
        logits = _ask(self.network, image)[0, :, :height, :width]
        sigmoids = NETWORKS[self.network.architecture].sigmoids
        found: F32 = (logits.sigmoid() if sigmoids else logits.softmax(dim=0)[1:]).numpy()
        return False, found

    def classes_of(self, probabilities: F32) -> U8:
        """Classes (H,W): the most probable defect of those that reach their threshold, else background."""
        sure = np.where(probabilities >= np.array(self.thresholds, np.float32)[:, None, None], probabilities, 0)
        return np.where(sure.max(axis=0) > 0, sure.argmax(axis=0) + 1, 0).astype(np.uint8)

    def require(self, channels: Sequence[str], classes: Sequence[str] | None, where: str) -> None:
        """Raises ConfigError for data of other channels or classes than it was trained on."""
        if len(channels) != len(self.channels):
            raise ConfigError(f"{where}: {len(channels)} channels, trained on {len(self.channels)}")
        if classes is not None and tuple(classes) != self.classes:
            raise ConfigError(f"{where}: classes {'/'.join(classes)}, trained on {'/'.join(self.classes)}")

    def save(self, folder: Path) -> None:
        """Write the networks into a folder."""
        about = {
            "recipe": self.recipe,
            "classes": list(self.classes),
            "channels": list(self.channels),
            "thresholds": list(self.thresholds),
            "classifier": self.classifier is not None,
        }
        if self.classifier is not None:
            save_checkpoint(self.classifier, folder / CLASSIFIER)
        save_checkpoint(self.network, folder / NETWORK, about=about)


def load_detector(folder: Path) -> Detector:
    """Read what `Detector.save` wrote. Raises ModelError."""
    network, about = load_network(folder / NETWORK)
    try:
        classifier = load_network(folder / CLASSIFIER)[0] if about["classifier"] else None
        found = Detector(
            about["recipe"],
            tuple(about["classes"]),
            tuple(about["channels"]),
            network,
            classifier,
            tuple(about["thresholds"]),
        )
    except KeyError as error:
        raise ModelError(f"{folder / NETWORK}: says nothing of its {error}: not written by literature train") from error
    return on_device(found)


def on_device(detector: Detector) -> Detector:
    """The same with its networks in evaluation mode where there is a GPU."""
    classifier = None if detector.classifier is None else detector.classifier.to(device()).eval()
    return replace(detector, network=detector.network.to(device()).eval(), classifier=classifier)


def _ask(network: nn.Module, image: F32) -> torch.Tensor:
    """Logits of a whole image, on the CPU; edges are repeated up to the network's grid."""
    grid = NETWORKS[network.architecture].grid
    padded = np.pad(image, ((0, 0), (0, -image.shape[1] % grid), (0, -image.shape[2] % grid)), mode="edge")
    with torch.inference_mode():
        logits: torch.Tensor = network(torch.from_numpy(padded[None]).to(next(network.parameters()).device)).cpu()
    return logits
